package journal

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// How long a boot may stay at a stage, and a node or a relay be silent, before something must be wrong. The longest
// stage is the image, which a node may have to wait for.
const (
	patience      = 3 * time.Minute
	imagePatience = 20 * time.Minute
	silence       = 3 * time.Minute
)

// Why explains a node's state: what is declared about it, how its last boot went, the stage that did not come about and
// the cause as far as it is known, and what would mend it. relays are what this controller has heard of them. It fails
// with fault.NotFound for a node that does not exist.
func (j *Journal) Why(c *catalog.Catalog, name catalog.NodeName, relays map[catalog.RelayName]api.RelayView, now time.Time) (api.Why, error) {
	all, err := j.Whys(c, []catalog.NodeName{name}, relays, now)
	if err != nil {
		return api.Why{}, err
	}
	return all[0], nil
}

// Whys explains many nodes, for less than as many times what one costs.
func (j *Journal) Whys(c *catalog.Catalog, names []catalog.NodeName, relays map[catalog.RelayName]api.RelayView, now time.Time) ([]api.Why, error) {
	o := newOthers(j, c, now)
	all := make([]api.Why, 0, len(names))
	for _, name := range names {
		r, err := c.Resolve(name)
		if err != nil {
			return nil, err
		}
		f := &facts{catalog: c, node: r, relays: relays, now: now, boots: j.bootsOf(r)}
		f.judge()
		o.compare(f)
		all = append(all, explain(f))
	}
	return all, nil
}

// bootsOf are the boots of a node, newest first. Firmware bears no name: what its own hardware addresses did before the
// catalog knew them, or under another node's name, counts too.
func (j *Journal) bootsOf(r *catalog.Resolved) []api.Boot {
	all := j.Boot(string(r.Node.Name))
	for _, n := range r.Nets {
		if n.Hardware == "" {
			continue
		}
		for _, b := range j.Boot(string(n.Hardware)) {
			if !slices.ContainsFunc(all, func(o api.Boot) bool { return o.Hardware == b.Hardware && o.Started.Equal(b.Started) }) {
				all = append(all, b)
			}
		}
	}
	declared := func(b api.Boot) bool {
		return b.Hardware == "" || slices.ContainsFunc(r.Nets, func(n catalog.ResolvedNet) bool { return n.Hardware == b.Hardware })
	}
	// A machine that was this node's until somebody declared another is no longer its machine.
	all = slices.DeleteFunc(all, func(b api.Boot) bool { return !declared(b) && b.Stage != boot.StageUp })
	slices.SortStableFunc(all, func(a, b api.Boot) int { return b.Started.Compare(a.Started) })
	return all
}

// explain says in words what the facts mean. It is a function of them and of nothing else.
func explain(f *facts) api.Why {
	w := api.Why{Node: f.node.Node.Name, State: state(f.last(), f.now), Tries: f.tries, Typical: f.typical}
	if b := f.last(); b != nil {
		w.Boot, w.Hardware = b, b.Hardware
	}
	v := f.verdict()
	w.Stage, w.Verdict, w.Fix = v.stage, v.text, v.fix
	if v.wrong() {
		w.Notes = f.notes(v)
	}
	return w
}

func state(b *api.Boot, now time.Time) string {
	switch {
	case b == nil:
		return "never seen"
	case b.Stage == boot.StageFailed:
		return fmt.Sprintf("failed after %s, %s ago", b.FailedAt, age(now, b.Last))
	case b.Stage == boot.StageUp && now.Sub(b.Seen) > silence:
		return fmt.Sprintf("was up, silent for %s", age(now, b.Seen))
	case b.Stage == boot.StageUp:
		return fmt.Sprintf("up since %s, from relay %s, revision %d", b.Last.UTC().Format(time.RFC3339), b.Relay, b.Revision)
	}
	return fmt.Sprintf("at %s (step %d of %d) since %s", b.Stage, b.Stage.Index()+1, len(boot.Stages()), age(now, b.Last))
}

func age(now, then time.Time) time.Duration { return max(0, now.Sub(then)).Round(time.Second) }

// Script is what a node's boot loader would be given now by the relay that should answer it, without a ticket. It fails
// with fault.NotFound for a node that does not exist, or whose network no relay serves.
func Script(c *catalog.Catalog, name catalog.NodeName) (string, error) {
	r, err := c.Resolve(name)
	if err != nil {
		return "", err
	}
	f := facts{catalog: c, node: r}
	relays := f.serving()
	if len(relays) == 0 || r.Primary.Hardware == "" {
		return "", fault.New(fault.NotFound, "no relay would answer node %s", name).WithFix("wulf node why %s says why", name)
	}
	p, err := boot.Resolve(c, boot.Request{Hardware: r.Primary.Hardware, Network: r.Primary.Network.Name, Relay: relays[0]})
	if err != nil {
		return "", err
	}
	var b strings.Builder
	err = p.WriteScript(&b, boot.Session{Boot: "BOOT", Ticket: "TICKET"})
	return b.String(), err
}
