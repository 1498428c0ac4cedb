package catalog

import (
	"iter"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

var addrType = reflect.TypeFor[netip.Addr]()

// ParseSetting makes Settings that decide one thing: the setting at a path, from its text. Lists are words with commas
// between them, kernel arguments with spaces, SSH keys lines; a resource is JSON, or text if it is none. A path that
// names no setting and a text that does not fit are fault.Invalid.
func ParseSetting(path, text string) (Settings, error) {
	var s Settings
	if path == "without" {
		return s, fault.New(fault.Invalid, "what a node is without is said by --without PATH")
	}
	p, err := placeOf(path)
	if err != nil {
		return s, err
	}
	if err := p.set(&s, text); err != nil {
		return Settings{}, err
	}
	return s, nil
}

// place is where in Settings a path leads. It is found once where many nodes get a value of their own there.
type place struct {
	path  string
	steps []placeStep
}

// placeStep is a field of a struct, or a key of a map.
type placeStep struct {
	field int
	key   reflect.Value
}

func placeOf(path string) (place, error) {
	words := strings.Split(path, ".")
	if len(path) > maxPath || words[0] == "without" {
		return place{}, noSetting(path)
	}
	p := place{path: path}
	return p, p.find(reflect.TypeFor[Settings](), words)
}

// maxPath bounds the bytes of a path.
const maxPath = 512

func (p *place) find(t reflect.Type, words []string) error {
	switch {
	case t.Kind() == reflect.Map:
		return p.findKey(t, words)
	case t.Kind() == reflect.Struct:
		if len(words) == 0 {
			return fault.New(fault.Invalid, "%q is not one setting but a group of them", clip(p.path)).WithFix("name one of %s", strings.Join(paths(t, p.path), ", "))
		}
		for i := range t.NumField() {
			if jsonName(t.Field(i)) == words[0] {
				p.steps = append(p.steps, placeStep{field: i})
				return p.find(t.Field(i).Type, words[1:])
			}
		}
		return noSetting(p.path)
	case len(words) > 0:
		return noSetting(p.path)
	}
	return nil
}

// findKey finds a key of a map. Where a key and what follows it can be told apart in two ways, the shorter key counts:
// nets.eth0.tags.mtu is a tag of eth0, and nets.eth0.12.mtu a setting of eth0.12.
func (p *place) findKey(t reflect.Type, words []string) error {
	if slices.Contains(words, "") || len(words) == 0 {
		return noSetting(p.path)
	}
	n := len(words) // of the words that make the key
	if t.Elem().Kind() == reflect.Struct {
		for n = 1; !undecide(reflect.New(t.Elem()).Elem(), words[n:]); n++ { // ends: no words stand for the whole element
		}
		if last := len(words) - 1; n > last && last > 0 {
			return p.unknown(words, fields(t.Elem()))
		}
	}
	p.steps = append(p.steps, placeStep{key: reflect.ValueOf(strings.Join(words[:n], "."))})
	return p.find(t.Elem(), words[n:])
}

// unknown says that an element of a map has no setting of the name that the path ends with.
func (p *place) unknown(words []string, known iter.Seq[string]) error {
	last := words[len(words)-1]
	if best := Nearest(last, known, 2); best != "" {
		return fault.New(fault.Invalid, "no setting is called %q", clip(p.path)).WithFix("did you mean %s?", strings.TrimSuffix(p.path, last)+best)
	}
	return noSetting(p.path)
}

// set decides what is at the place in s from its text. Maps on the way must be those of s alone.
func (p place) set(s *Settings, text string) error {
	return p.setIn(reflect.ValueOf(s).Elem(), p.steps, text)
}

func (p place) setIn(v reflect.Value, steps []placeStep, text string) error {
	switch {
	case len(steps) == 0:
		return setText(v, p.path, text)
	case v.Kind() == reflect.Struct:
		return p.setIn(v.Field(steps[0].field), steps[1:], text)
	}
	elem := reflect.New(v.Type().Elem()).Elem()
	if old := v.MapIndex(steps[0].key); old.IsValid() {
		elem.Set(old)
	}
	if err := p.setIn(elem, steps[1:], text); err != nil {
		return err
	}
	if v.IsNil() {
		v.Set(reflect.MakeMapWithSize(v.Type(), 1))
	}
	v.SetMapIndex(steps[0].key, elem)
	return nil
}

// setText sets a value without parts from its text.
func setText(v reflect.Value, path, text string) error {
	wrong := func(what, fix string) error {
		return fault.New(fault.Invalid, "%s: %q is not %s", path, clip(text), what).WithFix("%s", fix)
	}
	switch p := v.Addr().Interface().(type) {
	case **string:
		if path == "uuid" { // firmware and people write it in more than one way
			u, err := ParseUUID(text)
			if err != nil {
				return err
			}
			text = u
		}
		*p = &text
	case *string:
		*p = text
	case *Resource:
		if r := new(Resource); r.UnmarshalJSON([]byte(text)) == nil {
			*p = *r
			return nil
		}
		r, err := NewResource(text)
		if err != nil {
			return err
		}
		*p = r
	case *Secret:
		*p = Secret(text)
	case **Secret:
		*p = new(Secret(text))
	case **HardwareAddr:
		hw, err := ParseHardwareAddr(text)
		if err != nil {
			return err
		}
		*p = &hw
	case **netip.Addr:
		a, err := netip.ParseAddr(text)
		if err != nil {
			return wrong("an IP address", "write it as 10.1.0.1")
		}
		*p = &a
	case **int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return wrong("a whole number", "write it in digits")
		}
		*p = &n
	case **int64:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return wrong("a whole number", "write it in digits")
		}
		*p = &n
	case **bool:
		b, err := ParseBool(text)
		if err != nil {
			return wrong("yes or no", "write true or false")
		}
		*p = &b
	case *[]string:
		*p = splitWords(path, text)
	default:
		return fault.New(fault.Internal, "settings of type %s cannot be read from text", v.Type())
	}
	return nil
}

// splitWords takes a list apart: by commas, but where commas are part of a word, as in console=ttyS0,115200.
func splitWords(path, text string) []string {
	sep := ","
	switch path {
	case "kernel.args":
		return strings.Fields(text)
	case "ssh_keys":
		sep = "\n"
	}
	words := []string{}
	for w := range strings.SplitSeq(text, sep) {
		if w = strings.TrimSpace(w); w != "" {
			words = append(words, w)
		}
	}
	return words
}

// ParseBool reads what people write for true and false: also yes, no, on and off, in any case.
func ParseBool(text string) (bool, error) {
	switch strings.ToLower(strings.TrimSpace(text)) {
	case "true", "yes", "on", "1", "t", "y":
		return true, nil
	case "false", "no", "off", "0", "f", "n":
		return false, nil
	}
	return false, fault.New(fault.Invalid, "%q is neither true nor false", clip(text))
}
