package tftpd

import (
	"errors"
	"net"
	"os"
	"time"
)

// steady is a connection for the library's single-port mode. The library reads again at once after any error: over a
// socket that somebody closed it would spin until its last transfer has timed out, and in virtual time, which stands
// still while a goroutine runs, for ever. So a closed connection looks like one on which nothing comes.
type steady struct{ net.PacketConn }

func (c steady) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := c.PacketConn.ReadFrom(b)
	if errors.Is(err, net.ErrClosed) {
		time.Sleep(100 * time.Millisecond)
		err = os.ErrDeadlineExceeded
	}
	return n, from, err
}
