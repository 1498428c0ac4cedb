package replication

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkPropose orders commands of 300 bytes on real disks, over pipes, from so many callers at a time.
func BenchmarkPropose(b *testing.B) {
	for _, size := range []int{1, 3} {
		for _, callers := range []int{1, 64, 1024} {
			b.Run(fmt.Sprintf("members=%d/callers=%d", size, callers), func(b *testing.B) {
				n := benchCluster(b, size)
				var next atomic.Int64
				b.SetParallelism((callers + 1) / 2)
				b.ResetTimer()
				b.RunParallel(func(pb *testing.PB) {
					command := make([]byte, 300)
					for pb.Next() {
						copy(command, fmt.Sprint(next.Add(1)))
						if _, _, err := n.Propose(context.Background(), command); err != nil {
							b.Error(err)
							return
						}
					}
				})
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commands/s")
			})
		}
	}
}

// BenchmarkReadIndex asks for linearizable reads.
func BenchmarkReadIndex(b *testing.B) {
	for _, size := range []int{1, 3} {
		b.Run(fmt.Sprintf("members=%d", size), func(b *testing.B) {
			n := benchCluster(b, size)
			b.ResetTimer()
			for b.Loop() {
				if _, err := n.ReadIndex(context.Background()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// benchCluster starts members in real time and returns the leader.
func benchCluster(b *testing.B, size int) *Node {
	b.Helper()
	net := newTestNet()
	dir := b.TempDir()
	var nodes []*Node
	for i := range size {
		c := cluster{net: net, dir: dir}
		cfg := c.config(fmt.Sprintf("c%d", i+1))
		cfg.Heartbeat, cfg.StableAfter = 3*time.Second, 100*time.Millisecond
		cfg.Listener = net.listen(cfg.Addr)
		n, err := New(cfg, new(ledger))
		if err != nil {
			b.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		go n.Run(ctx)
		b.Cleanup(func() { cancel(); <-n.done })
		nodes = append(nodes, n)
	}
	deadline := time.After(time.Minute)
	for {
		changed := nodes[0].Changed()
		voters := 0
		for _, m := range nodes[0].Status().Members {
			if m.Voter {
				voters++
			}
		}
		if nodes[0].Status().Role == Leader && voters == size {
			return nodes[0]
		}
		select {
		case <-changed:
		case <-deadline:
			b.Fatalf("%+v", nodes[0].Status())
		}
	}
}
