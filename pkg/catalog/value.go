package catalog

import (
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
	words := strings.Split(path, ".")
	if len(path) > 512 || words[0] == "without" {
		return s, noSetting(path)
	}
	if err := decide(reflect.ValueOf(&s).Elem(), words, path, text); err != nil {
		return Settings{}, err
	}
	return s, nil
}

func decide(v reflect.Value, words []string, path, text string) error {
	switch t := v.Type(); {
	case t.Kind() == reflect.Map:
		return decideKey(v, words, path, text)
	case t.Kind() == reflect.Struct:
		if len(words) == 0 {
			return fault.New(fault.Invalid, "%q is not one setting but a group of them", clip(path)).WithFix("name one of %s", strings.Join(paths(t, path), ", "))
		}
		for i := range t.NumField() {
			if jsonName(t.Field(i)) == words[0] {
				return decide(v.Field(i), words[1:], path, text)
			}
		}
		return noSetting(path)
	case len(words) > 0:
		return noSetting(path)
	}
	return setText(v, path, text)
}

// decideKey sets a key of a map. Where a key and what follows it can be told apart in two ways, the shorter key counts:
// nets.eth0.tags.mtu is a tag of eth0, and nets.eth0.12.mtu a setting of eth0.12.
func decideKey(v reflect.Value, words []string, path, text string) error {
	if slices.Contains(words, "") || len(words) == 0 {
		return noSetting(path)
	}
	t := v.Type().Elem()
	if t.Kind() != reflect.Struct {
		return decideElem(v, strings.Join(words, "."), nil, path, text)
	}
	for n := 1; n < len(words); n++ {
		if elem := reflect.New(t).Elem(); undecide(elem, words[n:]) {
			return decideElem(v, strings.Join(words[:n], "."), words[n:], path, text)
		}
	}
	return noSetting(path)
}

func decideElem(v reflect.Value, key string, rest []string, path, text string) error {
	elem := reflect.New(v.Type().Elem()).Elem()
	if err := decide(elem, rest, path, text); err != nil {
		return err
	}
	v.Set(reflect.MakeMap(v.Type()))
	v.SetMapIndex(reflect.ValueOf(key), elem)
	return nil
}

// setText sets a value without parts from its text.
func setText(v reflect.Value, path, text string) error {
	wrong := func(what, fix string) error {
		return fault.New(fault.Invalid, "%s: %q is not %s", path, clip(text), what).WithFix("%s", fix)
	}
	switch p := v.Addr().Interface().(type) {
	case **string:
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
