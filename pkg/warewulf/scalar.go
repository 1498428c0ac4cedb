package warewulf

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// isUndef tells whether a text is a word with which wwctl takes a value away. In a file it is only a text.
func isUndef(text string) bool { return text == "UNDEF" || text == "UNSET" }

// text reads a text. Numbers and truths are texts here as they are written: 010 stays 010.
func (d *decoder) text(n *yaml.Node, path string) string {
	n = follow(n)
	if n.Kind != yaml.ScalarNode {
		d.wrong(n, path, "one text")
		return ""
	}
	if isNull(n) {
		return ""
	}
	if isUndef(n.Value) {
		d.add(LiteralUndef, Warning, path, where(n), fmt.Sprintf("%q is a value here: Warewulf takes it literally until it next writes the file", n.Value), "remove the key")
	}
	switch key := path[strings.LastIndexByte(path, '.')+1:]; key {
	case "hwaddr":
		d.checkMAC(n, path)
	case "port", "mtu", "prefixlen6", "number", "size_mib", "start_mib":
		if _, err := strconv.ParseUint(n.Value, 10, 63); err != nil && n.Value != "" && !isUndef(n.Value) {
			d.add(InvalidNumber, Error, path, where(n), fmt.Sprintf("%q is not a whole number", clip(n.Value)), "write it in digits")
		}
	}
	return n.Value
}

// checkMAC reports hardware addresses that nothing will match. Warewulf compares them as lower-case text.
func (d *decoder) checkMAC(n *yaml.Node, path string) {
	switch mac, ok := parseMAC(n.Value); {
	case n.Value == "" || isUndef(n.Value):
	case !ok:
		d.add(InvalidMAC, Error, path, where(n), fmt.Sprintf("%q is not a hardware address", clip(n.Value)), "write it as 52:54:00:12:34:56")
	case mac != n.Value:
		d.add(MixedCaseMAC, Note, path, where(n), fmt.Sprintf("%q is read as %s", clip(n.Value), mac), "none needed")
	}
}

// parseMAC gives the usual form of a hardware address of 6 bytes, or of InfiniBand's 8 or 20.
func parseMAC(text string) (string, bool) {
	digits := strings.Map(func(r rune) rune {
		switch {
		case r == ':' || r == '-' || r == '.':
			return -1
		case r >= 'A' && r <= 'F':
			return r + 'a' - 'A'
		case r >= '0' && r <= '9', r >= 'a' && r <= 'f':
			return r
		}
		return 'x'
	}, text)
	if n := len(digits); n != 12 && n != 16 && n != 40 || strings.Contains(digits, "x") {
		return "", false
	}
	var b strings.Builder
	for i := 0; i < len(digits); i += 2 {
		if i > 0 {
			b.WriteByte(':')
		}
		b.WriteString(digits[i : i+2])
	}
	return b.String(), true
}

// ip reads an address. What is none is reported, and is as if it were not there.
func (d *decoder) ip(n *yaml.Node, path string) IP {
	n = follow(n)
	if n.Kind != yaml.ScalarNode {
		d.wrong(n, path, "one address")
		return ""
	}
	if isNull(n) || n.Value == "" {
		return ""
	}
	ip, ok := parseIP(n.Value)
	if !ok {
		d.badAddress(n, path)
	}
	if ok && d.file == ConfigFile && ip.Addr() == IP(n.Value).Addr() {
		return IP(n.Value) // to Warewulf these are texts, and templates print them as they are written
	}
	return ip
}

func (d *decoder) badAddress(n *yaml.Node, path string) {
	if isUndef(n.Value) {
		d.add(LiteralUndef, Warning, path, where(n), fmt.Sprintf("%q stands where an address must be, and is dropped", n.Value), "remove the key")
		return
	}
	d.add(InvalidAddress, Error, path, where(n), fmt.Sprintf("%q is not an IP address, and is dropped", clip(n.Value)), "write it as 10.1.0.1, without leading zeros")
}

