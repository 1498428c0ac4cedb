package boot_test

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares bytes that firmware reads with what was reviewed.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; -update rewrites it\ngot\n%s\nwant\n%s", path, got, want)
	}
}

func script(t testing.TB, p *boot.Plan, s boot.Session) string {
	t.Helper()
	var b strings.Builder
	if err := p.WriteScript(&b, s); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func grub(t testing.TB, p *boot.Plan, s boot.Session) string {
	t.Helper()
	var b strings.Builder
	if err := p.WriteGrub(&b, p.Relays[0], s); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestScriptsAreTheReviewedOnes(t *testing.T) {
	session := boot.Session{Boot: "5xv2m1", Ticket: "wt1.abcDEF-_0"}
	c := lab(t)
	for file, req := range map[string]boot.Request{
		"two-stage.ipxe":  {Hardware: "52:54:00:00:00:01", Network: "rack"},
		"one-stage.ipxe":  {Hardware: "52:54:00:00:00:02", Network: "rack", Live: []catalog.RelayName{"r1"}},
		"one-relay.ipxe":  {Hardware: "52:54:00:00:00:08", Network: "far", Relay: "f1"},
		"warewulf.ipxe":   {Hardware: "52:54:00:00:00:0c", Network: "old", Relay: "o1"},
		"asset.ipxe":      {Hardware: "52:54:00:00:00:0d", Network: "old", Relay: "o1"},
		"dracut.ipxe":     {Hardware: "52:54:00:00:00:0e", Network: "old", Relay: "o1"},
		"refused.ipxe":    {Hardware: "52:54:00:00:00:0f", Network: "rack"},
		"unknown.ipxe":    {Hardware: "52:54:00:00:00:ff", Network: "rack"},
		"no-image.ipxe":   {Hardware: "52:54:00:00:00:04", Network: "rack"},
		"no-relay.ipxe":   {Hardware: "52:54:00:00:00:09"},
		"arguments.ipxe":  {Hardware: "52:54:00:00:00:0a", Network: "rack"},
		"wrong-rack.ipxe": {Hardware: "52:54:00:00:00:08", Network: "rack"},
	} {
		p := plan(t, c, req)
		got := script(t, &p, session)
		golden(t, file, got)
		if p.Problem == nil {
			harmless(t, &p, session, got)
		}
	}
	for file, req := range map[string]boot.Request{
		"warewulf.grub": {Hardware: "52:54:00:00:00:0c", Network: "old", Relay: "o1"},
		"asset.grub":    {Hardware: "52:54:00:00:00:0d", Network: "old", Relay: "o1"},
		"refused.grub":  {Hardware: "52:54:00:00:00:0f", Network: "rack"},
	} {
		p := plan(t, c, req)
		golden(t, file, grub(t, &p, session))
	}
	u := plan(t, c, boot.Request{Hardware: "52:54:00:00:00:ff", Network: "rack"})
	for file, s := range map[string]boot.Session{"unknown-held.ipxe": {Tries: 1, Held: true}, "unknown-waits.ipxe": {Tries: 7}} {
		got := script(t, &u, s)
		golden(t, file, got)
		harmless(t, &u, s, got)
	}
	p := plan(t, many(t, 1), boot.Request{Hardware: "52:54:01:00:00:00", Network: "big", Relay: "m0"})
	golden(t, "many-relays.ipxe", script(t, &p, session))
}

// The kernel keeps 2047 bytes of its command line and drops the rest without a word: a plan that would need more is
// a problem that says so, and never half a command line.
func TestTheCommandLineFitsTheKernel(t *testing.T) {
	longest := strings.Repeat("n", catalog.MaxName)
	p := boot.Plan{
		Revision: 1<<64 - 1, Node: catalog.NodeName(longest), Method: catalog.MethodOneStage, Root: catalog.RootTmpfs, Init: "/sbin/init",
		Image: "debian", Manifest: chunk.RefOf([]byte("m")), BootHardware: "52:54:00:12:34:56",
	}
	for range 40 { // of which four are told
		p.Relays = append(p.Relays, boot.Relay{Name: catalog.RelayName(longest), Addr: netip.MustParseAddr("255.255.255.255"), BootPort: 65535, MeshPort: 65535})
	}
	s := boot.Session{Boot: strings.Repeat("b", boot.MaxBoot), Ticket: strings.Repeat("t", boot.MaxTicket)}
	line := "initrd=image initrd=stage-one initrd=overlay " + p.CommandLine(s)
	t.Logf("our own part has at most %d bytes", len(line))
	if len(line) > 1000 {
		t.Errorf("our own part of the command line has %d bytes: too little is left for the site's", len(line))
	}
	room := 2046 - len("kernel ") - len(line) - 1
	p.Args = []string{strings.Repeat("a", room)}
	if got := script(t, &p, s); !strings.Contains(got, " "+p.Args[0]+" || goto") {
		t.Errorf("%d bytes of arguments fit, and are not there:\n%s", room, got)
	}
	p.Args = []string{strings.Repeat("a", room+1)}
	got := script(t, &p, s)
	if strings.Contains(got, "kernel --name") || !strings.Contains(got, "command line of node "+longest+" has 2047 bytes") {
		t.Errorf("a command line that is one too long boots:\n%s", got)
	}
}

func TestResolveFindsACommandLineThatIsTooLong(t *testing.T) {
	args := slices.Repeat([]string{"module_blacklist=something_long"}, 60)
	c := lab(t, catalog.SetNodes{Nodes: []catalog.NodeName{"n1.lab"}, Set: catalog.Settings{Kernel: catalog.KernelSettings{Args: args}}})
	p := plan(t, c, boot.Request{Hardware: "52:54:00:00:00:01"})
	if fault.KindOf(p.Problem) != fault.Invalid || !strings.Contains(p.Problem.Error(), "the kernel takes 2046") {
		t.Errorf("problem is %v", p.Problem)
	}
}

// What a hostile or mistaken catalog says reaches the screen as words, never as a command.
func TestTextOnTheScreenIsNoCommand(t *testing.T) {
	for in, want := range map[string]string{
		"no image\nshell":        "no image?shell",
		"a || shell && b":        "a or shell and b",
		"||| shell":              "or| shell",
		"a ; shell":              "a , shell",
		"a #b":                   "a _b",
		"${net0/mac} $(x) `y`":   "_{net0/mac} _(x) _y_",
		`continued \`:            "continued _",
		"käse\r\x00\x1b[2J":      "k?se???[2J",
		strings.Repeat("x", 9e3): strings.Repeat("x", 400),
	} {
		p := boot.Plan{BootHardware: "52:54:00:00:00:01", Problem: fault.New(fault.Internal, "%s", in).WithFix("%s", in)}
		got := script(t, &p, boot.Session{})
		for _, line := range []string{"echo   why: " + want + "\n", "echo   fix: " + want + "\n"} {
			if !strings.Contains(got, line) {
				t.Errorf("%.40q became\n%.900s\nwant the line %.80q", in, got, line)
			}
		}
		harmless(t, &p, boot.Session{}, got)
	}
}

// FuzzScript gives a plan whatever strings a catalog could hold, and reads the script as iPXE does.
func FuzzScript(f *testing.F) {
	f.Add("n1", "debian:latest", "two-stage", "/sbin/init", "tmpfs", "quiet", "console=ttyS0,115200", "", "5xv2m1", "wt1.x", "52:54:00:00:00:01", uint8(2))
	f.Add("a;b", "i || shell", "one-stage", "/init ; shell", "${x}", "#", "\\", "why\nshell", "b&&", "t u", "no address", uint8(0))
	f.Add("n1", "centos", "warewulf", "/sbin/init", "tmpfs", "quiet", "wwid=x", "", "5xv2m1", "wt1.x", "52:54:00:00:00:01", uint8(3))
	f.Add("n1", "centos", "warewulf", "/sbin/init", "tmpfs", "quiet", "wwid=x", "", "5xv2m1", "wt\t.x", "52:54:00:00:00:01", uint8(3))
	f.Add(";", "||", "one-stage", "&&", "\n", "|| shell", "\x0bshell", "\\\nshell", "#", "${", "a b", uint8(9))
	f.Fuzz(func(t *testing.T, node, image, method, init, root, arg1, arg2, problem, bootID, ticket, hw string, relays uint8) {
		p := boot.Plan{Node: catalog.NodeName(node), Image: image, Method: method, Init: init, Root: root, Args: []string{arg1, arg2},
			Manifest: chunk.RefOf([]byte("m")), BootHardware: catalog.HardwareAddr(hw)}
		if problem != "" {
			p.Problem = fault.New(fault.Internal, "%s", problem).WithFix("%s", node+problem)
		}
		for i := range relays%8 + 1 {
			p.Relays = append(p.Relays, boot.Relay{Addr: netip.AddrFrom4([4]byte{10, 0, 0, i}), BootPort: 4480, MeshPort: 4481})
		}
		s := boot.Session{Boot: bootID, Ticket: ticket}
		harmless(t, &p, s, script(t, &p, s))
		literal(t, grub(t, &p, s))
	})
}

// harmless reads a script as iPXE does, and allows the commands of a boot or of a problem, each in its form.
func harmless(t *testing.T, p *boot.Plan, s boot.Session, text string) {
	t.Helper()
	if !strings.HasPrefix(text, "#!ipxe\n") {
		t.Fatalf("not a script: %.40q", text)
	}
	labels := map[string]int{}
	jumps := map[string]bool{}
	kernels := 0
	for _, line := range lines(text) {
		label, words := tokens(line)
		if label != "" {
			labels[label]++
		}
		for _, command := range commands(words) {
			if slices.Contains([]string{"chain", "initrd", "kernel"}, command[0]) { // no download waits for ever
				expect(t, command, len(command) > 3 && command[1] == "--timeout" && (command[2] == "30000" || command[0] == "chain" && command[2] == "90000"))
				command = slices.Delete(slices.Clone(command), 1, min(3, len(command)))
			}
			switch command[0] {
			case "imgfree", "boot", "reboot":
				expect(t, command, len(command) == 1)
			case "sleep":
				expect(t, command, len(command) == 2)
			case "set":
				expect(t, command, slices.Equal(command, []string{"set", "tries:int32", "0"}) || slices.Equal(command, []string{"set", "rounds:int32", "0"}) || len(command) == 3 && command[1] == "base" && strings.HasPrefix(command[2], "http://10."))
			case "inc":
				expect(t, command, slices.Equal(command, []string{"inc", "tries"}) || slices.Equal(command, []string{"inc", "rounds"}))
			case "iseq":
				expect(t, command, slices.Equal(command, []string{"iseq", "${tries}", "5"}) || slices.Equal(command, []string{"iseq", "${rounds}", "5"}))
			case "goto":
				expect(t, command, len(command) == 2)
				jumps[command[1]] = true
			case "echo":
				said := strings.NewReplacer("${manufacturer}", "", "${product}", "", "${serial}", "").Replace(strings.Join(command, " "))
				expect(t, command, !strings.Contains(said, "${"))
			case "chain":
				expect(t, command, len(command) == 3 && command[1] == "--replace" && (command[2] == "script" || strings.HasPrefix(command[2], "http://10.")))
			case "initrd":
				expect(t, command, len(command) == 4 && command[1] == "--name" && slices.Contains([]string{"stage-one", "image", "overlay", "system", "runtime", "initramfs"}, command[2]))
				expect(t, command, strings.HasPrefix(command[3], "${base}/") && strings.Count(strings.TrimSuffix(command[3], "&assetkey=${asset:uristring}"), "${") == 1)
			case "kernel":
				kernels++
				expect(t, command, len(command) > 3 && strings.Join(command[1:3], " ") == "--name kernel" && command[3] == "${base}/chunk/"+p.Kernel.Kernel.ID.String())
				arguments := slices.DeleteFunc(slices.Clone(command[4:]), func(w string) bool { return strings.HasPrefix(w, "initrd=") && !slices.Contains(p.Args, w) })
				if p.Warewulf.Dracut { // it is told of the relay that it comes from
					last := fmt.Sprintf("http://%s/", p.Sources()[kernels-1].Boot())
					for i, w := range arguments {
						arguments[i] = strings.Replace(w, last, fmt.Sprintf("http://%s/", p.Relays[0].Boot()), 1)
					}
				}
				if got, want := strings.Join(arguments, " "), p.CommandLine(s); got != want {
					t.Errorf("the kernel gets %q, want %q", got, want)
				}
				expect(t, command, !strings.Contains(strings.Join(command[4:], " "), "${"))
			default:
				t.Errorf("the script does %q", command)
			}
		}
	}
	for label := range jumps {
		if labels[label] != 1 {
			t.Errorf("label %q is there %d times", label, labels[label])
		}
	}
	if kernels != 0 && kernels != len(p.Sources()) {
		t.Errorf("%d kernels from %d sources", kernels, len(p.Sources()))
	}
	if t.Failed() {
		t.Logf("the script is\n%s", text)
	}
}

// literal reads what is for GRUB: outside of single quotes is nothing of the catalog's.
func literal(t *testing.T, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		parts := strings.Split(strings.TrimRight(line, "\n"), "'")
		if len(parts)%2 == 0 {
			t.Errorf("a quote is open in %q", line)
		}
		for i := 0; i < len(parts); i += 2 {
			switch strings.TrimSpace(parts[i]) {
			case "", "echo", "menuentry", "linux", "initrd", "{", "}", "reboot", "set timeout=2", "sleep 15", `"${assetkey}"`, "smbios --type 3 --get-string 8 --set assetkey":
			default:
				t.Errorf("GRUB is told %q", line)
			}
		}
	}
}

func expect(t *testing.T, command []string, ok bool) {
	t.Helper()
	if !ok {
		t.Errorf("the script does %q", command)
	}
}

// lines splits a script as process_script of iPXE's src/image/script.c does.
func lines(text string) (all []string) {
	line := ""
	for part := range strings.SplitSeq(text, "\n") {
		line += part
		line = strings.TrimSuffix(line, "\r")
		if open, ok := strings.CutSuffix(line, "\\"); ok {
			line = open
			continue
		}
		all = append(all, line)
		line = ""
	}
	return append(all, line)
}

// tokens splits a line into its label and words, at the white space of C's isspace.
func tokens(line string) (label string, words []string) {
	words = strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || '\t' <= r && r <= '\r' })
	if len(words) > 0 && strings.HasPrefix(words[0], ":") {
		return words[0][1:], words[1:]
	}
	return "", words
}

// commands splits words into commands as command_terminator of src/core/exec.c does.
func commands(words []string) (all [][]string) {
	var command []string
	end := func() {
		if len(command) > 0 {
			all = append(all, command)
		}
		command = nil
	}
	for _, w := range words {
		switch {
		case strings.HasPrefix(w, "#"):
			end()
			return all
		case w == "||", w == "&&", w == ";":
			end()
		default:
			command = append(command, w)
		}
	}
	end()
	return all
}

func ExamplePlan_WriteScript() {
	p := boot.Plan{Revision: 7, Problem: fault.New(fault.NotFound, "no node has the hardware address 52:54:00:00:00:01")}
	_ = p.WriteScript(os.Stdout, boot.Session{})
	fmt.Println("# and so on")
	// Output:
	// #!ipxe
	// # wulfmesh, revision 7
	// echo wulfmesh: this machine cannot boot yet (revision 7)
	// echo   why: no node has the hardware address 52:54:00:00:00:01
	// sleep 15
	// chain --timeout 30000 --replace script || reboot
	// # and so on
}

// A hall of machines that nobody knows asks neither at once nor in step, and each at least every 75 seconds.
func TestUnknownMachinesAskLessAndLessOften(t *testing.T) {
	pauses := map[string]int{}
	for n := range 64 {
		for tries, base := range map[int]int{1: 15, 2: 30, 3: 45, 4: 60, 5: 60, boot.MaxTries: 60} {
			p := boot.Plan{BootHardware: catalog.HardwareAddr(fmt.Sprintf("52:54:00:00:00:%02x", n)), Relays: []boot.Relay{{Name: "r1", Addr: netip.MustParseAddr("10.0.0.1")}},
				Problem: fault.New(fault.NotFound, "unknown")}
			_, after, _ := strings.Cut(script(t, &p, boot.Session{Tries: tries}), "\nsleep ")
			text, _, _ := strings.Cut(after, "\n")
			seconds, err := strconv.Atoi(text)
			if err != nil || seconds < base*3/4-1 || seconds > base*5/4 {
				t.Errorf("after %d questions it sleeps %q seconds", tries, text)
			}
			if tries == 4 {
				pauses[text]++
			}
		}
	}
	if len(pauses) < 20 {
		t.Errorf("64 machines sleep only %d different times", len(pauses))
	}
}
