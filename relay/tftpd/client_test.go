package tftpd_test

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Clients that others wrote get the program, byte for byte.
func TestIndependentClients(t *testing.T) {
	for _, single := range []bool{false, true} {
		addr, _ := start(t, single, true)
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			t.Fatal(err)
		}
		for name, command := range map[string][]string{
			"curl":        {"curl", "--silent", "--show-error", "--max-time", "10", "tftp://" + addr + "/undionly.kpxe", "-o"},
			"curl, small": {"curl", "--silent", "--show-error", "--max-time", "10", "--tftp-no-options", "tftp://" + addr + "/undionly.kpxe", "-o"},
			"busybox":     {"busybox", "tftp", "-g", "-b", "1468", "-r", "undionly.kpxe", host, port, "-l"},
			"atftp":       {"atftp", "--option", "blksize 1468", "-g", "-r", "undionly.kpxe", host, port, "-l"},
		} {
			t.Run(name, func(t *testing.T) {
				if _, err := exec.LookPath(command[0]); err != nil {
					t.Skipf("SKIPPED: %s is not installed", command[0])
				}
				file := filepath.Join(t.TempDir(), "program")
				if out, err := exec.Command(command[0], append(command[1:], file)...).CombinedOutput(); err != nil {
					t.Fatalf("%v: %v: %s", command, err, out)
				}
				if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, program) {
					t.Errorf("%d bytes, %v", len(got), err)
				}
			})
		}
	}
}
