package boot

import (
	"fmt"
	"io"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// WriteGrub writes a plan of catalog.MethodWarewulf for GRUB, which a shim of the node's own distribution started: that is
// how Warewulf boots where Secure Boot is on. It fetches from one relay, from. A machine that cannot boot gets the reason
// on its screen, and asks again.
func (p *Plan) WriteGrub(w io.Writer, from Relay, s Session) error {
	b := new(strings.Builder)
	fmt.Fprintf(b, "# wulfmesh, revision %d\n", p.Revision)
	problem := p.Problem
	if problem == nil {
		problem = p.checkGrub(s, from)
	}
	if problem != nil {
		fmt.Fprintf(b, "echo %s\n", quoted(fmt.Sprintf("wulfmesh: this machine cannot boot yet (revision %d)", p.Revision)))
		fmt.Fprintf(b, "echo %s\n", quoted("  why: "+problem.Error()))
		if fix := fault.Fix(problem); fix != "" {
			fmt.Fprintf(b, "echo %s\n", quoted("  fix: "+fix))
		}
		fmt.Fprintf(b, "sleep 15\nreboot\n")
		_, err := io.WriteString(w, b.String())
		return err
	}
	if p.Warewulf.Asset {
		fmt.Fprintf(b, "smbios --type 3 --get-string 8 --set assetkey\n")
	}
	server := "(http," + from.Boot() + ")"
	fmt.Fprintf(b, "set timeout=2\nmenuentry %s {\n", quoted(fmt.Sprintf("wulfmesh: node %s boots image %s (%s)", p.Node, p.Image, p.Manifest.ID.Short())))
	fmt.Fprintf(b, "  linux %s", quoted(server+"/chunk/"+p.Kernel.Kernel.ID.String()))
	for _, word := range p.words(s, from) {
		fmt.Fprintf(b, " %s", quoted(word))
	}
	fmt.Fprintf(b, "\n  initrd")
	for _, f := range p.files(s) {
		name := quoted(server + f.path)
		if path, asks := strings.CutSuffix(f.path, assetParam); asks {
			name = quoted(server+path+"&assetkey=") + `"${assetkey}"`
		}
		fmt.Fprintf(b, " %s", name)
	}
	fmt.Fprintf(b, "\n}\nmenuentry 'restart' {\n  reboot\n}\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// checkGrub refuses what GRUB would not pass on as it is.
func (p *Plan) checkGrub(s Session, from Relay) error {
	for _, w := range p.words(s, from) {
		if strings.ContainsRune(w, '\'') || strings.ContainsFunc(w, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return fault.New(fault.Invalid, "node %s cannot be given the kernel argument %q: the boot loader would not pass it on as it is", p.Node, w).
				WithFix("wulf node show %s --blame says who decided it", p.Node)
		}
	}
	return nil
}

// quoted is a text that GRUB's shell takes as it is.
func quoted(s string) string {
	return "'" + strings.Map(func(r rune) rune {
		switch {
		case r == '\'':
			return '_'
		case r < ' ' || r > '~':
			return '?'
		}
		return r
	}, s) + "'"
}
