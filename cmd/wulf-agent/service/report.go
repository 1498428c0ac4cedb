package service

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/wulfmesh/wulfmesh/cmd/wulf-agent/files"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// maxNamed bounds the names in one sentence.
const maxNamed = 5

// report tells what became of a refresh, or of units that were told later.
func (r *runtime) report(result *files.Result, units string, took time.Duration) {
	e := boot.Event{Stage: boot.StageRefresh, Revision: r.revision, Error: r.problems.String()}
	if result != nil {
		e.Took = took
		parts := []string{counted("changed", result.Changed), counted("removed", result.Removed), counted("left as changed on the node", result.Left)}
		if e.Message = joined("; ", parts...); e.Message == "" {
			e.Message = "all files were as declared"
		}
	}
	if units != "" {
		e.Message = joined("; ", e.Message, "told "+units)
	}
	r.told = r.problems
	r.record(e)
	r.log.Info("runtime overlays: "+joined("; ", e.Message, e.Error), "revision", e.Revision)
}

func counted(what string, all []string) string {
	if len(all) == 0 {
		return ""
	}
	return fmt.Sprintf("%d %s: %s", len(all), what, some(all))
}

// some names the first few.
func some(all []string) string {
	if len(all) > maxNamed {
		return fmt.Sprintf("%s and %d more", strings.Join(all[:maxNamed], ", "), len(all)-maxNamed)
	}
	return strings.Join(all, ", ")
}

func failures(all []error) string {
	texts := make([]string, len(all))
	for i, err := range all {
		texts[i] = err.Error()
	}
	return some(texts)
}

// joined puts together what is not empty.
func joined(between string, parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), between)
}

// Relabelling: new files get the labels that the node's policy has for them, by the node's own program.
const (
	selinux     = "/sys/fs/selinux/enforce" // there while a policy is loaded
	relabelTime = time.Minute
	relabelMax  = 1000 // paths of one call
)

// relabel gives new files their SELinux labels. A replaced file has kept its own.
func (r *runtime) relabel(ctx context.Context, result *files.Result) {
	if _, err := os.Stat(selinux); err != nil || len(result.New) == 0 {
		return
	}
	program, err := exec.LookPath("restorecon")
	if err != nil {
		return // the kernel has given them those of their directories, which is all that is known here
	}
	ctx, cancel := context.WithTimeout(ctx, relabelTime)
	defer cancel()
	for some := range slices.Chunk(result.New, relabelMax) {
		args := []string{"-i", "--"}
		for _, p := range some {
			args = append(args, "/"+p)
		}
		if out, err := exec.CommandContext(ctx, program, args...).CombinedOutput(); err != nil {
			text := strings.TrimSpace(string(out[:min(len(out), 200)]))
			result.Failed = append(result.Failed, fault.Wrap(fault.Internal, err, "labels of new files: restorecon: %s", text))
			return
		}
	}
}
