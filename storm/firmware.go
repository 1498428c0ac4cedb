package storm

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/storm/ipxe"
)

// Places of the phases in Phases.
const (
	atDHCP = iota
	atLoader
	atScript
	atKernel
	atStageOne
	atImage
	atOverlay
	atUp
)

// firmware gets an address, and the boot program.
func (m *machine) firmware(ctx context.Context) error {
	ack, err := m.dhcp(ctx, m.rom())
	if err != nil {
		return err
	}
	m.reach(atDHCP, 0)
	file, server := bootFile(ack)
	var n int64
	if m.storm.cfg.Firmware == boot.FirmwareHTTP64 {
		_, n, err = m.get(ctx, file, connectTime, false)
	} else if n, err = m.tftp(ctx, server, file); err == nil {
		m.count(server, n)
		m.storm.tally.bytes.Add(n)
	}
	if err != nil {
		return step(err, "fetching %s from %s", file, server)
	}
	if n == 0 {
		return fmt.Errorf("the boot program %s is empty", file)
	}
	m.reach(atLoader, n)
	return nil
}

// ipxe is the boot program: an address of its own, the script that DHCP names, and what the script says. It returns the
// kernel's command line, and where stage one came from.
func (m *machine) ipxe(ctx context.Context) (cmdline, stageOne string, err error) {
	ack, err := m.dhcp(ctx, m.loaded())
	if err != nil {
		return "", "", err
	}
	file, server := bootFile(ack)
	if !strings.HasPrefix(file, "http://") {
		return "", "", fmt.Errorf("iPXE is told to boot %q, which is no script of a relay", file)
	}
	text, _, err := m.get(ctx, file, connectTime, true)
	if err != nil {
		return "", "", step(err, "fetching the script")
	}
	m.reach(atScript, int64(len(text)))
	began, total := m.at, int64(0)
	s := &ipxe.Script{
		Settings: map[string]string{"mac": string(m.Hardware), "net0/mac": string(m.Hardware), "next-server": server, "ip": m.Address.String()},
		Screen: func(format string, args ...any) {
			if strings.HasPrefix(format, "shows") && strings.HasPrefix(fmt.Sprint(args...), "  why: ") {
				m.storm.tally.fail(m.Name, errors.New("a relay says: "+strings.TrimPrefix(fmt.Sprint(args...), "  why: ")), false)
			}
		},
		Fetch: func(ctx context.Context, url string, progress time.Duration) ([]byte, error) {
			script := strings.HasSuffix(url, "/script")
			b, n, err := m.get(ctx, url, progress, script)
			if err != nil && ctx.Err() == nil {
				m.storm.tally.retry("kernel")
				m.storm.tally.fail(m.Name, step(err, "iPXE fetching a file"), false)
			}
			total += n
			return b, err
		},
	}
	if err := s.Run(ctx, file, text); err != ipxe.ErrBoot {
		return "", "", step(err, "running the script")
	}
	for _, i := range s.Images {
		if i.Name == "stage-one" {
			stageOne = i.URL
		}
	}
	if stageOne == "" {
		return "", "", errors.New("the script fetches no stage one: storms boot by the method two-stage only")
	}
	m.at = began
	m.reach(atKernel, total)
	return s.Selected.Args, stageOne, nil
}
