package journal

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// verdict is the cause of a node's state. One with a stage and no need of patience is something wrong.
type verdict struct {
	stage boot.Stage // that did not come about; "" if nothing is wrong with the boot
	text  string
	fix   string
	wait  bool // it is too early to call it wrong
}

func (v verdict) wrong() bool { return v.stage != "" && !v.wait }

// verdict asks what is certain first: what is declared, then what somebody has told, then what the silence must mean.
func (f *facts) verdict() verdict {
	if b := f.last(); b != nil && b.Stage == boot.StageUp {
		return f.up(b)
	}
	if v, ok := f.declared(); ok {
		return v
	}
	if f.about == nil {
		return f.never()
	}
	if v, ok := f.twins(); ok {
		return v
	}
	if v, ok := f.told(); ok {
		return v
	}
	limit := patience
	if reached(f.about) == boot.StageStageOne {
		limit = imagePatience
	}
	if f.tries < again && (f.now.Sub(f.since) < limit || f.now.Sub(f.about.Last) < limit && f.moved()) {
		return verdict{stage: f.missing(), text: fmt.Sprintf("it is booting: %s reached %s ago", f.last().Stage, age(f.now, f.last().Last)), wait: true}
	}
	return f.silent()
}

// moved tells whether the boot reached its stage lately, and not only repeats itself there.
func (f *facts) moved() bool {
	at := slices.IndexFunc(f.about.Events, func(e boot.Event) bool { return e.Stage == f.about.Stage })
	return at < 0 || f.now.Sub(f.about.Events[at].Time) < patience || reached(f.about) == boot.StageStageOne
}

// missing is the stage that did not come about: the one after the furthest, or the first, where no address was given.
func (f *facts) missing() boot.Stage {
	at := reached(f.about)
	if at.Index() < 0 || at == boot.StageDHCP && f.about.Address == "" {
		return boot.StageDHCP
	}
	all := boot.Stages()
	return all[min(at.Index()+1, len(all)-1)]
}

// declared is what in the declared state keeps the node from booting, whatever it does.
func (f *facts) declared() (verdict, bool) {
	r, name := f.node, f.node.Node.Name
	is := func(stage boot.Stage, err error) (verdict, bool) {
		return verdict{stage: stage, text: err.Error(), fix: fault.Fix(err)}, true
	}
	if !slices.ContainsFunc(r.Nets, func(n catalog.ResolvedNet) bool { return n.Hardware != "" }) {
		return is(boot.StageDHCP, fault.New(fault.Invalid, "no network device of node %s has a hardware address, so no request can be told to be its own", name).
			WithFix("wulf node set %s --hwaddr ADDRESS", name))
	}
	if r.Settings.Image == nil {
		return is(boot.StageScript, fault.New(fault.NotFound, "node %s has no image", name).WithFix("wulf node set %s --image NAME", name))
	}
	if r.Version.Manifest.ID.IsZero() {
		return is(boot.StageScript, fault.New(fault.NotFound, "image %s does not exist", *r.Settings.Image).
			WithFix("wulf node set %s --image NAME, with one of wulf image list", name))
	}
	if _, _, err := r.Kernel(); err != nil {
		return is(boot.StageScript, err)
	}
	if r.Primary == nil || r.Primary.Network == nil {
		return is(boot.StageDHCP, fault.New(fault.Invalid, "node %s is in no network", name).WithFix("wulf node set %s --ipaddr ADDRESS", name))
	}
	if err := r.Allowed(r.Primary.Network); err != nil {
		return is(boot.StageScript, err)
	}
	network := r.Primary.Network
	relays := f.serving()
	if len(relays) == 0 {
		return is(boot.StageDHCP, fault.New(fault.NotFound, "no relay serves network %s", network.Name).
			WithFix("wulf relay token --network %s, and let a relay join", network.Name))
	}
	p, err := boot.Resolve(f.catalog, boot.Request{Hardware: r.Primary.Hardware, Network: network.Name, Relay: relays[0]})
	if err == nil && p.Problem != nil {
		return is(boot.StageScript, p.Problem)
	}
	if network.DHCP == catalog.DHCPOff && (f.about == nil || f.about.Address == "") {
		return is(boot.StageDHCP, fault.New(fault.Invalid, "DHCP is off in network %s, so no relay answers node %s", network.Name, name).
			WithFix("wulf network set %s --dhcp authoritative", network.Name))
	}
	return verdict{}, false
}

