package dhcpd

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// holder names the program that holds a UDP port, as far as this process may know.
func holder(port int) string {
	unknown := fmt.Sprintf("UDP port %d is taken", port)
	table, err := os.ReadFile("/proc/thread-self/net/udp") // /proc/net would be the network namespace of the process, not ours
	if err != nil {
		return unknown
	}
	for line := range strings.Lines(string(table)) {
		f := strings.Fields(line)
		if len(f) < 10 || !strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) {
			continue
		}
		fds, err := filepath.Glob("/proc/[0-9]*/fd/*")
		if err != nil {
			return unknown
		}
		for _, fd := range fds {
			if target, err := os.Readlink(fd); err != nil || target != "socket:["+f[9]+"]" {
				continue
			}
			pid := strings.Split(fd, "/")[2]
			name, err := os.ReadFile("/proc/" + pid + "/comm")
			if err != nil {
				return unknown
			}
			return fmt.Sprintf("%s (process %s) holds UDP port %d", strings.TrimSpace(string(name)), pid, port)
		}
	}
	return unknown
}
