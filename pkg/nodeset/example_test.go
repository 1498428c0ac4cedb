package nodeset_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/nodeset"
)

func ExampleParse() {
	set, err := nodeset.Parse("r[01-02]n[1-48]!r01n7")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(set.Len(), set)
	// Output: 95 r01n[1-6,8-48],r02n[1-48]
}

func ExampleParse_wrong() {
	_, err := nodeset.Parse("rack7@compute")
	fmt.Println(err)
	fmt.Println(fault.Fix(err))
	// Output:
	// node set "rack7@compute" at 6: "@" has no place here
	// for what is in both, write "rack7&@compute"
}

// racks knows one source of groups.
type racks map[string][]string

func (r racks) Group(source, name string) ([]string, error) {
	names, ok := r[name]
	if source != "rack" || !ok {
		return nil, fault.New(fault.NotFound, "no group %s:%s", source, name)
	}
	return names, nil
}

func ExampleParser_Parse() {
	p := nodeset.Parser{Groups: racks{"r07": {"r07n1", "r07n2", "r07n3"}}}
	set, err := p.Parse("@rack:r07!r07n2")
	fmt.Println(set, err)
	_, err = p.Parse("@rack:r08")
	fmt.Println(err)
	// Output:
	// r07n[1,3] <nil>
	// node set "@rack:r08" at 1: "@rack:r08": no group rack:r08
}

func ExampleFold() {
	fmt.Println(nodeset.Fold([]string{"n10", "n8", "n9", "login", "n1"}))
	// Output: login,n[1,8-10]
}

func ExampleSet_Fold() {
	set, _ := nodeset.Parse("n[0-12/4],login")
	fmt.Println(set)
	fmt.Println(set.Fold(nodeset.FoldOptions{Autostep: 3}))
	// Output:
	// login,n[0,4,8,12]
	// login,n[0-12/4]
}

func ExampleSet_Split() {
	set, _ := nodeset.Parse("r[1-2]n[1-5]")
	for _, part := range set.Split(3) {
		fmt.Println(part)
	}
	// Output:
	// r1n[1-4]
	// r1n5,r2n[1-2]
	// r2n[3-5]
}

func ExampleSet_Contiguous() {
	set, _ := nodeset.Parse("n[1-3,5,8-9]")
	fmt.Println(set.Contiguous())
	// Output: [n[1-3] n5 n[8-9]]
}

func ExampleSet_Pick() {
	set, _ := nodeset.Parse("n[1-1000]")
	seed := uint64(2026) // who notes it can pick the same nodes again
	a := set.Pick(3, rand.New(rand.NewPCG(seed, 0)))
	b := set.Pick(3, rand.New(rand.NewPCG(seed, 0)))
	fmt.Println(a.Len(), a.Equal(b))
	// Output: 3 true
}

func ExampleSet_json() {
	var job struct {
		Nodes nodeset.Set `json:"nodes"`
	}
	err := json.Unmarshal([]byte(`{"nodes": "n3,n1,n2"}`), &job)
	fmt.Println(job.Nodes.Len(), err)
	text, _ := json.Marshal(job)
	fmt.Println(string(text))
	err = json.Unmarshal([]byte(`{"nodes": "n[3-1]"}`), &job)
	fmt.Println(err)
	// Output:
	// 3 <nil>
	// {"nodes":"n[1-3]"}
	// node set "n[3-1]" at 3: the range 3-1 runs backwards
}

func ExampleRegroup() {
	group := func(source, name, members string) nodeset.Group {
		set, _ := nodeset.Parse(members)
		return nodeset.Group{Source: source, Name: name, Set: set}
	}
	groups := []nodeset.Group{
		group("rack", "r1", "r1n[1-48]"),
		group("rack", "r2", "r2n[1-48]"),
		group("rack", "r3", "r3n[1-48]"),
	}
	set, _ := nodeset.Parse("r[1-2]n[1-48],r3n[1-4]")
	fmt.Println(nodeset.Regroup(set, groups))
	// Output: @rack:r[1-2],r3n[1-4]
}

func ExampleFormula() {
	address, err := nodeset.ParseFormula("10.1.{n1}.{n2+100}")
	if err != nil {
		fmt.Println(err)
		return
	}
	set, _ := nodeset.Parse("r3n[12-13],login1")
	for name := range set.All() {
		fmt.Println(address.Eval(name))
	}
	// Output:
	//  formula "10.1.{n1}.{n2+100}" at 12: the name "login1" has no number n2
	// 10.1.3.112 <nil>
	// 10.1.3.113 <nil>
}
