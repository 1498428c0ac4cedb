// Command node writes a tree's sums to standard output. As a node's init it is the first program that runs from the node's
// root: it sums that root before anything of the distribution has touched it, sends the sums through the second serial
// port, and switches the machine off.
package main

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wulfmesh/wulfmesh/test/treesum"
)

func main() {
	err := errors.New("usage: node DIRECTORY")
	switch {
	case os.Getpid() == 1:
		err = onNode()
		fmt.Printf("treesum: end: %v\r\n", err)
		time.Sleep(100 * time.Millisecond) // the console is slower than the switch
		unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	case len(os.Args) == 2:
		err = write(os.Stdout, os.Args[1])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func write(w io.Writer, root string) error {
	entries, err := treesum.Sum(root)
	if err != nil {
		return err
	}
	return treesum.Write(w, entries)
}

// onNode sums the root without what is mounted on it: a bind mount shows the directories below the mount points.
func onNode() error {
	const bare = "/run/treesum"
	if err := os.Mkdir(bare, 0o700); err != nil {
		return err
	}
	if err := unix.Mount("/", bare, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("binding the root: %w", err)
	}
	port, err := os.OpenFile("/dev/ttyS1", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	defer port.Close()
	tio, err := unix.IoctlGetTermios(int(port.Fd()), unix.TCGETS)
	if err != nil {
		return err
	}
	tio.Oflag &^= unix.OPOST // bytes are sent as they are
	tio.Iflag &^= unix.IXON
	tio.Lflag &^= unix.ECHO | unix.ICANON | unix.ISIG
	tio.Cflag = tio.Cflag&^unix.CBAUD | unix.B115200 | unix.CLOCAL
	if err := unix.IoctlSetTermios(int(port.Fd()), unix.TCSETS, tio); err != nil {
		return err
	}
	z := gzip.NewWriter(port)
	if err := write(z, bare); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	return unix.IoctlSetInt(int(port.Fd()), unix.TCSBRK, 1) // until the last byte has left
}
