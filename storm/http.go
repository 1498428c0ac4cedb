package storm

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// connectTime is how long firmware and iPXE try to connect: iPXE's SYNs wait a quarter of a second and then twice as
// long each, up to ten seconds.
const connectTime = 15750 * time.Millisecond

// maxScript bounds what is kept of an answer.
const maxScript = 16 << 20

// dial connects from the machine's own address.
func (m *machine) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return (&net.Dialer{Timeout: connectTime, KeepAlive: -1, LocalAddr: &net.TCPAddr{IP: m.Address.AsSlice()}}).DialContext(ctx, network, addr)
}

// get fetches a file by plain HTTP as iPXE does, and keeps it if it is to. Where nothing comes for the time given it is
// given up; 0 is for ever. A file whose name is its digest is verified, which iPXE does not: somebody has to notice.
func (m *machine) get(ctx context.Context, raw string, progress time.Duration, keep bool) ([]byte, int64, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "http" {
		return nil, 0, fmt.Errorf("%q is no URL for firmware", raw)
	}
	conn, err := m.dial(ctx, "tcp4", u.Host)
	if err != nil {
		return nil, 0, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	if err := m.ask(conn, u); err != nil {
		return nil, 0, err
	}
	alarm := func() {
		if progress > 0 && ctx.Err() == nil {
			conn.SetReadDeadline(time.Now().Add(progress))
		}
	}
	alarm()
	a, err := http.ReadResponse(bufio.NewReaderSize(conn, 4<<10), nil)
	if err != nil {
		return nil, 0, err
	}
	defer a.Body.Close()
	if a.StatusCode != http.StatusOK {
		return nil, 0, fmt.Errorf("HTTP status %d", a.StatusCode)
	}
	body, n, sum, err := m.drain(a.Body, keep, alarm)
	if err != nil {
		return nil, n, err
	}
	m.count(u.Hostname(), n)
	m.storm.tally.bytes.Add(n)
	return body, n, m.verify(u, sum, n)
}

// ask sends a request as iPXE words it.
func (m *machine) ask(conn net.Conn, u *url.URL) error {
	conn.SetWriteDeadline(time.Now().Add(connectTime))
	_, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nConnection: close\r\nUser-Agent: iPXE/1.21.1\r\nHost: %s\r\n\r\n", u.RequestURI(), u.Host)
	return err
}

// drain reads a body to its end.
func (m *machine) drain(r io.Reader, keep bool, alarm func()) (body []byte, n int64, sum hash.Hash, err error) {
	buffer := m.storm.buffers.Get().(*[]byte)
	defer m.storm.buffers.Put(buffer)
	sum = sha256.New()
	for {
		k, err := r.Read(*buffer)
		_, _ = sum.Write((*buffer)[:k])
		if n += int64(k); keep && n <= maxScript {
			body = append(body, (*buffer)[:k]...)
		}
		switch {
		case err == io.EOF && keep && n > maxScript:
			return nil, n, sum, fmt.Errorf("the answer has more than %d bytes", maxScript)
		case err == io.EOF:
			return body, n, sum, nil
		case err != nil:
			return nil, n, sum, err
		}
		alarm()
	}
}

// verify holds a file against its name.
func (m *machine) verify(u *url.URL, sum hash.Hash, n int64) error {
	const path = "/chunk/"
	t := m.storm.tally
	if len(u.Path) < len(path) || u.Path[:len(path)] != path {
		return nil // it has no name to be held against: a script
	}
	id, err := chunk.ParseID(u.Path[len(path):])
	if err != nil {
		return err
	}
	if chunk.ID(sum.Sum(nil)) != id {
		t.wrong.Add(1)
		return fault.New(fault.Corrupt, "%s sent something else than %s", u.Host, id.Short())
	}
	t.verified(id, n)
	return nil
}
