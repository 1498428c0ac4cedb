package warewulf

import (
	"slices"
	"testing"
)

func TestNodesDifferInWhatWarewulfTellsApart(t *testing.T) {
	parse := func(text string) Merged {
		n, err := ParseNodes([]byte("nodes:\n  n1:\n" + text))
		if err != nil {
			t.Fatal(err)
		}
		m, _, _, err := n.Merged("n1")
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	for _, c := range []struct {
		name, before, after string
		want                []Difference
	}{
		{"the same in other words", "    discoverable: yes\n    network devices: {a: {hwaddr: '52:54:00:AA:00:01', mtu: 1500, onboot: 'no'}}\n",
			"    discoverable: 'true'\n    network devices: {a: {hwaddr: '52:54:00:aa:00:01', mtu: '1500', onboot: 'false'}}\n", nil},
		{"values, lists, and what one has only", "    init: /sbin/init\n    kernel: {args: [a, b]}\n    tags: {x: '1'}\n    resources: {r: {d: [1, 2]}}\n",
			"    init: /init\n    kernel: {args: [b, a]}\n    root: tmpfs\n    resources: {r: {d: [1, 2], e: 3}}\n", []Difference{
				{"init", "/sbin/init", "/init"}, {"kernel.args", `["a","b"]`, `["b","a"]`}, {"resources.r.e", "", "3"}, {"root", "", "tmpfs"}, {"tags.x", "1", ""},
			}},
	} {
		got, err := Differ(parse(c.before), parse(c.after))
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %+v, %v; want %+v", c.name, got, err, c.want)
		}
	}
}