// told is what somebody has seen go wrong: the relay, or the node itself.
func (f *facts) told() (verdict, bool) {
	b := f.about
	v := verdict{stage: f.missing()}
	if arch := archOf(b.Firmware); arch != "" && f.node.Version.Arch != "" && arch != f.node.Version.Arch && (reached(b) == boot.StageScript || reached(b) == boot.StageKernel) {
		return verdict{
			stage: boot.StageKernel,
			text:  fmt.Sprintf("the kernel of image %s is for %s, and the machine's firmware is of %s", *f.node.Settings.Image, f.node.Version.Arch, arch),
			fix:   fmt.Sprintf("wulf node set %s --image NAME, with an image for %s", f.node.Node.Name, arch),
		}, true
	}
	switch {
	case f.mirror != "":
		v.stage = boot.StageScript
		v.text = fmt.Sprintf("%s; node %s asks where this one should: the machines of both, or their hardware addresses, are exchanged", b.Error, f.mirror)
		v.fix = fmt.Sprintf("exchange the cables or the hardware addresses of %s and %s (wulf node edit %s,%s)", f.node.Node.Name, f.mirror, f.node.Node.Name, f.mirror)
	case b.Error != "" && !f.over(b):
		v.text, v.fix = b.Error, cmp.Or(b.Fix, f.remedy(b.Error), f.silent().fix, "mend the cause and restart the node; its console has more")
		if f.early(b) {
			v.stage = reached(b)
		}
		switch {
		case f.tries >= again:
			v.text = f.often() + v.text
		case b != f.last():
			v.text = "it starts again; last time: " + v.text
		}
	case b.Stage == boot.StageFailed:
		v.text, v.fix = "its agent gave up and did not say why", "watch its console: it has the reason"
	default:
		return f.relaysSay()
	}
	return v, true
}

// over tells whether an error of DHCP is of the past: the machine was given an address after it.
func (f *facts) over(b *api.Boot) bool {
	if b.Stage != boot.StageDHCP {
		return false
	}
	var wrong, right time.Time
	for _, e := range b.Events {
		switch {
		case e.Error != "":
			wrong = e.Time
		case e.Address != "" && e.Firmware != boot.FirmwareIPXE:
			right = e.Time
		}
	}
	return right.Sub(wrong) > apart
}

// often says how often a node has started in vain.
func (f *facts) often() string {
	return fmt.Sprintf("it has started %d times in %s and never came further than %s: ", f.tries, atLeast(f.now.Sub(f.since)), reached(f.about))
}

// early tells whether an error is of the very stage that the boot seems to have reached: DHCP that gave no address, and a
// script that only says why there is none.
func (f *facts) early(b *api.Boot) bool {
	at := slices.IndexFunc(b.Events, func(e boot.Event) bool { return e.Error == b.Error })
	if at < 0 {
		return false
	}
	switch reached(b) {
	case boot.StageDHCP:
		return b.Events[at].Address == ""
	case boot.StageScript:
		return b.Boot == ""
	}
	return false
}

// twins is the verdict on a node that runs while a machine with its hardware address begins to boot. What two relays tell of
// it may seem to overlap by as much as their clocks may be apart.
func (f *facts) twins() (verdict, bool) {
	b := f.last()
	for i := range f.boots[1:] {
		o, since := &f.boots[1+i], silence/2
		if len(o.Relays) != 1 || !slices.Equal(o.Relays, b.Relays) {
			since += catalog.ClockSkew
		}
		if o.Stage == boot.StageUp && o.Hardware == b.Hardware && o.Seen.Sub(b.Started) > since {
			return verdict{
				stage: boot.StageDHCP,
				text:  fmt.Sprintf("it runs since %s, and another machine with its hardware address %s has asked for an address since", o.Started.UTC().Format(time.RFC3339), b.Hardware),
				fix:   fmt.Sprintf("find the second machine: the switches' tables of addresses show %s at two ports", b.Hardware),
			}, true
		}
	}
	return verdict{}, false
}

// relaysSay is what the relays of the node say of themselves that keeps it where it is.
func (f *facts) relaysSay() (verdict, bool) {
	if f.now.Sub(f.since) < patience {
		return verdict{}, false
	}
	stage, serving := f.missing(), f.serving()
	silent := 0
	for _, name := range serving {
		if f.silentFor(name) > 0 {
			silent++
		}
	}
	if silent > 0 && silent == len(serving) {
		return f.abandoned(serving), true
	}
	words := map[boot.Stage][]string{
		boot.StageDHCP:   {"DHCP server ", "pool"},
		boot.StageLoader: {"boot programs are missing"},
		boot.StageKernel: {"chunks that nodes may need are not here"},
		boot.StageImage:  {"chunks that nodes may need are not here"},
	}[stage]
	for _, name := range serving {
		for _, p := range f.problems(name, words...) {
			return verdict{stage: stage, text: fmt.Sprintf("relay %s says: %s", name, p), fix: f.remedy(p)}, true
		}
	}
	return verdict{}, false
}

// abandoned is the verdict where no relay of the node's network is heard any more.
func (f *facts) abandoned(relays []catalog.RelayName) verdict {
	var each []string
	for _, name := range relays {
		each = append(each, fmt.Sprintf("%s for %s", name, f.silentFor(name)))
	}
	stage := boot.StageDHCP
	if f.about != nil {
		stage = f.missing()
	}
	return verdict{
		stage: stage,
		text:  fmt.Sprintf("no relay of network %s is heard any more (%s)", f.node.Primary.Network.Name, strings.Join(each, ", ")),
		fix:   fmt.Sprintf("start it again: systemctl restart wulf-relay on %s", relays[0]),
	}
}

