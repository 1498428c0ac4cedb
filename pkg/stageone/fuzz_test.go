package stageone

import (
	"bytes"
	"os"
	"testing"
)

func FuzzFirmware(f *testing.F) {
	if self, err := os.ReadFile("/proc/self/exe"); err == nil {
		f.Add(bytes.Clone(self[:4096]))
	}
	f.Add([]byte("\x7fELF\x02\x01\x01"))
	f.Fuzz(func(t *testing.T, b []byte) { firmwareOf(b) })
}

func FuzzKernelHeader(f *testing.F) {
	f.Add([]byte("MZ"))
	f.Add(append(make([]byte, 0x202), "HdrS"...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if a := headerArch(b); a != "" && a != "amd64" && a != "arm64" {
			t.Errorf("architecture %q", a)
		}
	})
}
