package journal

import (
	"fmt"
	"slices"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
)

// silent says what must have kept a boot from the stage after the one that it reached, where nobody has told.
func (f *facts) silent() verdict {
	b, name := f.about, f.node.Node.Name
	v := verdict{stage: f.missing()}
	if text, ok := f.waits(); ok {
		return verdict{stage: v.stage, text: "it " + text, wait: true}
	}
	by := f.by()
	relay := f.address(by)
	reset := fmt.Sprintf("watch the console of %s while it starts", name)
	switch reached(b) {
	case boot.StageDHCP:
		port, program := "UDP port 69 (TFTP)", "its boot program by TFTP"
		if b.Firmware == boot.FirmwareHTTP64 || b.Firmware == boot.FirmwareHTTPArm64 {
			port, program = "TCP port 4480 (HTTP)", "its boot program by HTTP"
		}
		v.text = fmt.Sprintf("%s gave it %s, and it has not fetched %s: %s from %s to the relay is blocked, or the firmware gave up", relay, b.Address, program, port, b.Address)
		v.fix = fmt.Sprintf("let %s of %s through: its firewall, and the switches between", port, relay)
		if f.others > 0 {
			v.fix = fmt.Sprintf("check cable, switch port and firmware of %s, and what filters %s for it alone", name, port)
		}
	case boot.StageLoader:
		v.text = "its boot program was sent and does not run: it is not for this firmware, or Secure Boot refuses it"
		v.fix = fmt.Sprintf("switch Secure Boot off in the firmware of %s, and look at its console", name)
		if slices.ContainsFunc(b.Events, func(e boot.Event) bool { return e.Firmware == boot.FirmwareIPXE }) {
			v.text = fmt.Sprintf("its boot program runs and has an address, and did not get its script: TCP port 4480 (HTTP) from %s to %s is blocked", b.Address, relay)
			v.fix = fmt.Sprintf("let TCP port 4480 of %s through: its firewall, and the switches between", relay)
		}
	case boot.StageScript:
		v.text = fmt.Sprintf("it has its script and did not fetch kernel and stage one: TCP port 4480 from %s to the relays in its script is blocked, or the machine hangs", b.Address)
		v.fix = fmt.Sprintf("%s; check that TCP port 4480 of the relays is open", reset)
	case boot.StageKernel:
		v = f.afterKernel(v, relay, reset)
	case boot.StageStageOne:
		v.text = "its agent runs, and the image does not come"
		v.fix = fmt.Sprintf("wulf relay list says what is wrong with its relays; else %s", reset)
	case boot.StageImage:
		v.text = "its image is unpacked, and its overlays are not in place: the machine hangs, or has lost its power or its network"
		v.fix = fmt.Sprintf("%s; or restart it", reset)
	case boot.StageOverlay:
		v.text = "its root is complete, and its init did not start the agent's service: the image's init hangs or ends, or the agent's unit is missing"
		v.fix = fmt.Sprintf("%s; the overlay wulf-agent must be among its system overlays (wulf node show %s)", reset, name)
	case boot.StageInit:
		v.text = "its init runs, and has not reached its target"
		v.fix = fmt.Sprintf("log in to %s and look: systemctl list-jobs", name)
	}
	if *f.node.Settings.Method == catalog.MethodWarewulf && (reached(b) == boot.StageKernel || reached(b) == boot.StageOverlay) {
		v.text = "it was sent its image and has not been heard of since"
		v.fix = "watch its console; check that the overlays wwinit and wwclient are among its system overlays"
	}
	if f.tries >= again {
		v.text = f.often() + v.text
	}
	return v
}

func (f *facts) afterKernel(v verdict, relay, reset string) verdict {
	b, name := f.about, f.node.Node.Name
	if !slices.ContainsFunc(b.Events, func(e boot.Event) bool { return e.Message == boot.AgentAsks }) {
		v.text = "kernel and stage one were sent, and its agent has not reported: the kernel did not start, panicked, or has no driver for the network card"
		v.fix = fmt.Sprintf("watch the console of %s (wulf node set %s --kernelargs console=ttyS0,115200); too little memory is the usual cause of a panic here", name, name)
		return v
	}
	if f.node.Primary != nil && f.node.Primary.MTU > 1500 {
		v.text = fmt.Sprintf("its agent runs and has an address, and does not get through to its relays: the MTU of %d that is declared is more than the switches between carry, or TCP port 4481 (HTTPS) is blocked", f.node.Primary.MTU)
		v.fix = fmt.Sprintf("wulf network set %s --mtu 1500, or make every switch between carry %d", f.node.Primary.Network.Name, f.node.Primary.MTU)
		return v
	}
	v.text = fmt.Sprintf("its agent runs and has an address, and does not get through to its relays: TCP port 4481 (HTTPS) from %s to %s is blocked", b.Address, relay)
	v.fix = fmt.Sprintf("let TCP port 4481 of %s through: its firewall, and the switches between", relay)
	return v
}

