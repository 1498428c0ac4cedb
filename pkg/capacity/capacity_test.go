package capacity

import (
	"fmt"
	"testing"
	"time"
)

func TestTable(t *testing.T) {
	for _, n := range []int{1000, 10000, 40000, 100000} {
		for _, l := range []float64{10, 25, 100} {
			t0 := time.Now()
			f, err := Predict(Site{Nodes: n, RelayLink: Link(l), Cold: true, Over: 10 * time.Second})
			if err != nil {
				t.Fatal(err)
			}
			fmt.Printf("%d %v up p50 %v p99 %v max %v image p50 %v max %v floor %v bound %s slots %d queue %d fill %v ideal %v copies %.2f uneven %.2f busy %.2f (%v)\n", n, l, f.Up.P50, f.Up.P99, f.Up.Max, f.Image.P50, f.Image.Max, f.Floor, f.Bound, f.Slots, f.Queue, f.Fill.Took, f.Fill.Ideal, f.Fill.Copies, f.Fill.Uneven, f.Busy, time.Since(t0))
		}
	}
}
