package tftpd

import (
	"net"
	"time"
)

// mtus is what the MTUs of this computer's interfaces were a moment ago.
type mtus struct {
	seen map[int]int
	at   time.Time
}

const mtuTime = 10 * time.Second

// of is the MTU of an interface by its index; what Ethernet has, if it is not known.
func (m *mtus) of(index int) int {
	if now := time.Now(); m.seen == nil || now.Sub(m.at) > mtuTime {
		m.seen, m.at = map[int]int{}, now
	}
	if mtu, ok := m.seen[index]; ok {
		return mtu
	}
	mtu := ethernet
	if i, err := net.InterfaceByIndex(index); err == nil && i.MTU > 0 {
		mtu = i.MTU
	}
	m.seen[index] = mtu
	return mtu
}
