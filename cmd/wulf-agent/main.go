// Command wulf-agent runs on nodes: as their first program it boots them, later it is their service.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/wulfmesh/wulfmesh/cmd/wulf-agent/service"
	"github.com/wulfmesh/wulfmesh/cmd/wulf-agent/stageone"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// version is set by the build.
var version = "dev"

func main() {
	if os.Getpid() == 1 {
		stageone.Main()
	}
	switch {
	case len(os.Args) == 2 && os.Args[1] == "version":
		fmt.Println("wulf-agent", version)
	case len(os.Args) == 2 && os.Args[1] == "run":
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		if err := service.Run(ctx, service.Config{Root: "/", Log: slog.New(slog.NewTextHandler(os.Stderr, nil))}); err != nil {
			fmt.Fprintln(os.Stderr, "error:", err)
			if fix := fault.Fix(err); fix != "" {
				fmt.Fprintln(os.Stderr, "fix:", fix)
			}
			os.Exit(1)
		}
	default:
		fmt.Fprintln(os.Stderr, "usage: wulf-agent run | version\nIt is started by wulfmesh's stage one and by the node's init, not by hand.")
		os.Exit(2)
	}
}
