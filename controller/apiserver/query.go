package apiserver

import (
	"bufio"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/nodeset"
)

// getNodes lists nodes: all, or those of the query in the URL.
func (s *Server) getNodes(w http.ResponseWriter, r *http.Request, _ caller) error {
	q, err := queryOf(r.URL.Query())
	if err != nil {
		return err
	}
	return s.answerQuery(w, r, &q)
}

// postQuery lists the nodes of a query that may be too long for a URL.
func (s *Server) postQuery(w http.ResponseWriter, r *http.Request, _ caller) error {
	var q api.NodeQuery
	if err := api.ReadJSON(w, r, &q); err != nil {
		return err
	}
	return s.answerQuery(w, r, &q)
}

// queryOf reads a query from the parameters of a URL; lists are repeated, columns may be joined by commas.
func queryOf(v url.Values) (api.NodeQuery, error) {
	q := api.NodeQuery{Nodes: v.Get("nodes"), Exclude: v.Get("exclude"), Where: v["where"], Sort: v.Get("sort"), After: v.Get("after")}
	for _, list := range v["columns"] {
		q.Columns = append(q.Columns, strings.Split(list, ",")...)
	}
	if text := v.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return q, fault.New(fault.Invalid, "limit is a number of nodes, not %.40q", text)
		}
		q.Limit = n
	}
	for name, field := range map[string]*bool{"full": &q.Full, "any": &q.Any} {
		if text := v.Get(name); text != "" {
			b, err := strconv.ParseBool(text)
			if err != nil {
				return q, fault.New(fault.Invalid, "%s is true or false, not %.40q", name, text)
			}
			*field = b
		}
	}
	return q, nil
}

// chosen reads what a query asks for: a page of the nodes, of so many in all, and the selection that they are of.
func (s *Server) chosen(w http.ResponseWriter, r *http.Request, q *api.NodeQuery) (x *selection, nodes []*catalog.Node, total int, err error) {
	c, err := s.read(w, r)
	if err != nil {
		return nil, nil, 0, err
	}
	x = s.selection(c)
	all, err := x.choose(q)
	if err != nil {
		return nil, nil, 0, err
	}
	nodes, err = page(all, q)
	return x, nodes, len(all), err
}

func (s *Server) answerQuery(w http.ResponseWriter, r *http.Request, q *api.NodeQuery) error {
	x, nodes, total, err := s.chosen(w, r, q)
	if err != nil {
		return err
	}
	c := x.c
	if len(q.Columns) > 0 {
		return x.writeTable(w, nodes, q.Columns, total)
	}
	return writeList(w, c.Revision, func(yield func(api.NodeView) bool) {
		for _, n := range nodes {
			v, err := s.nodeView(c, n.Name, q.Full)
			if err != nil {
				continue // cannot be: it is there
			}
			v.Boot, v.Runtime = x.boots(n.Name), x.runtime(n)
			if !yield(v) {
				return
			}
		}
	})
}

// page cuts the nodes of a page out of all that were chosen.
func page(nodes []*catalog.Node, q *api.NodeQuery) ([]*catalog.Node, error) {
	if q.Limit < 0 {
		return nil, fault.New(fault.Invalid, "limit %d is less than none", q.Limit)
	}
	if q.After != "" {
		at := slices.IndexFunc(nodes, func(n *catalog.Node) bool { return string(n.Name) == q.After })
		if at < 0 {
			return nil, fault.New(fault.NotFound, "the last page ended with node %q, which is not among these any more", q.After).WithFix("begin with the first page again")
		}
		nodes = nodes[at+1:]
	}
	if q.Limit > 0 && len(nodes) > q.Limit {
		nodes = nodes[:q.Limit]
	}
	return nodes, nil
}

// writeTable answers with an api.NodeTable, row by row.
func (x *selection) writeTable(w http.ResponseWriter, nodes []*catalog.Node, names []string, total int) error {
	if len(names) > maxColumns {
		return fault.New(fault.Invalid, "%d columns are more than %d", len(names), maxColumns)
	}
	columns := make([]column, len(names))
	for i, name := range names {
		var err error
		if columns[i], err = x.column(strings.TrimSpace(name)); err != nil {
			return err
		}
	}
	head, err := json.Marshal(names)
	if err != nil {
		return fault.Wrap(fault.Internal, err, "encoding the answer")
	}
	w.Header().Set("Content-Type", "application/json")
	b := bufio.NewWriterSize(w, 64<<10)
	fmt.Fprintf(b, `{"revision":%d,"total":%d,"columns":%s,"rows":[`, x.c.Revision, total, head)
	var row []byte
	for i, n := range nodes {
		row = row[:0]
		if i > 0 {
			row = append(row, ',')
		}
		row = append(row, '[')
		for j, col := range columns {
			if j > 0 {
				row = append(row, ',')
			}
			row = appendJSON(row, col(n))
		}
		row = append(row, ']')
		if _, err := b.Write(row); err != nil {
			return err // the client is gone
		}
	}
	b.WriteString("]}\n")
	return b.Flush()
}

// appendJSON appends a text as JSON. Nearly all are plain, and reflection would take most of the time of a table.
func appendJSON(b []byte, s string) []byte {
	plain := true
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			plain = false
			break
		}
	}
	if plain {
		return append(append(append(b, '"'), s...), '"')
	}
	text, err := json.Marshal(s)
	if err != nil {
		return append(b, `""`...) // no string is beyond JSON
	}
	return append(b, text...)
}

// getGroups lists the groups of a source, with their nodes.
func (s *Server) getGroups(w http.ResponseWriter, r *http.Request, _ caller) error {
	c, err := s.read(w, r)
	if err != nil {
		return err
	}
	x := s.selection(c)
	source := r.PathValue("name")
	of, ok := x.sources()[source]
	if !ok {
		return noSource(source, "", x.sources())
	}
	limit, prefix := 0, r.URL.Query().Get("prefix")
	if text := r.URL.Query().Get("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 {
			return fault.New(fault.Invalid, "limit is a number of groups, not %.40q", text)
		}
	}
	groups := x.index(source, of)
	return writeList(w, c.Revision, func(yield func(api.GroupView) bool) {
		for _, name := range slices.SortedFunc(maps.Keys(groups), nodeset.Compare) {
			if !strings.HasPrefix(name, prefix) {
				continue
			}
			v := api.GroupView{Name: name, Count: len(groups[name]), Nodes: nodeset.Fold(groups[name])}
			if limit--; !yield(v) || limit == 0 {
				return
			}
		}
	})
}
