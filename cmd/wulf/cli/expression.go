package cli

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/template"

	"github.com/theory/jsonpath"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// asJSON is a value as JSON has it: what expressions are about is what -o json prints.
func asJSON(v any) (any, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var out any
	return out, json.Unmarshal(b, &out)
}

// writePath prints what a JSONPath expression (RFC 9535) selects, one value a line. The braces and the missing $ of
// kubectl are understood, too.
func writePath(w io.Writer, expression string, v any) error {
	e := strings.TrimSpace(expression)
	if inner, ok := strings.CutPrefix(e, "{"); ok {
		e = strings.TrimSuffix(inner, "}")
	}
	if !strings.HasPrefix(e, "$") {
		e = "$" + strings.TrimPrefix("."+strings.TrimPrefix(e, "."), "$")
		e = strings.Replace(e, "$.[", "$[", 1)
	}
	path, err := jsonpath.Parse(e)
	if err != nil {
		return fault.Wrap(fault.Invalid, err, "-o jsonpath=%s", expression).WithFix("write it as $.items[*].name")
	}
	tree, err := asJSON(v)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(w)
	for _, found := range path.Select(tree) {
		text, ok := found.(string)
		if !ok {
			b, err := json.Marshal(found)
			if err != nil {
				return err
			}
			text = string(b)
		}
		fmt.Fprintln(out, plain(text))
	}
	return out.Flush()
}

// writeTemplate prints what a Go template makes of a value.
func writeTemplate(w io.Writer, text string, v any) error {
	t, err := template.New("-o").Option("missingkey=zero").Parse(text)
	if err != nil {
		return fault.Wrap(fault.Invalid, err, "-o go-template")
	}
	tree, err := asJSON(v)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(w)
	if err := t.Execute(out, tree); err != nil {
		return fault.Wrap(fault.Invalid, err, "-o go-template")
	}
	return out.Flush()
}
