package catalog

import "reflect"

// way is how a node got from what it was to what it is.
type way struct{ old, now *Node }

// sameAs tells at a glance that two nodes went the same way: what changed of one changed of the other, from and to the
// same values, which the nodes of one change share or which are equal texts. False means only that nobody looked closer;
// Difference does. For 40 000 nodes of one change this is most of what history and previews cost.
func (w way) sameAs(v way) bool {
	if w.old == nil || v.old == nil {
		return false
	}
	if !sameStep(reflect.ValueOf(w.old.Profiles), reflect.ValueOf(w.now.Profiles), reflect.ValueOf(v.old.Profiles), reflect.ValueOf(v.now.Profiles)) {
		return false
	}
	return sameStep(settingsOf(w.old), settingsOf(w.now), settingsOf(v.old), settingsOf(v.now))
}

func settingsOf(n *Node) reflect.Value { return reflect.ValueOf(&n.Settings).Elem() }

func sameStep(a, b, c, d reflect.Value) bool {
	if a.Kind() == reflect.Struct {
		for i := range a.NumField() {
			if !sameStep(a.Field(i), b.Field(i), c.Field(i), d.Field(i)) {
				return false
			}
		}
		return true
	}
	if one, other := identical(a, b), identical(c, d); one || other {
		return one && other
	}
	return oneValue(a, c) && oneValue(b, d)
}

// identical tells whether two settings are one in memory.
func identical(a, b reflect.Value) bool {
	switch a.Kind() {
	case reflect.Slice:
		return a.Len() == b.Len() && a.Pointer() == b.Pointer()
	case reflect.Pointer, reflect.Map:
		return a.Pointer() == b.Pointer()
	}
	return false
}

// oneValue tells whether two settings are one in memory, or two equal texts: a catalog that was read from disk shares
// nothing.
func oneValue(a, b reflect.Value) bool {
	if identical(a, b) {
		return true
	}
	if a.Kind() != reflect.Pointer || a.IsNil() || b.IsNil() || a.Type().Elem().Kind() != reflect.String {
		return false
	}
	return a.Elem().String() == b.Elem().String()
}
