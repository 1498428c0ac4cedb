package cli

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func (p *program) relayShow(c *cli.Context) error {
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	v, err := findRelay(cl, c.Args().First())
	if err != nil {
		return err
	}
	return p.show(c, v, func(r *report) {
		state := "never"
		if v.Status != nil {
			state = aliveText(v.Alive)
		}
		r.line("relay %s, %s, seen %s", v.Name, state, ago(v.Seen))
		r.rows([][]string{
			{"rack", or(v.Rack)}, {"zone", or(v.Zone)}, {"networks", or(words(v.Networks))}, {"addresses", or(ipTexts(v.Addresses))},
			{"slots", slotsText(v.Slots)}, {"reserve", strconv.Itoa(v.Reserved())},
		})
		if v.Status == nil {
			return
		}
		s := v.Status
		r.line("")
		r.rows([][]string{
			{"version", or(s.Version)}, {"revision", or(revision(s.Revision))},
			{"sends to", sendsTo(s.Load)}, {"waiting", waitingText(s.Load)}, {"sent", rateText(s.Load.Rate)},
			{"told to come back", strconv.FormatInt(s.Load.Refused, 10)},
			{"chunks", fmt.Sprintf("%d (%s), %d missing, %d found damaged", s.Cache.Chunks, size(s.Cache.Bytes), s.Cache.Missing, s.Cache.Corrupt)},
			{"other relays", or(strings.Join(s.Members, " "))},
		})
		for _, problem := range s.Problems {
			r.line("problem: %s", problem)
		}
	})
}

// slotsText is a declared number of slots.
func slotsText(n uint16) string {
	if n == 0 {
		return "auto"
	}
	return strconv.Itoa(int(n))
}

// sendsTo is how many machines a relay sends to, and could.
func sendsTo(l api.RelayLoad) string {
	if l.Slots == 0 { // it is of a version that does not say
		return "-"
	}
	text := fmt.Sprintf("%d of %d", l.Busy, l.Slots)
	if l.Reserve > 0 {
		text += fmt.Sprintf("+%d", l.Reserve)
	}
	if l.Slow > 0 {
		text += fmt.Sprintf(", %d slow", l.Slow)
	}
	return text
}

func waitingText(l api.RelayLoad) string {
	if l.Queued == 0 {
		return "-"
	}
	return fmt.Sprintf("%d, the first for %s", l.Queued, brief(l.Longest))
}

func rateText(n int64) string {
	if n == 0 {
		return "-"
	}
	return size(n) + "/s"
}

// slotsFlags are how many machines a relay may send large things to at once.
func slotsFlags() []cli.Flag {
	return []cli.Flag{
		text("slots", "send kernels and images to `N` machines at once; auto: as many as its throughput says"),
		text("reserve", "keep `N` slots besides these for machines with the tag boot-priority=urgent"),
	}
}

// slotsOf reads a flag that is a number of slots.
func slotsOf(c *cli.Context, flag string) (*uint16, error) {
	if !c.IsSet(flag) {
		return nil, nil
	}
	text := c.String(flag)
	if flag == "slots" && text == "auto" {
		return new(uint16), nil
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n > catalog.MaxSlots || flag == "slots" && n == 0 {
		return nil, fault.New(fault.Invalid, "--%s %s is no number of slots", flag, text).WithFix("give a number up to %d%s", catalog.MaxSlots, map[bool]string{true: ", or auto"}[flag == "slots"])
	}
	return new(uint16(n)), nil
}
