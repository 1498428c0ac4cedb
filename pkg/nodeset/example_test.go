package nodeset_test

import (
	"fmt"

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
