package boot

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"
	"time"
)

// Parameters with which the screen of an unknown machine asks on.
const (
	ParamTries   = "tries"
	ParamSerial  = "serial"
	ParamUUID    = "uuid"
	ParamMaker   = "maker"
	ParamProduct = "product"
	ParamAsset   = "asset"
)

// MaxTries is as far as a machine's questions are counted: a machine that waits for a year asks so often.
const MaxTries = 1 << 20

// HoldUnknown is for how long a relay may hold the question of an unknown machine, which is answered as soon as a node
// claims it.
const HoldUnknown = 50 * time.Second

// patience is the silence that iPXE bears there, in milliseconds.
const patience = 90_000

// told is what iPXE says of the machine. Settings are expanded word by word, after the line was split into commands: what
// a board has in them is one argument, whatever it is. A UUID has a text form of its own.
const told = ParamSerial + "=${serial:uristring}&" + ParamUUID + "=${uuid}&" + ParamMaker + "=${manufacturer:uristring}&" +
	ParamProduct + "=${product:uristring}&" + ParamAsset + "=${asset:uristring}"

// writeUnknown is the screen of a machine that no node claims. It says what to type, and asks on until a node does: a relay
// that has room holds the question; else the machine sleeps, longer each time, so that a hall of them is no storm.
func (p *Plan) writeUnknown(b *strings.Builder, s Session) {
	hw := string(p.BootHardware)
	b.WriteString("imgfree\n") // each script that came before is held in memory
	if s.Tries == 0 {
		b.WriteString("echo\n")
		fmt.Fprintf(b, "echo wulfmesh: no node has the hardware address %s\n", hw)
		b.WriteString("echo   machine: ${manufacturer} ${product}\necho   serial:  ${serial}\n")
		where := ""
		if p.Network != nil {
			where = ", network " + string(p.Network.Name)
		}
		fmt.Fprintf(b, "echo   relay:   %s at %s%s\n", printable(string(p.Relays[0].Name)), p.Relays[0].at(), printable(where))
		fmt.Fprintf(b, "echo   to make it a node, type on a controller: wulf discover claim %s NODE\n", hw)
		b.WriteString("echo   it waits here, and boots within seconds of that\n")
	} else {
		fmt.Fprintf(b, "echo wulfmesh: still waiting for: wulf discover claim %s NODE\n", hw)
	}
	if pause := p.pause(s); pause > 0 {
		fmt.Fprintf(b, "sleep %d\n", pause/time.Second)
	}
	b.WriteString("set rounds:int32 0\n")
	sources := p.Sources()
	for i, r := range sources {
		next := fmt.Sprintf("relay%d", i+1)
		if i == len(sources)-1 {
			next = "again"
		}
		fmt.Fprintf(b, ":relay%d\nchain --timeout %d --replace http://%s/boot/%s/script?%s=%d&%s || goto %s\n", i, patience, r.loads(), hw, ParamTries, min(s.Tries+1, MaxTries), told, next)
	}
	// Where no relay answers, the link or the lease may be gone: to begin anew mends that.
	b.WriteString(":again\ninc rounds\niseq ${rounds} 5 && reboot ||\nsleep 15\ngoto relay0\n")
}

// pause is how long the machine sleeps before it asks on: 15 s, 30 s, 45 s, then a minute, each a quarter more or less, and
// differently from machine to machine. One whose question was held, or that has only been shown its screen, asks at once.
func (p *Plan) pause(s Session) time.Duration {
	if s.Tries == 0 || s.Held {
		return 0
	}
	base := 15 * time.Second * time.Duration(min(s.Tries, 4))
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", p.BootHardware, s.Tries))
	jitter := time.Duration(binary.BigEndian.Uint64(sum[:]) % uint64(base/2))
	return (base*3/4 + jitter).Truncate(time.Second)
}