// by is the relay that served the boot last.
func (f *facts) by() catalog.RelayName {
	for i := len(f.about.Events) - 1; i >= 0; i-- {
		if r := f.about.Events[i].Relay; r != "" {
			return r
		}
	}
	return f.about.Relay
}

// remedies are what mends what relays and agents tell without saying so, by words of what they tell.
var remedies = []struct{ words, fix string }{
	{"there is no boot program for its architecture", "set the firmware of NODE to boot by PXE or HTTP as x86-64 or arm64: relays have programs for no other"},
	{"is not installed on the relay", "install iPXE on relay RELAY (package ipxe, or ipxe-bootimgs)"},
	{"boot programs are missing", "install iPXE on relay RELAY (package ipxe, or ipxe-bootimgs)"},
	{"has no pool for unknown machines", "wulf network set NETWORK --pool FIRST-LAST, or declare an address: wulf node set NODE --ipaddr ADDRESS"},
	{"pool", "wulf network set NETWORK --pool FIRST-LAST, with a larger range"},
	{"is used by another machine", "find the other machine (arping ADDRESS), or give NODE another address: wulf node set NODE --ipaddr ADDRESS"},
	{"DHCP server ", "switch that DHCP server off, or keep it out of the network (DHCP snooping on the switches)"},
	{"asks in network", "check the cable and the VLAN of NODE's port"},
	{"chunks that nodes may need are not here", "start a controller again, or publish the image anew: wulf image import"},
	{"nobody has chunk", "start a controller again that has it, or publish the image anew: wulf image import"},
	{"does not have chunk", "start a controller again that has it, or publish the image anew: wulf image import"},
	{"cannot give it what it boots from", "start a controller again that has it, or publish the image anew: wulf image import"},
	{"does not accept the certificate", "set the clock of NODE in its firmware; if that is right, let it boot again to get the stage one of now"},
	{"has been claimed already", "restart NODE; if it comes again, look for a second machine with its hardware address"},
	{"ticket expired", "restart NODE; if it comes again, it takes more than ten minutes from its script to its agent: look at its console"},
	{"overlay", "wulf overlay show says what is wrong with it; wulf node show NODE names the overlays"},
	{"does not have enough memory", "give NODE more memory, or a smaller image"},
}

// remedy is what mends a trouble by its words; "" if nobody knows.
func (f *facts) remedy(trouble string) string {
	fill := []string{"NODE", string(f.node.Node.Name)}
	if f.about != nil {
		fill = append(fill, "RELAY", string(f.by()))
	}
	if f.node.Primary != nil && f.node.Primary.Network != nil {
		fill = append(fill, "NETWORK", string(f.node.Primary.Network.Name))
	}
	for _, r := range remedies {
		if strings.Contains(trouble, r.words) {
			return strings.NewReplacer(fill...).Replace(r.fix)
		}
	}
	return ""
}

// maxNotes bounds what is told besides a verdict.
const maxNotes = 6

// notes are what else is known that helps to find a cause, or rules one out.
func (f *facts) notes(v verdict) []string {
	var all []string
	if f.about == nil {
		return nil
	}
	switch {
	case f.others == 1:
		all = append(all, fmt.Sprintf("1 other node %s came further meanwhile: its relay serves", f.beside))
	case f.others > 1:
		all = append(all, fmt.Sprintf("%d other nodes %s came further meanwhile: its relay serves", f.others, f.beside))
	}
	if f.tries > 1 && f.tries < again || f.tries >= again && !strings.Contains(v.text, "it has started") {
		all = append(all, fmt.Sprintf("it has started %d times in %s", f.tries, atLeast(f.now.Sub(f.since))))
	}
	for _, name := range f.about.Relays {
		if d := f.silentFor(name); d > 0 {
			all = append(all, fmt.Sprintf("relay %s, which served it, has been silent for %s", name, d))
		}
		for _, p := range f.problems(name, "") {
			all = append(all, fmt.Sprintf("relay %s says: %s", name, p))
		}
	}
	return all[:min(len(all), maxNotes)]
}
