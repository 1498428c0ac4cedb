package boot

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Session is what a relay adds to a plan when it hands out the script: the name of this boot and its ticket.
type Session struct {
	Boot   string // names this boot of the node
	Ticket string // with which the agent claims the boot; "" for none
}

// Parameters that the kernel command line carries to the agent.
const (
	ParamNode   = "wulf.node"
	ParamRelays = "wulf.relays" // host:port,… of HTTPS, best first
	ParamImage  = "wulf.image"  // the manifest's ID
	ParamRev    = "wulf.rev"
	ParamBoot   = "wulf.boot"
	ParamTicket = "wulf.ticket"
	ParamMode   = "wulf.mode" // catalog.MethodTwoStage or MethodOneStage
	ParamRoot   = "wulf.root"
	ParamInit   = "wulf.init"
	ParamIface  = "BOOTIF" // 01-aa-bb-…, as pxelinux began it
)

// CommandLine is the kernel command line of the plan: the parameters of the agent, then the declared arguments.
func (p *Plan) CommandLine(s Session) string {
	mesh := make([]string, len(p.Relays))
	for i, r := range p.Relays {
		mesh[i] = r.Mesh()
	}
	words := []string{
		ParamNode + "=" + string(p.Node),
		ParamRelays + "=" + strings.Join(mesh, ","),
		ParamImage + "=" + p.Manifest.ID.String(),
		ParamRev + "=" + strconv.FormatUint(uint64(p.Revision), 10),
		ParamBoot + "=" + s.Boot,
		ParamMode + "=" + p.Method,
		ParamRoot + "=" + p.Root,
		ParamInit + "=" + p.Init,
		ParamIface + "=01-" + strings.ReplaceAll(string(p.BootHardware), ":", "-"),
	}
	if s.Ticket != "" {
		words = append(words, ParamTicket+"="+s.Ticket)
	}
	if p.Method == catalog.MethodOneStage {
		// Without rdinit the kernel would run /init all the same; said, it also panics with a clear line if it is gone.
		words = append(words, "rdinit=/init")
	}
	return strings.Join(append(words, p.Args...), " ")
}

// WriteScript writes the machine's iPXE script. It tries the plan's relays in order, a few times over, and at
// the end says why and restarts the machine: a node without a script would sit at a prompt that nobody sees.
//
// The files are named for the kernel command line (initrd=…), because a kernel started through its EFI stub
// finds its initial file systems by these names and by nothing else.
func (p *Plan) WriteScript(w io.Writer, s Session) error {
	b := new(strings.Builder)
	fmt.Fprintf(b, "#!ipxe\n# wulfmesh, revision %d\n", p.Revision)
	if p.Problem != nil {
		p.writeProblem(b)
	} else {
		p.writeBoot(b, s)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (p *Plan) writeBoot(b *strings.Builder, s Session) {
	files := []struct{ name, path string }{{"stage-one", "/chunk/" + p.Kernel.StageOne.ID.String()}}
	if p.Method == catalog.MethodOneStage {
		// The later archive wins where two hold the same path: stage one brings /init, the overlays their files.
		files = []struct{ name, path string }{
			{"image", "/file/" + p.Manifest.ID.String()},
			files[0],
			{"overlay", "/boot/" + string(p.BootHardware) + "/overlay?ticket=" + s.Ticket},
		}
	}
	var words []string
	for _, f := range files {
		words = append(words, "initrd="+f.name)
	}
	cmdline := strings.Join(append(words, p.CommandLine(s)), " ")
	fmt.Fprintf(b, "echo wulfmesh: node %s boots image %s (%s)\n", p.Node, p.Image, p.Manifest.ID.Short())
	fmt.Fprintf(b, "set tries:int32 0\n")
	for i, r := range p.Relays {
		next := fmt.Sprintf("relay%d", i+1)
		if i == len(p.Relays)-1 {
			next = "again"
		}
		fmt.Fprintf(b, ":relay%d\nimgfree\nset base http://%s\n", i, r.Boot())
		fmt.Fprintf(b, "kernel --name kernel ${base}/chunk/%s %s || goto %s\n", p.Kernel.Kernel.ID, cmdline, next)
		for _, f := range files {
			fmt.Fprintf(b, "initrd --name %s ${base}%s || goto %s\n", f.name, f.path, next)
		}
		fmt.Fprintf(b, "boot || goto failed\n")
	}
	fmt.Fprintf(b, ":again\ninc tries\niseq ${tries} 5 && goto failed ||\n")
	fmt.Fprintf(b, "echo wulfmesh: no relay answered, trying again\nsleep 3\ngoto relay0\n")
	fmt.Fprintf(b, ":failed\necho wulfmesh: node %s cannot fetch its kernel from any relay; on a controller run: wulf node why %s\n", p.Node, p.Node)
	fmt.Fprintf(b, "sleep 10\nreboot\n")
}

// writeProblem tells the machine's screen why it does not boot, and asks again: the cause may be mended any time.
func (p *Plan) writeProblem(b *strings.Builder) {
	fmt.Fprintf(b, "echo wulfmesh: this machine cannot boot yet (revision %d)\n", p.Revision)
	fmt.Fprintf(b, "echo   why: %s\n", printable(p.Problem.Error()))
	if fix := fault.Fix(p.Problem); fix != "" {
		fmt.Fprintf(b, "echo   fix: %s\n", printable(fix))
	}
	relay := "${next-server}"
	if len(p.Relays) > 0 {
		relay = p.Relays[0].Boot()
	}
	fmt.Fprintf(b, "sleep 15\nchain --replace http://%s/boot/%s/script || reboot\n", relay, p.BootHardware)
}

// printable keeps what iPXE would take for a variable, a continuation or a second command out of an echo.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '$', r == '\\', r == '`':
			return '_'
		case r < ' ' || r > '~':
			return '?'
		}
		return r
	}, strings.ReplaceAll(strings.ReplaceAll(s, "||", "or"), "&&", "and"))
}
