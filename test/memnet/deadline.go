package memnet

import (
	"sync"
	"time"
)

// deadline is a moment after which waiting on a condition variable ends. The condition's lock guards it.
type deadline struct {
	expired bool
	timer   *time.Timer
	set     int // counts the settings, so that the timer of an old one does nothing
}

// reset moves the deadline to t; the zero time removes it. The lock of c is held.
func (d *deadline) reset(t time.Time, c *sync.Cond) {
	d.stop()
	d.expired = false
	if t.IsZero() {
		return
	}
	wait := time.Until(t)
	if wait <= 0 {
		d.expired = true
		c.Broadcast()
		return
	}
	this := d.set
	d.timer = time.AfterFunc(wait, func() {
		c.L.Lock()
		defer c.L.Unlock()
		if d.set == this {
			d.expired = true
			c.Broadcast()
		}
	})
}

// stop forgets the timer. The lock is held.
func (d *deadline) stop() {
	d.set++
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}

// alarm wakes the waiters of a condition variable at the earliest time asked for. The condition's lock guards it.
type alarm struct {
	at    time.Time // zero: not set
	timer *time.Timer
}

// wake asks for a broadcast at t. The lock of c is held.
func (a *alarm) wake(t time.Time, c *sync.Cond) {
	if !a.at.IsZero() && !t.Before(a.at) {
		return
	}
	a.stop()
	a.at = t
	a.timer = time.AfterFunc(time.Until(t), func() {
		c.L.Lock()
		defer c.L.Unlock()
		if a.at.Equal(t) {
			a.at = time.Time{}
		}
		c.Broadcast()
	})
}

// stop forgets the timer. The lock is held.
func (a *alarm) stop() {
	a.at = time.Time{}
	if a.timer != nil {
		a.timer.Stop()
		a.timer = nil
	}
}
