package overlay

import (
	"fmt"
	"time"
)

// Sites' templates say when they were made. There is one time for that, and one zone, so that a rendering is the same
// whenever and wherever it is made: when the overlay changed last.

func (x *execution) now() time.Time {
	x.reads(Input{ScopeLayer, "Changed", ""})
	return x.layer.Changed.UTC()
}

// dates are Sprig's functions of time that need no more than that.
func dates() map[string]any {
	return map[string]any{
		"date": dated, "htmlDate": func(v any) (string, error) { return dated(time.DateOnly, v) },
		"dateModify": modified, "date_modify": modified, "mustDateModify": modified, "must_date_modify": modified,
	}
}

// dated writes a time, or seconds since 1970.
func dated(layout string, v any) (string, error) {
	var t time.Time
	switch v := v.(type) {
	case time.Time:
		t = v
	case int:
		t = time.Unix(int64(v), 0)
	case int64:
		t = time.Unix(v, 0)
	default:
		return "", fmt.Errorf("%v is neither a time nor seconds since 1970", v)
	}
	return t.UTC().Format(layout), nil
}

// modified is a time with a duration added to it, such as "-1.5h".
func modified(by string, t time.Time) (time.Time, error) {
	d, err := time.ParseDuration(by)
	return t.Add(d), err
}
