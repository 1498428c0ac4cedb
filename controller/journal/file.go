package journal

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
)

// flush appends to the file what came since the last time, or makes it anew where it has grown large.
func (j *Journal) flush() error {
	j.mu.Lock()
	pending, lost := j.pending, j.lost
	j.pending, j.lost = nil, 0
	j.mu.Unlock()
	if lost > 0 {
		j.cfg.Log.Warn("journal's file misses events that came faster than they could be written", "events", lost)
	}
	if len(pending) == 0 {
		return nil
	}
	if i, err := os.Stat(j.file()); err == nil && i.Size() > max(maxFile, 2*j.written) {
		return j.anew()
	}
	f, err := os.OpenFile(j.file(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(encode(pending))
	return errors.Join(err, f.Close())
}

// anew is rewrite, the more seldom the more often it failed: where the disk is full it is so for longer than until the next
// flush. Until it succeeds what comes is only in memory, from which it will be written.
func (j *Journal) anew() error {
	if time.Now().Before(j.retry) {
		return nil
	}
	err := j.rewrite()
	if err == nil {
		j.pause = 0
		return nil
	}
	j.pause = min(max(flushEvery, 2*j.pause), lastRetry)
	j.retry = time.Now().Add(j.pause)
	return err
}

// inStep is how many boots or results are copied while events wait.
const inStep = 256

// newest is a machine and the boot that was its newest when the file was begun.
type newest struct {
	machine *machine
	boot    *api.Boot
}

// rewrite makes the file anew from what memory holds: the newest boot of each machine, and of the others in sessions what
// came of them. Which these are is settled first; what comes meanwhile is appended to it next, and may then be in it twice.
func (j *Journal) rewrite() error {
	f, err := j.cfg.Disk.Create(j.file(), 0o600)
	if err != nil {
		return err
	}
	defer f.Abort()
	w := bufio.NewWriterSize(f, 1<<20)
	machines, results := j.kept()
	var events []boot.Event
	for some := range slices.Chunk(machines, inStep) {
		events = events[:0]
		j.mu.Lock()
		for _, n := range some {
			events = append(events, n.boot.Events...)
			if b := n.machine.boots[0]; b != n.boot { // it may have taken some of them over
				events = append(events, b.Events...)
			}
		}
		j.mu.Unlock()
		if _, err := w.Write(encode(events)); err != nil {
			return err
		}
	}
	var kept []*keptResult
	for some := range slices.Chunk(results, inStep) {
		kept = kept[:0]
		j.mu.Lock()
		for _, r := range some {
			kept = append(kept, r.kept())
		}
		j.mu.Unlock()
		if _, err := w.Write(encodeResults(kept)); err != nil {
			return err
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if err := f.Commit(); err != nil {
		return err
	}
	if i, err := os.Stat(j.file()); err == nil {
		j.written = i.Size()
	}
	return nil
}

// kept is what belongs into the file: machines, for the events of their newest boots, and the results of other boots. What
// waits to be appended is among it.
func (j *Journal) kept() ([]newest, []*result) {
	j.mu.Lock()
	defer j.mu.Unlock()
	machines, whole := make([]newest, 0, len(j.machines)), make(map[*result]bool, len(j.machines))
	for _, m := range j.machines {
		machines = append(machines, newest{m, m.boots[0]})
		if r := j.sessions.of[m.boots[0]]; r != nil {
			whole[r] = true
		}
	}
	j.pending = nil
	return machines, j.sessions.but(whole)
}

func encode(events []boot.Event) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	for _, e := range events {
		enc.Encode(e) // an Event always encodes, and a bytes.Buffer takes it
	}
	return b.Bytes()
}