// cidr reads an address with the length of its prefix.
func (d *decoder) cidr(n *yaml.Node, path string) (addr IP, prefix netip.Prefix, ok bool) {
	p, err := netip.ParsePrefix(n.Value)
	if err != nil {
		d.badAddress(n, path)
		return "", p, false
	}
	return IP(p.Addr().Unmap().String()), p, true
}

// mask is the netmask of an IPv4 prefix.
func mask(p netip.Prefix) IP {
	bits := uint32(^uint64(0) << (32 - p.Bits()))
	return IP(netip.AddrFrom4([4]byte{byte(bits >> 24), byte(bits >> 16), byte(bits >> 8), byte(bits)}).String())
}

func (d *decoder) bool(n *yaml.Node, path string) Bool {
	text := d.text(n, path)
	if _, known := parseBool(text); text != "" && !known && d.err == nil {
		d.add(InvalidBoolean, Warning, path, where(n), fmt.Sprintf("%q is neither true nor false", clip(text)), "write true or false")
	}
	return Bool(text)
}

func (d *decoder) boolPtr(n *yaml.Node, path string) *bool {
	text := d.text(n, path)
	v, known := parseBool(text)
	switch {
	case text == "" || isUndef(text) || d.err != nil:
		return nil
	case !known:
		d.wrong(n, path, "true or false")
		return nil
	}
	return &v
}

// number reads a whole number; 0 is none.
func (d *decoder) number(n *yaml.Node, path string) int {
	n = follow(n)
	if isNull(n) {
		return 0
	}
	i, err := strconv.ParseUint(n.Value, 10, 31)
	if n.Kind != yaml.ScalarNode || err != nil {
		d.wrong(n, path, "a whole number")
	}
	return int(i)
}

func (d *decoder) list(n *yaml.Node, path string) []string {
	n = follow(n)
	if isNull(n) {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		d.wrong(n, path, "a list of texts")
		return nil
	}
	out := make([]string, 0, len(n.Content))
	for i, item := range n.Content {
		if d.count(item, path) {
			out = append(out, d.text(item, fmt.Sprintf("%s[%d]", path, i)))
		}
	}
	return out
}

func (d *decoder) texts(n *yaml.Node, path string) map[string]string {
	n = follow(n)
	if isNull(n) {
		return nil
	}
	pairs := d.pairs(n, path)
	out := make(map[string]string, len(pairs))
	for _, p := range pairs {
		value := follow(p.value)
		if value.Kind != yaml.ScalarNode {
			d.wrong(value, join(path, p.name), "one text")
			return nil
		}
		if !isNull(value) && isUndef(value.Value) {
			d.text(value, join(path, p.name))
		}
		out[p.name] = value.Value
		if isNull(value) {
			out[p.name] = ""
		}
	}
	return out
}

// any reads a value of any shape: maps, lists, texts, numbers and truths, nil.
func (d *decoder) any(n *yaml.Node, path string) any {
	n = follow(n)
	if !d.count(n, path) {
		return nil
	}
	if d.depth++; d.depth > maxDepth {
		d.fail(n, path, fmt.Sprintf("it is nested deeper than %d levels, or an anchor contains itself", maxDepth), "")
	}
	defer func() { d.depth-- }()
	switch n.Kind {
	case yaml.MappingNode:
		pairs := d.pairs(n, path)
		out := make(map[string]any, len(pairs))
		for _, p := range pairs {
			out[p.name] = d.any(p.value, join(path, p.name))
		}
		return out
	case yaml.SequenceNode:
		out := make([]any, 0, len(n.Content))
		for i, item := range n.Content {
			out = append(out, d.any(item, fmt.Sprintf("%s[%d]", path, i)))
		}
		return out
	}
	switch n.ShortTag() {
	case "!!null":
		return nil
	case "!!bool":
		return n.Value == "true" || n.Value == "True" || n.Value == "TRUE"
	case "!!int", "!!float":
		var v any
		if err := n.Decode(&v); err == nil && isFinite(v) {
			return v
		}
	}
	return n.Value // times and the like stay as they are written
}

// isFinite tells whether JSON can say a number.
func isFinite(v any) bool {
	f, ok := v.(float64)
	return !ok || f-f == 0
}
