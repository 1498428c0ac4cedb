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

	// Of a machine that no node claims: how often it has asked on from its screen, and whether the relay held its last
	// question until it had to be answered, so that it may ask again at once.
	Tries int
	Held  bool
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

// Bounds of what a relay adds to a plan. A plan has room for both on the command line, or it has a Problem.
const (
	MaxBoot   = 32
	MaxTicket = 320
)

// maxCommandLine is how many bytes of a command line reach the kernel: Linux keeps 2048 with the NUL
// (COMMAND_LINE_SIZE of x86 and arm64), bzImage headers say 2047, and of these iPXE's snprintf takes one more.
// What is beyond is cut off without a word.
const maxCommandLine = 2046

// CommandLine is the kernel command line of the plan: the parameters of the agent, then the declared arguments.
func (p *Plan) CommandLine(s Session) string { return strings.Join(p.words(s, p.first()), " ") }

// first is the relay that is tried first.
func (p *Plan) first() Relay {
	if len(p.Relays) == 0 {
		return Relay{}
	}
	return p.Relays[0]
}

// words are the command line of a kernel that comes from a relay.
func (p *Plan) words(s Session, from Relay) []string {
	if p.Method == catalog.MethodWarewulf {
		return p.warewulfWords(s, from)
	}
	sources := p.Sources()
	mesh := make([]string, len(sources))
	for i, r := range sources {
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
	return append(words, p.Args...)
}

// arguments is what the kernel is started with: the names of its initial file systems, then the command line. They
// are named because a kernel started through its EFI stub finds them by these names and by nothing else.
func (p *Plan) arguments(s Session, from Relay) []string {
	var words []string
	for _, f := range p.files(s) {
		words = append(words, "initrd="+f.name)
	}
	return append(words, p.words(s, from)...)
}

// file is an initial file system: its name for the kernel, and its path at a relay.
type file struct{ name, path string }

func (p *Plan) files(s Session) []file {
	if p.Method == catalog.MethodWarewulf {
		return p.warewulfFiles(s)
	}
	stageOne := file{"stage-one", "/chunk/" + p.Kernel.StageOne.ID.String()}
	if p.Method != catalog.MethodOneStage {
		return []file{stageOne}
	}
	// The later archive wins where two hold the same path: stage one brings /init, the overlays their files.
	return []file{
		{"image", "/file/" + p.Manifest.ID.String()},
		stageOne,
		{"overlay", "/boot/" + string(p.BootHardware) + "/overlay?ticket=" + s.Ticket},
	}
}

// check refuses what the machine would not get as it is meant: a word that iPXE's shell takes for its own, and a
// command line that is too long for the kernel.
func (p *Plan) check(s Session) error {
	if s.Ticket != "" && !plain(s.Ticket) { // it is in addresses, too
		return fault.New(fault.Internal, "the ticket of node %s is none that the boot loader would pass on", p.Node)
	}
	words := p.arguments(s, p.first())
	for _, w := range words {
		if !plain(w) {
			return fault.New(fault.Invalid, "node %s cannot be given the kernel argument %q: the boot loader would not pass it on as it is", p.Node, w).
				WithFix("wulf node show %s --blame says who decided it", p.Node)
		}
	}
	// On EFI the image's name comes before the rest.
	if n := len("kernel " + strings.Join(words, " ")); n > maxCommandLine {
		return fault.New(fault.Invalid, "the kernel command line of node %s has %d bytes, and the kernel takes %d", p.Node, n, maxCommandLine).
			WithFix("take kernel arguments away; wulf node show %s --blame says who decided them", p.Node)
	}
	return nil
}

// plain tells whether iPXE passes a word on as it stands. Its shell knows ${…}, comments that begin with #, and
// the operators || && and ; where they stand alone (src/core/exec.c), and it breaks lines at white space.
func plain(word string) bool {
	if word == "" || word[0] == '#' || word == "||" || word == "&&" || word == ";" || strings.Contains(word, "${") {
		return false
	}
	return !strings.ContainsFunc(word, func(r rune) bool { return r <= ' ' || r > '~' })
}

// WriteScript writes the machine's iPXE script. It tries the plan's sources in order, a few times over, and at the
// end says why and restarts the machine: a node without a script would sit at a prompt that nobody sees.
func (p *Plan) WriteScript(w io.Writer, s Session) error {
	b := new(strings.Builder)
	fmt.Fprintf(b, "#!ipxe\n# wulfmesh, revision %d\n", p.Revision)
	problem := p.Problem
	if problem == nil {
		problem = p.check(s)
	}
	switch {
	case problem == nil:
		p.writeBoot(b, s)
	case !p.Known() && plain(string(p.BootHardware)) && len(p.Relays) > 0:
		p.writeUnknown(b, s)
	default:
		p.writeProblem(b, problem)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// silence is for how many milliseconds a download may make no progress. Without it iPXE waits for ever for a relay that
// lost its power after it had taken the request. A relay that has to fetch a file first is silent meanwhile.
const silence = 30_000

func (p *Plan) writeBoot(b *strings.Builder, s Session) {
	sources, files := p.Sources(), p.files(s)
	fmt.Fprintf(b, "echo wulfmesh: node %s boots image %s (%s)\n", printable(string(p.Node)), printable(p.Image), p.Manifest.ID.Short())
	fmt.Fprintf(b, "set tries:int32 0\n")
	for i, r := range sources {
		next := fmt.Sprintf("relay%d", i+1)
		if i == len(sources)-1 {
			next = "again"
		}
		fmt.Fprintf(b, ":relay%d\nimgfree\nset base http://%s\n", i, r.loads())
		fmt.Fprintf(b, "kernel --timeout %d --name kernel ${base}/chunk/%s %s || goto %s\n", silence, p.Kernel.Kernel.ID, strings.Join(p.arguments(s, r), " "), next)
		for _, f := range files {
			fmt.Fprintf(b, "initrd --timeout %d --name %s ${base}%s || goto %s\n", silence, f.name, f.path, next)
		}
		fmt.Fprintf(b, "boot || goto failed\n")
	}
	fmt.Fprintf(b, ":again\ninc tries\niseq ${tries} 5 && goto failed ||\n")
	fmt.Fprintf(b, "echo wulfmesh: no relay answered, trying again\nsleep 3\ngoto relay0\n")
	fmt.Fprintf(b, ":failed\necho wulfmesh: node %[1]s cannot fetch its kernel from any relay; on a controller run: wulf node why %[1]s\n", printable(string(p.Node)))
	fmt.Fprintf(b, "sleep 10\nreboot\n")
}

// writeProblem tells the machine's screen why it does not boot, and asks again: the cause may be mended any time.
func (p *Plan) writeProblem(b *strings.Builder, problem error) {
	fmt.Fprintf(b, "echo wulfmesh: this machine cannot boot yet (revision %d)\n", p.Revision)
	fmt.Fprintf(b, "echo   why: %s\n", printable(problem.Error()))
	if fix := fault.Fix(problem); fix != "" {
		fmt.Fprintf(b, "echo   fix: %s\n", printable(fix))
	}
	script := "script" // from wherever this one came
	if len(p.Relays) > 0 && plain(string(p.BootHardware)) {
		script = "http://" + p.Relays[0].loads() + "/boot/" + string(p.BootHardware) + "/script"
	}
	fmt.Fprintf(b, "sleep 15\nchain --timeout %d --replace %s || reboot\n", silence, script)
}

// maxPrinted bounds what is said on a machine's screen, a few lines of it.
const maxPrinted = 400

// printable keeps what iPXE would take for a variable, a comment, a continuation or a second command out of an echo.
func printable(s string) string {
	s = strings.NewReplacer("||", "or", "&&", "and", ";", ",").Replace(s)
	return strings.Map(func(r rune) rune {
		switch {
		case r == '$', r == '\\', r == '`', r == '#':
			return '_'
		case r < ' ' || r > '~':
			return '?'
		}
		return r
	}, s[:min(len(s), maxPrinted)])
}
