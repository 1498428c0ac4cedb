package rig

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

// linkBurst is what a limited link lets through at once.
const linkBurst = 32 << 10

// Limit lets an interface of the host, which is on the segment, carry so many bits a second and no more, each way.
func (h *Host) Limit(s *Segment, dev string, bits int64) error {
	for _, end := range []struct{ space, dev string }{{h.space, dev}, {s.space, "p-" + h.name}} {
		cmd := exec.CommandContext(context.Background(), "tc", "-n", end.space, "qdisc", "replace", "dev", end.dev, "root", "tbf",
			"rate", strconv.FormatInt(bits, 10)+"bit", "burst", strconv.Itoa(linkBurst), "latency", "100ms")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("limiting %s of %s: %w: %s", dev, h.name, err, strings.TrimSpace(string(out)))
		}
	}
	return nil
}

// Counters are the bytes that an interface of the host has received and sent.
func (h *Host) Counters(dev string) (in, out int64, err error) {
	b, err := h.Command(context.Background(), "cat", "/sys/class/net/"+dev+"/statistics/rx_bytes", "/sys/class/net/"+dev+"/statistics/tx_bytes").Output()
	if err != nil {
		return 0, 0, fmt.Errorf("counting %s of %s: %w", dev, h.name, err)
	}
	_, err = fmt.Sscan(string(b), &in, &out)
	return in, out, err
}
