package journal

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// How long a boot may stay at a stage, and a node be silent, before something must be wrong. The longest stage is
// the image, which a node may have to wait for.
const (
	patience      = 3 * time.Minute
	imagePatience = 20 * time.Minute
	silence       = 3 * time.Minute
)

// Why explains a node's state: what is declared about it, how its last boot went, the cause as far as it is
// known, and what would mend it. It fails with fault.NotFound for a node that does not exist.
func (j *Journal) Why(c *catalog.Catalog, name catalog.NodeName, now time.Time) (api.Why, error) {
	r, err := c.Resolve(name)
	if err != nil {
		return api.Why{}, err
	}
	w := api.Why{Node: name}
	if boots := j.Boot(string(name)); len(boots) > 0 {
		w.Boot = &boots[0]
		w.Hardware = w.Boot.Hardware
	}
	w.State = state(w.Boot, now)
	if p := declared(c, r); p != nil && (w.Boot == nil || w.Boot.Stage != boot.StageUp) {
		w.Verdict, w.Fix = p.Error(), fault.Fix(p)
		return w, nil
	}
	w.Verdict, w.Fix = verdict(j, c, r, w.Boot, now)
	return w, nil
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

// declared is what in the declared state keeps the node from booting, whatever it does.
func declared(c *catalog.Catalog, r *catalog.Resolved) error {
	name := r.Node.Name
	if !slices.ContainsFunc(r.Nets, func(n catalog.ResolvedNet) bool { return n.Hardware != "" }) {
		return fault.New(fault.Invalid, "no network device of node %s has a hardware address, so no request can be told to be its own", name).
			WithFix("wulf node set %s --hwaddr ADDRESS", name)
	}
	if r.Settings.Image == nil {
		return fault.New(fault.NotFound, "node %s has no image", name).WithFix("wulf node set %s --image NAME", name)
	}
	if r.Version.Manifest.ID.IsZero() {
		return fault.New(fault.NotFound, "image %s does not exist", *r.Settings.Image).WithFix("wulf image list")
	}
	if _, _, err := r.Kernel(); err != nil {
		return err
	}
	if r.Primary == nil || r.Primary.Network == nil {
		return fault.New(fault.Invalid, "node %s is in no network", name).WithFix("wulf node set %s --ipaddr ADDRESS", name)
	}
	if err := r.Allowed(r.Primary.Network); err != nil {
		return err
	}
	network := r.Primary.Network.Name
	for relay := range c.Relays() {
		if slices.Contains(relay.Networks, network) {
			return nil
		}
	}
	return fault.New(fault.NotFound, "no relay serves network %s", network).WithFix("wulf relay token --network %s, and let a relay join", network)
}

// next says what must have kept a boot from the stage after the one it reached.
var next = map[boot.Stage]struct{ verdict, fix string }{
	boot.StageDHCP:     {"it got an address but did not fetch its boot program: TFTP (UDP 69) does not get through, or the firmware's program is missing on the relay", "look at the relay's log for the loader; check the firewall between rack and relay"},
	boot.StageLoader:   {"its boot program was sent but did not ask for the script: the program does not run there, or its own DHCP or HTTP does not get through", "check that the firmware's architecture is right and that port 4480 of the relay is open"},
	boot.StageScript:   {"it has its script but did not fetch kernel and stage one", "watch its console; check that port 4480 of the relays in its script is open"},
	boot.StageKernel:   {"kernel and stage one were sent but the agent did not report: the kernel did not start, panicked, or has no driver for the network card", "watch its console (add console=ttyS0 to its kernel arguments); too little memory is the usual cause of a panic here"},
	boot.StageStageOne: {"the agent runs but the image is not unpacked", "watch its console; check that port 4481 of the relays is open"},
	boot.StageImage:    {"the image is unpacked but the overlays are not in place", "wulf overlay list; watch its console"},
	boot.StageOverlay:  {"the root is complete but its init did not start the agent's service", "check that the image has an init, and that the overlay wulf-agent is among its system overlays"},
	boot.StageInit:     {"its init runs but has not reached its target", "log in and look: systemctl list-jobs"},
}

func verdict(j *Journal, c *catalog.Catalog, r *catalog.Resolved, b *api.Boot, now time.Time) (verdict, fix string) {
	if b == nil {
		fix = fmt.Sprintf("power it on and let it boot from the network; check cable, VLAN and that %s is its address", hardware(r))
		if strangers := j.strangers(c); strangers != "" {
			fix += "; machines that no node claims have asked: " + strangers
		}
		return fmt.Sprintf("no relay has had a request from %s", hardware(r)), fix
	}
	if b.Stage == boot.StageFailed {
		return b.Error, cmp.Or(b.Fix, "mend the cause and restart the node; its console has more")
	}
	if b.Stage == boot.StageUp {
		return upVerdict(r, b, c.Settled(now.Add(-api.Settling)), now)
	}
	limit := patience
	if b.Stage == boot.StageStageOne {
		limit = imagePatience
	}
	if now.Sub(b.Last) < limit && b.Error == "" {
		return fmt.Sprintf("it is booting: %s reached %s ago", b.Stage, age(now, b.Last)), ""
	}
	n := next[b.Stage]
	if *r.Settings.Method == catalog.MethodWarewulf && (b.Stage == boot.StageKernel || b.Stage == boot.StageOverlay) {
		n.verdict, n.fix = "it was sent its image and has not been heard of since", "watch its console; check that the overlays wwinit and wwclient are among its system overlays"
	}
	if b.Error != "" {
		return b.Error, cmp.Or(b.Fix, n.fix)
	}
	return n.verdict, n.fix
}

func upVerdict(r *catalog.Resolved, b *api.Boot, settled catalog.Revision, now time.Time) (verdict, fix string) {
	if now.Sub(b.Seen) > silence {
		if *r.Settings.Method == catalog.MethodWarewulf {
			return fmt.Sprintf("its wwclient has not asked for its overlays for %s: the node is off, hangs, or its relay is gone", age(now, b.Seen)), "look at its console or restart it"
		}
		return fmt.Sprintf("its agent has not been heard for %s: the node is off, hangs, or has lost its network", age(now, b.Seen)), "look at its console or restart it"
	}
	if want := r.Version.Manifest.ID; !want.IsZero() && b.Manifest != want {
		return fmt.Sprintf("it runs version %s of its image; %s is declared now", b.Manifest.Short(), want.Short()), "restart it when it is free"
	}
	if b.Without != "" {
		return "it runs without what is declared: " + b.Without, cmp.Or(b.Fix, "mend the cause and restart it when it is free")
	}
	sync := fmt.Sprintf("wulf node sync %s --wait", r.Node.Name)
	switch how := api.RuntimeOf(b, settled, now); {
	case how == api.RuntimeBehind:
		return fmt.Sprintf("its runtime overlays follow revision %d; what was declared since has not reached it", b.Runtime.Revision), "see whether its relays are alive: wulf relay list; then: " + sync
	case how != "" && how != api.RuntimeInStep:
		return "its runtime overlays are not as declared: " + b.Runtime.Error, "mend that, and then: " + sync
	}
	return "nothing is wrong: it runs what is declared", ""
}

func hardware(r *catalog.Resolved) string {
	var all []string
	for _, n := range r.Nets {
		if n.Hardware != "" {
			all = append(all, string(n.Hardware))
		}
	}
	return strings.Join(all, ", ")
}

// strangers lists a few machines that asked and that no node claims.
func (j *Journal) strangers(c *catalog.Catalog) string {
	var all []string
	for _, b := range j.Boots() {
		if _, ok := c.NodeByHardware(b.Hardware); !ok && b.Hardware != "" && len(all) < 5 {
			all = append(all, string(b.Hardware))
		}
	}
	return strings.Join(all, ", ")
}

func age(now, then time.Time) time.Duration { return max(0, now.Sub(then)).Round(time.Second) }
