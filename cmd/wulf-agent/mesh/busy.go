package mesh

import (
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
)

// A relay that is busy tells when to come back, and keeps the place in its line until then.
const (
	maxBusy  = time.Minute     // relays say no more than that
	nearTurn = 4 * time.Second // a turn so near is waited for: to ask other relays takes a place in their lines, too
	maxNear  = 5               // times in a row, after which others are asked all the same
)

// busy is an answer that asks to come back after a while.
type busy struct {
	after time.Duration
	text  string // what the relay says, for people
	line  bool   // there is a line, in which this machine has a place
}

func (b busy) Error() string {
	if b.text != "" {
		return b.text
	}
	return fmt.Sprintf("the relay is busy for %s", b.after)
}

func busyAnswer(a *http.Response) busy {
	seconds, _ := strconv.Atoi(a.Header.Get("Retry-After"))
	b := busy{after: min(max(time.Second, time.Duration(seconds)*time.Second), maxBusy)}
	text, _ := io.ReadAll(io.LimitReader(a.Body, 64<<10))
	if b.line = a.Header.Get(api.HeaderPlace) != ""; b.line {
		b.text = api.ReadError(a.StatusCode, a.Header.Get("Content-Type"), text).Error()
	}
	return b
}

// comeBack notes that a relay is busy. Where there is a line it is the machine that has a place in it, so that what one
// request was told holds for all: and one of them tells it.
func (m *Mesh) comeBack(relay string, b busy) {
	if !b.line {
		return
	}
	m.mu.Lock()
	told := time.Until(m.turn[relay]) > 0
	m.turn[relay] = time.Now().Add(b.after)
	m.mu.Unlock()
	if !told {
		m.log.Info(b.text, "relay", relay)
	}
	m.progress()
}

// free tells how long a relay is busy still, for who wants a chunk; 0: it is not.
func (m *Mesh) free(relay string) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return max(0, time.Until(m.turn[relay]))
}

// rest is how long to wait until the first of the relays is free, if all are busy: that long, and a little longer for one
// machine than for the other.
func rest(relays []string, busy func(relay string) time.Duration) (time.Duration, bool) {
	least := time.Duration(math.MaxInt64)
	for _, r := range relays {
		least = min(least, busy(r))
	}
	if least <= 0 {
		return 0, false
	}
	return least + rand.N(max(firstPause, least/4)), true
}
