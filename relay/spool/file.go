package spool

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// kept is the file: what some controller has not taken yet, and how far each is.
//
// History: 1 (2026-11) first.
type kept struct {
	Format int               `json:"wulfmesh_spool"`
	First  uint64            `json:"first"` // number of the first event; the others follow
	Places map[string]uint64 `json:"places"`
	Events []boot.Event      `json:"events"`
}

const maxFile = 4 * maxBytes

// load reads what the last run left.
func (s *Spool) load() error {
	info, err := os.Stat(s.cfg.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var k kept
	if info.Size() > maxFile {
		err = fault.New(fault.Corrupt, "%s has %d bytes", s.cfg.Path, info.Size())
	} else if b, rerr := os.ReadFile(s.cfg.Path); rerr != nil {
		return rerr
	} else if err = json.Unmarshal(b, &k); err == nil && k.Format != 1 {
		err = fault.New(fault.Corrupt, "%s has format %d", s.cfg.Path, k.Format)
	}
	if err != nil {
		return errors.Join(err, os.Rename(s.cfg.Path, s.cfg.Path+".damaged"))
	}
	s.next = max(k.First, 1)
	for _, e := range k.Events {
		s.add(item{number: s.next, event: e})
		if e.Stage == boot.StageAlive {
			s.beats[heartOf(&e)] = s.next
		}
		s.next++
	}
	for name, at := range k.Places {
		s.places[name] = min(at, s.next)
	}
	return nil
}

// save writes what some controller has not taken yet. When all have everything there is no file.
func (s *Spool) save() {
	if s.cfg.Path == "" {
		return
	}
	s.mu.Lock()
	k := kept{Format: 1, First: s.next, Places: map[string]uint64{}}
	renumbered := map[uint64]uint64{}
	for _, i := range s.events { // the numbers that the dead leave free are not kept
		if !i.dead {
			renumbered[i.number] = k.First + uint64(len(k.Events))
			k.Events = append(k.Events, i.event)
		}
	}
	for name, at := range s.places {
		k.Places[name] = k.First + uint64(len(k.Events)) // everything is taken
		for _, i := range s.events {
			if n, ok := renumbered[i.number]; ok && i.number >= at {
				k.Places[name] = n
				break
			}
		}
	}
	s.mu.Unlock()

	var err error
	if len(k.Events) == 0 {
		if err = os.Remove(s.cfg.Path); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	} else {
		var b []byte
		if b, err = json.Marshal(k); err == nil {
			err = s.cfg.Disk.WriteFile(s.cfg.Path, b, 0o600)
		}
	}
	s.mu.Lock()
	s.unkept = err
	s.mu.Unlock()
}