// never is the verdict on a node of which no request was seen.
func (f *facts) never() verdict {
	v := verdict{stage: boot.StageDHCP, text: "no relay has had a request from " + hardware(f.node)}
	serving := f.serving()
	if len(serving) > 0 && !slices.ContainsFunc(serving, func(r catalog.RelayName) bool { return f.silentFor(r) == 0 }) {
		return f.abandoned(serving)
	}
	if len(f.strangers) == 0 {
		for _, name := range serving {
			if p := f.problems(name, "DHCP server "); len(p) > 0 {
				return verdict{stage: boot.StageDHCP, text: v.text + ", and another server answers there: " + p[0], fix: f.remedy(p[0])}
			}
		}
		v.fix = fmt.Sprintf("power it on and let it boot from the network; check cable, VLAN and that %s is its address", hardware(f.node))
		return v
	}
	var all []string
	for _, s := range f.strangers {
		all = append(all, fmt.Sprintf("%s (relay %s, %s ago)", s.Hardware, s.Relay, age(f.now, s.Last)))
	}
	v.text += "; machines that no node claims have asked: " + strings.Join(all, ", ")
	v.fix = fmt.Sprintf("if it is one of these, wulf node replace %s --mac %s", f.node.Node.Name, f.strangers[0].Hardware)
	return v
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

// archOf is the architecture of a machine by its firmware, as images name it; "" if that does not say it.
func archOf(firmware boot.Firmware) string {
	switch firmware {
	case boot.FirmwareBIOS, boot.FirmwareEFI64, boot.FirmwareHTTP64:
		return "amd64"
	case boot.FirmwareEFIArm64, boot.FirmwareHTTPArm64:
		return "arm64"
	}
	return ""
}

func (f *facts) up(b *api.Boot) verdict {
	r, warewulf := f.node, *f.node.Settings.Method == catalog.MethodWarewulf
	if f.now.Sub(b.Seen) > silence {
		who := "its agent has not been heard"
		if warewulf {
			who = "its wwclient has not asked for its overlays"
		}
		for _, e := range slices.Backward(b.Events) {
			if ofSystem(&e) && e.Time.After(b.Seen.Add(-silence)) {
				return verdict{stage: boot.StageUp, text: fmt.Sprintf("%s for %s, and DHCP gives it no address: %s", who, age(f.now, b.Seen), e.Error),
					fix: cmp.Or(e.Fix, f.remedy(e.Error), "mend the cause and restart the node")}
			}
		}
		return verdict{stage: boot.StageUp, text: fmt.Sprintf("%s for %s: the node is off, hangs, or has lost its network", who, age(f.now, b.Seen)),
			fix: fmt.Sprintf("look at the console of %s, or restart it", r.Node.Name)}
	}
	if want := r.Version.Manifest.ID; !want.IsZero() && b.Manifest != want {
		return verdict{text: fmt.Sprintf("it runs version %s of its image; %s is declared now", b.Manifest.Short(), want.Short()), fix: "restart it when it is free"}
	}
	if b.Without != "" {
		return verdict{text: "it runs without what is declared: " + b.Without, fix: cmp.Or(b.Fix, f.remedy(b.Without), "mend the cause and restart it when it is free")}
	}
	sync := fmt.Sprintf("wulf node sync %s --wait", r.Node.Name)
	switch how := api.RuntimeOf(b, f.catalog.Settled(f.now.Add(-api.Settling)), f.now); {
	case how == api.RuntimeBehind:
		return verdict{text: fmt.Sprintf("its runtime overlays follow revision %d; what was declared since has not reached it", b.Runtime.Revision),
			fix: "see whether its relays are alive: wulf relay list; then: " + sync}
	case how != "" && how != api.RuntimeInStep:
		return verdict{text: "its runtime overlays are not as declared: " + b.Runtime.Error, fix: "mend that, and then: " + sync}
	}
	return verdict{text: "nothing is wrong: it runs what is declared"}
}

// waits tells whether the node said lately that it waits for its turn: no failure, however long it takes.
func (f *facts) waits() (string, bool) {
	for i := len(f.about.Events) - 1; i >= 0; i-- {
		if e := f.about.Events[i]; strings.HasPrefix(e.Message, boot.AgentWaits) {
			return e.Message, f.now.Sub(e.Time) < 2*patience
		}
	}
	return "", false
}

// address is an address with the relay's name, for people who look at firewalls.
func (f *facts) address(name catalog.RelayName) string {
	r, ok := f.catalog.Relay(name)
	if !ok || len(r.Addresses) == 0 {
		return "relay " + string(name)
	}
	at := r.Addresses[0]
	if i := slices.IndexFunc(r.Addresses, func(a netip.Addr) bool {
		return f.node.Primary != nil && f.node.Primary.Network != nil && f.node.Primary.Network.Prefix.Contains(a)
	}); i >= 0 {
		at = r.Addresses[i]
	}
	return fmt.Sprintf("relay %s (%s)", name, at)
}

// atLeast rounds what people compare with their watches.
func atLeast(d time.Duration) time.Duration {
	if d > 2*time.Minute {
		return d.Round(time.Minute)
	}
	return d.Round(time.Second)
}
