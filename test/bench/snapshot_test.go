//go:build bench

package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/replication"
)

// snapshots measures what a controller does every few thousand changes: it writes its whole state to disk, while it goes
// on. No command makes a controller do so now. So the catalog that the cluster holds is put under a log of one member in
// this process, on the same disk, which is told to.
func (s *scale) snapshots() {
	s.t.Helper()
	now, err := s.catalog()
	if err == nil && now.NodeCount() != s.nodes() {
		err = fmt.Errorf("it has %d nodes", now.NodeCount())
	}
	if err != nil {
		s.t.Errorf("fetching the catalog: %v", err)
		return
	}
	ctx, stop := context.WithCancel(s.ctx)
	node, ended, err := s.aloneWith(ctx, now)
	if err != nil {
		s.t.Error(err)
		stop()
		return
	}
	s.report.duration("snapshot, from the catalog to the disk", targetSnapshot, runs, func(run int) (time.Duration, error) {
		if err := propose(ctx, node, fmt.Sprint("run ", run)); err != nil { // it would not store twice what it has
			return 0, err
		}
		start := time.Now()
		err := node.Snapshot(ctx)
		return time.Since(start), err
	})
	stop()
	if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
		s.t.Error(err)
	}
	var stored bytes.Buffer
	if _, err := now.WriteTo(&stored); err != nil {
		s.t.Error(err)
	}
	s.report.duration(fmt.Sprintf("reading such a snapshot of %d MB", stored.Len()/1e6), 0, runs, func(int) (time.Duration, error) {
		start := time.Now()
		_, err := catalog.ReadSnapshot(bytes.NewReader(stored.Bytes()))
		return time.Since(start), err
	})
}

// catalog fetches what the cluster holds, as relays do: a snapshot that may be older, and what happened since.
func (s *scale) catalog() (*catalog.Catalog, error) {
	client := api.NewClient(api.ClientConfig{Endpoints: func() []string { return []string{api.UnixScheme + s.controllers[0].socket()} }})
	defer client.Close()
	news, err := client.Catalog(s.ctx, 0, 0)
	if err != nil {
		return nil, err
	}
	now := news.Snapshot
	if news, err = client.Catalog(s.ctx, now.Revision, 0); err != nil {
		return nil, err
	}
	if news.Delta == nil {
		return news.Snapshot, nil
	}
	return api.Follow(now, news.Delta)
}

// aloneWith starts a log of one member whose state is this catalog.
func (s *scale) aloneWith(ctx context.Context, c *catalog.Catalog) (*replication.Node, <-chan error, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	node, err := replication.New(replication.Config{
		ID: "alone", Dir: filepath.Join(s.dir, "alone"), Addr: l.Addr().String(), Listener: l, Bootstrap: true,
		Dial:   (&net.Dialer{}).DialContext,
		Logger: slog.New(slog.DiscardHandler),
	}, still{c})
	if err != nil {
		l.Close()
		return nil, nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- node.Run(ctx) }()
	return node, ended, nil
}

// propose orders a command, when the log is ready for it.
func propose(ctx context.Context, node *replication.Node, command string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		_, _, err := node.Propose(ctx, []byte(command))
		if err == nil || ctx.Err() != nil {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// still is a state that no command changes.
type still struct{ *catalog.Catalog }

func (s still) Apply(entries []replication.Entry) ([]any, error) {
	return make([]any, len(entries)), nil
}
func (s still) Snapshot() io.WriterTo   { return s.Catalog }
func (s still) Restore(io.Reader) error { return errors.New("there is nothing to restore") }
