// Command wulf is the whole of wulfmesh on the machines that serve: the administrator's command line, the controller
// and the relay. What it does is in package cli; here a process is turned into values and an exit code back into one.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/wulfmesh/wulfmesh/cmd/wulf/cli"
	"github.com/wulfmesh/wulfmesh/cmd/wulf/workdir"
)

var version = "dev" // the linker puts the release here

func main() {
	if len(os.Args) == 2 && os.Args[1] == workdir.ChildArg {
		os.Exit(workdir.Child()) // of wulf image shell and exec
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends a program that does not end by itself
	os.Exit(cli.Run(ctx, cli.Env{
		Args: os.Args[1:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv, Version: version,
	}))
}
