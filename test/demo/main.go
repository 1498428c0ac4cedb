// Command demo shows the product's main job on one computer: it founds a cluster of three controllers and two relays in
// network namespaces, boots machines with real firmware in QEMU from it, and boots them again while the leader, a relay,
// and at last every controller is gone. It prints what happened and succeeds only if all of that held.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/wulfmesh/wulfmesh/test/rig"
)

// patience bounds the whole demo.
const patience = 10 * time.Minute

func main() {
	stay := flag.Bool("stay", false, "keep the cluster, once its machines are up, until CTRL-C, to play with")
	flag.Parse()
	if missing := rig.Missing(); missing != nil {
		fmt.Fprintf(os.Stderr, "\n!!! demo: this computer lacks %s\n!!! run scripts/install-deps as root\n\n", strings.Join(missing, ", "))
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Stdout, *stay)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "\ndemo FAILED: %v\n", err)
		os.Exit(1)
	}
}
