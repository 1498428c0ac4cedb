package stageone

import (
	"bytes"
	"testing"
)

func FuzzKernelHeader(f *testing.F) {
	f.Add([]byte("MZ"))
	f.Add(append(make([]byte, 0x202), "HdrS"...))
	zboot := append(make([]byte, 64), "PE\x00\x00\x64\xaa"...)
	copy(zboot, "MZ\x00\x00zimg\x40\x00\x00\x00\xff\x00\x00\x00")
	zboot[60] = 64
	f.Add(append(zboot, "Linux version 6.1 (a)"...))
	f.Add(append(append(make([]byte, 56), "ARM\x64"...), "Linux version 6.1 (a)"...))
	f.Fuzz(func(t *testing.T, b []byte) {
		id, err := readIdentity(bytes.NewReader(b))
		if err == nil && (id.arch != "" && id.arch != "amd64" && id.arch != "arm64" || id.version != "" && !version.MatchString(id.version)) {
			t.Errorf("%+v", id)
		}
	})
}

func FuzzVersions(f *testing.F) {
	f.Add("6.1.0-18-amd64", "6.1.0-9", "6.9-rc1")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		ab, bc, ac := CompareVersions(a, b), CompareVersions(b, c), CompareVersions(a, c)
		if ab != -CompareVersions(b, a) || CompareVersions(a, a) != 0 || ab <= 0 && bc <= 0 && ac > 0 {
			t.Errorf("%q %q %q are in no order: %d %d %d", a, b, c, ab, bc, ac)
		}
	})
}
