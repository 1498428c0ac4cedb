package catalog

import (
	"fmt"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
)

// Flat is the decided settings by their path, as text for people: lists in brackets, secrets hidden.
func (s Settings) Flat() map[string]string {
	out := map[string]string{}
	flatten(reflect.ValueOf(&s).Elem(), "", out)
	return out
}

func flatten(v reflect.Value, path string, out map[string]string) {
	if v.IsZero() && v.Kind() != reflect.String {
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Field(i); !f.IsZero() {
				flatten(f, join(path, jsonName(v.Type().Field(i))), out)
			}
		}
	case reflect.Pointer:
		out[path] = scalarText(v.Interface())
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			flatten(it.Value(), join(path, it.Key().String()), out)
		}
	case reflect.Slice:
		out[path] = "[" + strings.Join(v.Interface().([]string), " ") + "]"
	default:
		if s, ok := v.Interface().(Secret); ok {
			out[path] = s.tag()
			return
		}
		out[path] = quoteEmpty(v.String()) // a tag or a resource
	}
}

// scalarText is the text of a pointer to a scalar. A pointer to a zero is a decision, too: mtu 0, wipe false.
func scalarText(p any) string {
	switch p := p.(type) {
	case *string:
		return quoteEmpty(*p)
	case *HardwareAddr:
		return string(*p)
	case *netip.Addr:
		return p.String()
	case *int:
		return strconv.Itoa(*p)
	case *int64:
		return strconv.FormatInt(*p, 10)
	case *bool:
		return strconv.FormatBool(*p)
	case *Secret:
		return p.tag()
	}
	return fmt.Sprint(reflect.ValueOf(p).Elem().Interface())
}

func quoteEmpty(s string) string {
	if s == "" {
		return `""`
	}
	return s
}

// Value is the text of the setting at a path, as Flat has it; false if it is not decided.
func (s *Settings) Value(path string) (string, bool) {
	v, ok := find(reflect.ValueOf(s).Elem(), strings.Split(path, "."))
	if !ok || v.IsZero() && v.Kind() != reflect.String {
		return "", false
	}
	out := map[string]string{}
	flatten(v, "", out)
	if text, ok := out[""]; ok {
		return text, true
	}
	var parts []string
	for _, k := range sortedKeys(out) {
		parts = append(parts, strings.TrimPrefix(k, ".")+"="+out[k])
	}
	return strings.Join(parts, " "), true
}

func find(v reflect.Value, path []string) (reflect.Value, bool) {
	if len(path) == 0 {
		return v, true
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if jsonName(v.Type().Field(i)) == path[0] {
				return find(v.Field(i), path[1:])
			}
		}
	case reflect.Map:
		if v.Type().Elem().Kind() != reflect.Struct {
			return found(v.MapIndex(reflect.ValueOf(strings.Join(path, "."))))
		}
		for n := len(path); n > 0; n-- { // as undecide looks for it
			if elem := v.MapIndex(reflect.ValueOf(strings.Join(path[:n], "."))); elem.IsValid() {
				if part, ok := find(elem, path[n:]); ok {
					return part, true
				}
			}
		}
	}
	return v, false
}

func found(v reflect.Value) (reflect.Value, bool) { return v, v.IsValid() }
