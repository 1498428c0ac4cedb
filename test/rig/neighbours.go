package rig

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// The system keeps the hardware addresses of neighbours of all namespaces in one table, and refuses new ones beyond this many,
// 1024 by default: then hosts that are well do not answer.
const neighbourLimit = "/proc/sys/net/ipv4/neigh/default/gc_thresh3"

// ManyNeighbours has this computer remember that many neighbours, of all hosts together, until the rig is closed.
func (r *Rig) ManyNeighbours(n int) error {
	before, err := os.ReadFile(neighbourLimit)
	if err != nil {
		return fmt.Errorf("how many neighbours a host may have: %w", err)
	}
	if now, err := strconv.Atoi(strings.TrimSpace(string(before))); err != nil || now >= n {
		return err
	}
	if err := os.WriteFile(neighbourLimit, []byte(strconv.Itoa(n)), 0o644); err != nil {
		return fmt.Errorf("more neighbours: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.undo = append(r.undo, func() error { return os.WriteFile(neighbourLimit, before, 0o644) })
	return nil
}
