package replication

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// ledger is a machine that remembers every command. "poison" is a command it cannot understand, "no…" one it rejects,
// "slow…" one that it works on for a tenth of a second.
type ledger struct {
	mu       sync.Mutex
	commands []string // appended to only, so a prefix of it is immutable
	restores int
}

func (l *ledger) Apply(entries []Entry) ([]any, error) {
	for _, e := range entries {
		if strings.HasPrefix(string(e.Command), "slow") {
			time.Sleep(100 * time.Millisecond)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]any, len(entries))
	for i, e := range entries {
		switch c := string(e.Command); {
		case c == "poison":
			return nil, fmt.Errorf("revision %d is of a kind that nobody knows", e.Revision)
		case c == "panic":
			panic("a bug")
		case strings.HasPrefix(c, "no"):
			out[i] = errors.New("rejected " + c)
		default:
			l.commands = append(l.commands, c)
			out[i] = len(l.commands)
		}
	}
	return out, nil
}

type lines []string

func (s lines) WriteTo(w io.Writer) (int64, error) {
	n, err := io.WriteString(w, strings.Join(s, "\n"))
	return int64(n), err
}

func (l *ledger) Snapshot() io.WriterTo {
	l.mu.Lock()
	defer l.mu.Unlock()
	return lines(l.commands[:len(l.commands):len(l.commands)])
}

func (l *ledger) Restore(r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.restores++
	l.commands = nil
	if len(b) > 0 {
		l.commands = strings.Split(string(b), "\n")
	}
	return nil
}

func (l *ledger) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.commands)
}

// cluster is some members over a testNet.
type cluster struct {
	t   *testing.T
	net *testNet
	dir string
	at  map[string]*member
}

type member struct {
	*Node
	machine *ledger
	cancel  context.CancelFunc
	ended   chan error // Run's answer
}

const testHeartbeat = time.Second

func newCluster(t *testing.T) *cluster {
	c := &cluster{t: t, net: newTestNet(), dir: t.TempDir(), at: make(map[string]*member)}
	t.Cleanup(c.stopAll)
	return c
}

func addr(id string) string { return id + ":4400" }

func (c *cluster) path(id string, elem ...string) string {
	return filepath.Join(append([]string{c.dir, id}, elem...)...)
}

func (c *cluster) config(id string) Config {
	out := io.Discard
	if os.Getenv("RAFTLOG") != "" {
		out = os.Stderr
	}
	return Config{
		ID: id, Dir: c.path(id), Addr: addr(id),
		Dial:   c.net.dialer(addr(id)),
		Logger: slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug})).With("at", id),
		Admit:  func(Member) error { return nil },

		Bootstrap: id == "c1", Peers: map[bool][]string{false: {addr("c1")}}[id == "c1"],
		Heartbeat: testHeartbeat, StableAfter: 2 * time.Second, Ballast: -1,
		FreeSpace: func() (uint64, uint64, error) { return 50 << 30, 100 << 30, nil },
	}
}

// start starts a member; change may alter its configuration.
func (c *cluster) start(id string, change ...func(*Config)) *member {
	c.t.Helper()
	cfg := c.config(id)
	for _, f := range change {
		f(&cfg)
	}
	cfg.Listener = c.net.listen(cfg.Addr)
	m := &member{machine: new(ledger), ended: make(chan error, 1)}
	n, err := New(cfg, m.machine)
	if err != nil {
		c.t.Fatal(err)
	}
	m.Node = n
	var ctx context.Context
	ctx, m.cancel = context.WithCancel(context.Background())
	c.net.mu.Lock()
	c.at[id] = m
	c.net.mu.Unlock()
	go func() { m.ended <- n.Run(ctx) }()
	return m
}

// stop ends a member in order and returns Run's answer.
func (c *cluster) stop(id string) error {
	m := c.at[id]
	if m == nil {
		return nil
	}
	m.cancel()
	err := <-m.ended
	c.net.mu.Lock()
	delete(c.at, id)
	c.net.mu.Unlock()
	return err
}

// kill ends a member without its peers hearing another byte from it.
func (c *cluster) kill(id string) {
	c.net.part(99, addr(id))
	c.stop(id)
	c.net.part(0, addr(id))
}

func (c *cluster) stopAll() {
	for _, m := range c.at {
		m.cancel()
	}
	for id := range c.at {
		c.stop(id)
	}
}

// grow starts members c1 to cN and waits until all vote.
func (c *cluster) grow(size int, change ...func(*Config)) {
	c.t.Helper()
	for i := range size {
		c.start(fmt.Sprintf("c%d", i+1), change...)
	}
	c.await("all members vote", func() bool {
		for _, m := range c.at {
			voters := 0
			for _, o := range m.Status().Members {
				if o.Voter {
					voters++
				}
			}
			if voters != size {
				return false
			}
		}
		return true
	})
}

// await waits up to two virtual minutes for a condition.
func (c *cluster) await(what string, ok func() bool) {
	c.t.Helper()
	for range 2400 {
		if ok() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	for id, m := range c.at {
		c.t.Logf("%s: %+v", id, m.Status())
	}
	c.t.Fatalf("two minutes passed, and not: %s", what)
}

// leader waits for a leader among the members that are on side 0, and returns its ID.
func (c *cluster) leader() string {
	c.t.Helper()
	var found string
	c.await("somebody leads", func() bool {
		for id, m := range c.at {
			c.net.mu.Lock()
			apart := c.net.side[addr(id)] != 0
			c.net.mu.Unlock()
			if !apart && m.Status().Role == Leader {
				found = id
				return true
			}
		}
		return false
	})
	return found
}

func within(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	time.AfterFunc(d+time.Millisecond, cancel)
	return ctx
}

// propose orders a command at whoever leads, and insists.
func (c *cluster) propose(command string) uint64 {
	c.t.Helper()
	for range 300 {
		rev, _, err := c.at[c.leader()].Propose(within(5*time.Second), []byte(command))
		if err == nil {
			return rev
		}
		if errors.Is(err, fault.Unknown) {
			c.t.Fatalf("proposing %s: %v", command, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	c.t.Fatalf("%s could not be ordered", command)
	return 0
}

// agree waits until all members have applied what the leader has, and checks that they have the same.
func (c *cluster) agree() []string {
	c.t.Helper()
	var rev uint64
	c.await("the leader knows the newest revision", func() bool {
		var err error
		rev, err = c.at[c.leader()].ReadIndex(within(2 * time.Second))
		return err == nil
	})
	var want []string
	var first string
	for id, m := range c.at {
		if err := m.Wait(within(time.Minute), rev); err != nil {
			c.t.Fatalf("%s: %v\n%+v", id, err, m.Status())
		}
		got := m.machine.all()
		if first == "" {
			want, first = got, id
		} else if !slices.Equal(got, want) {
			c.t.Fatalf("%s has %d commands, %s has %d, or others\n%q\n%q", id, len(got), first, len(want), got, want)
		}
	}
	return want
}
