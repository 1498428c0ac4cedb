// Package params reads what a relay told the node on its kernel command line.
package params

import (
	"slices"
	"strconv"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Params are the parameters of one boot.
type Params struct {
	Node     catalog.NodeName
	Relays   []string // host:port of HTTPS, best first
	Image    chunk.ID // the signed manifest
	Revision catalog.Revision
	Boot     string
	Ticket   string
	Method   string // catalog.MethodTwoStage or MethodOneStage
	Root     string // catalog.RootTmpfs or RootRamfs
	Init     string
	Hardware catalog.HardwareAddr // of the device that the machine booted from; "" if it was not told
	Debug    bool                 // wulf.debug: stay on a failure, for somebody at the console
}

// Parse reads /proc/cmdline. It fails with fault.Invalid where a parameter without which nothing works is missing
// or cannot be read.
func Parse(cmdline string) (Params, error) {
	p := Params{Method: catalog.MethodTwoStage, Root: catalog.RootTmpfs, Init: "/sbin/init"}
	for _, word := range strings.Fields(cmdline) {
		key, value, _ := strings.Cut(word, "=")
		var err error
		switch key {
		case boot.ParamNode:
			p.Node, err = catalog.ParseName[catalog.NodeName]("node", value)
		case boot.ParamRelays:
			p.Relays = slices.DeleteFunc(strings.Split(value, ","), func(s string) bool { return s == "" })
		case boot.ParamImage:
			p.Image, err = chunk.ParseID(value)
		case boot.ParamRev:
			var n uint64
			n, err = strconv.ParseUint(value, 10, 64)
			p.Revision = catalog.Revision(n)
		case boot.ParamBoot:
			p.Boot = value
		case boot.ParamTicket:
			p.Ticket = value
		case boot.ParamMode:
			p.Method = value
		case boot.ParamRoot:
			p.Root = value
		case boot.ParamInit:
			p.Init = value
		case boot.ParamIface:
			// The first byte is the hardware type of ARP; InfiniBand's is 20, with an address that does not fit here.
			if len(value) == len("01-aa-bb-cc-dd-ee-ff") {
				p.Hardware, err = catalog.ParseHardwareAddr(value[3:])
			}
		case "wulf.debug":
			p.Debug = value != "0"
		}
		if err != nil {
			return Params{}, fault.New(fault.Invalid, "kernel command line: %s: %v", key, err)
		}
	}
	switch {
	case p.Node == "":
		return Params{}, missing(boot.ParamNode)
	case len(p.Relays) == 0:
		return Params{}, missing(boot.ParamRelays)
	case p.Image.IsZero():
		return Params{}, missing(boot.ParamImage)
	case !strings.HasPrefix(p.Init, "/"):
		return Params{}, fault.New(fault.Invalid, "kernel command line: %s is not an absolute path", boot.ParamInit)
	}
	return p, nil
}

func missing(name string) error {
	return fault.New(fault.Invalid, "kernel command line has no %s=", name).WithFix("boot through a wulfmesh relay's script")
}
