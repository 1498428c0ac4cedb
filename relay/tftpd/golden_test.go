package tftpd_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/test/memnet"
)

var update = flag.Bool("update", false, "write the golden files anew")

// The packets of conversations, as firmware sees them: what goes out is what a client says (>), or a time in which it says
// nothing, and then all that comes of it (<).
func TestConversations(t *testing.T) {
	const pause = ""
	for name, says := range map[string][]string{
		"plain":            {"\x00\x01undionly.kpxe\x00octet\x00", "\x00\x04\x00\x01", "\x00\x04\x00\x02"},
		"options":          {"\x00\x01undionly.kpxe\x00octet\x00BLKSIZE\x001468\x00tsize\x000\x00timeout\x003\x00windowsize\x002\x00", "\x00\x04\x00\x00", "\x00\x04\x00\x02"},
		"options-bounded":  {"\x00\x01undionly.kpxe\x00octet\x00blksize\x0065464\x00timeout\x0060\x00windowsize\x00500\x00blksize2\x00512\x00"},
		"options-unusable": {"\x00\x01undionly.kpxe\x00octet\x00blksize\x007\x00windowsize\x000\x00tsize\x00x\x00multicast\x00\x00"},
		"length-only":      {"\x00\x01undionly.kpxe\x00octet\x00tsize\x000\x00blksize\x001468\x00", "\x00\x05\x00\x08terminated\x00", "\x00\x04\x00\x00"},
		"asked-twice":      {"\x00\x01undionly.kpxe\x00octet\x00tsize\x000\x00", "\x00\x01undionly.kpxe\x00octet\x00tsize\x000\x00", "\x00\x04\x00\x00", "\x00\x01undionly.kpxe\x00octet\x00tsize\x000\x00"},
		"twice-said":       {"\x00\x01undionly.kpxe\x00octet\x00", "\x00\x04\x00\x01", "\x00\x04\x00\x01", "\x00\x04\x00\x00", "\x00\x04\x00\x07"},
		"window-gap":       {"\x00\x01undionly.kpxe\x00octet\x00windowsize\x004\x00blksize\x0064\x00", "\x00\x04\x00\x00", "\x00\x04\x00\x01", "\x00\x04\x00\x01", "\x00\x04\x00\x05", "\x00\x04\x00\x05", "\x00\x04\x00\x05"},
		"silence":          {"\x00\x01undionly.kpxe\x00octet\x00blksize\x0064\x00", "\x00\x04\x00\x00", "\x00\x04\x00\x01", pause, pause, pause},
		"no-such-file":     {"\x00\x01pxelinux.0\x00octet\x00"},
		"netascii":         {"\x00\x01undionly.kpxe\x00netascii\x00"},
		"write":            {"\x00\x02undionly.kpxe\x00octet\x00"},
		"stray":            {"\x00\x04\x00\x05", "\x00\x03\x00\x05data", "\x00\x05\x00\x05unknown\x00", "\x00\x06x\x00"},
		"malformed":        {"\x00\x01undionly.kpxe", "\x00\x01", "\x00", "\x00\x07xxxxx"},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			bubble(t, func(n *memnet.Network, r *recorder, _ func()) {
				f := boots(t, n, "10.1.0.1")
				for _, s := range says {
					wait := 10 * time.Millisecond
					if s == pause {
						wait = 50 * time.Millisecond
						fmt.Fprintf(&out, "  %s of silence\n", wait)
					} else {
						fmt.Fprintf(&out, "> %q\n", s)
						f.send([]byte(s))
					}
					for end := time.Now().Add(wait); ; {
						p := f.hear(time.Until(end))
						if p == nil {
							break
						}
						if p[1] == 3 {
							fmt.Fprintf(&out, "< %q and %d bytes\n", p[:4], len(p)-4)
						} else {
							fmt.Fprintf(&out, "< %q\n", p)
						}
					}
				}
			})
			path := filepath.Join("testdata", name+".golden")
			if *update {
				if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(out.Bytes(), want) {
				t.Errorf("got\n%swant\n%s", out.Bytes(), want)
			}
		})
	}
}
