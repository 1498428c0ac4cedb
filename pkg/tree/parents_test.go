package tree

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
)

// Parents says in one go what Above says one by one, whatever is down and whoever follows whom.
func TestParentsAreWhomRelaysAskFirst(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		odd := rapid.Bool().Draw(t, "odd")
		var relays []Relay
		for i := range rapid.IntRange(0, 60).Draw(t, "relays") {
			r := Relay{
				Name: fmt.Sprintf("r%d", i),
				Rack: []string{"", "a", "b", "c"}[rapid.IntRange(0, 3).Draw(t, "rack")],
				Zone: []string{"", "x", "y"}[rapid.IntRange(0, 2).Draw(t, "zone")],
			}
			if odd {
				r.Down = rapid.IntRange(0, 3).Draw(t, "down") == 0
				if i > 0 && rapid.IntRange(0, 5).Draw(t, "follows") == 0 {
					r.Follows = fmt.Sprintf("r%d", rapid.IntRange(0, i-1).Draw(t, "whom"))
				}
			}
			relays = append(relays, r)
		}
		tree := New(relays).Tree(chunk.Ref{ID: chunk.Of([]byte{byte(rapid.IntRange(0, 255).Draw(t, "chunk"))}), Size: rapid.SampledFrom([]int64{1 << 20, 8 << 20}).Draw(t, "size")})
		parents := tree.Parents()
		if len(parents) != len(relays) {
			t.Fatalf("%d relays have a parent of %d", len(parents), len(relays))
		}
		for _, r := range relays {
			want := ""
			for _, u := range tree.Above(r.Name) {
				if !u.Kept {
					want = u.Name
					break
				}
			}
			if got := parents[r.Name]; got != want {
				t.Fatalf("%s asks %q, and by Above %q", r.Name, got, want)
			}
		}
	})
}
