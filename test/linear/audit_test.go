package linear

import (
	"cmp"
	"slices"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/test/mesh"
)

// told is what the log says of the writers' requests.
type told struct {
	request map[string]string           // of each value: the request that wrote it
	first   map[string]catalog.Revision // of each request: where it stands first
	again   int                         // entries that repeat a request
	comment map[catalog.NodeName]string // what each register holds if each request counts once, where it stands first
	added   map[catalog.NodeName]bool
}

// audit holds what the writers were told against the log and the catalogs. A repeated request that was carried out
// twice shows in several ways, each enough by itself:
//
//   - an added node conflicts with itself, which its writer reports as an error;
//   - its writer, or the catalog, names the second revision and not the first;
//   - a comment that was overwritten comes back: in the catalog, or in somebody's read, which is judged later.
//
// For that to mean anything, requests must have been repeated: the log must hold some more than once.
func (c *crowd) audit(m *mesh.Mesh, start *catalog.Catalog) {
	log, ok := c.readLog(m, start)
	if !ok {
		return
	}
	count := map[outcome]int{}
	for _, w := range c.writes {
		count[w.outcome]++
		at, found := log.first[log.request[w.value]]
		switch {
		case w.outcome == refused && found:
			c.t.Errorf("%s was refused, and happened at revision %d", w.value, at)
		case w.outcome == happened && !found:
			c.t.Errorf("%s, acknowledged at revision %d, is lost", w.value, w.revision)
		case w.outcome == happened && at != w.revision:
			c.t.Errorf("%s, acknowledged at revision %d, stands at revision %d first: it was carried out twice", w.value, w.revision, at)
		}
	}
	c.t.Logf("%d writes happened, %d were refused, of %d nobody knew; %d entries repeat a request", count[happened], count[refused], count[unknown], log.again)
	switch {
	case count[happened] < writers:
		c.t.Error("too few writes happened to prove anything")
	case log.again < 10:
		c.t.Error("too few requests were repeated to prove that repeated ones are not carried out")
	}
	c.inOrder()
	for _, controller := range m.Controllers {
		log.compare(c, controller, start)
	}
}

// inOrder: what was acknowledged before another write began has the lower revision, whichever controllers and nodes
// they were about.
func (c *crowd) inOrder() {
	acknowledged := slices.DeleteFunc(slices.Clone(c.writes), func(w write) bool { return w.outcome != happened })
	byCall := slices.SortedFunc(slices.Values(acknowledged), func(a, b write) int { return cmp.Compare(a.call, b.call) })
	byEnd := slices.SortedFunc(slices.Values(acknowledged), func(a, b write) int { return cmp.Compare(a.end, b.end) })
	var latest write // of the highest revision, among those that had ended
	for _, w := range byCall {
		for len(byEnd) > 0 && byEnd[0].end < w.call {
			if byEnd[0].revision > latest.revision {
				latest = byEnd[0]
			}
			byEnd = byEnd[1:]
		}
		if w.revision <= latest.revision {
			c.t.Errorf("%s happened at revision %d, and %s, which had been acknowledged before it began, at revision %d", w.value, w.revision, latest.value, latest.revision)
		}
	}
}

// readLog fetches the entries since the start as relays do. The state hash shows that none is missing.
func (c *crowd) readLog(m *mesh.Mesh, start *catalog.Catalog) (told, bool) {
	log := told{
		request: map[string]string{}, first: map[string]catalog.Revision{},
		comment: map[catalog.NodeName]string{}, added: map[catalog.NodeName]bool{},
	}
	news, err := m.Client.Catalog(m.Ctx(), start.Revision, 0)
	switch {
	case err != nil:
		c.t.Errorf("reading the log: %v", err)
		return log, false
	case news.Delta == nil:
		c.t.Error("the log is too long to be read from the start; let there be fewer writes")
		return log, false
	}
	end, err := api.Follow(start, news.Delta)
	if err != nil {
		c.t.Errorf("following the log: %v", err)
		return log, false
	}
	for _, controller := range m.Controllers {
		if now := controller.Catalog(); now.Hash != end.Hash || now.Revision != end.Revision {
			c.t.Errorf("%s is at revision %d with hash %s, the log leads to %d with %s", controller.Name, now.Revision, now.Hash, end.Revision, end.Hash)
		}
	}
	for _, e := range news.Delta.Entries {
		entry, err := catalog.DecodeEntry(e.Entry)
		if err != nil {
			c.t.Errorf("revision %d: %v", e.Revision, err)
			continue
		}
		log.note(c, e.Revision, entry)
	}
	return log, true
}

// note takes an entry of the log in; those that no writer asked for do not matter.
func (l *told) note(c *crowd, at catalog.Revision, e catalog.Entry) {
	var value string
	add, isAdd := e.Change.(catalog.AddNodes)
	set, isSet := e.Change.(catalog.SetNodes)
	switch {
	case isAdd:
		value = string(add.Nodes[0].Name)
	case isSet:
		value = *set.Set.Comment
	default:
		return
	}
	if before, seen := l.request[value]; seen && before != e.Request {
		c.t.Errorf("%s stands in the log under two requests, which nothing can know for one", value)
	}
	if _, seen := l.first[e.Request]; seen {
		l.again++
		return
	}
	l.request[value], l.first[e.Request] = e.Request, at
	if isAdd {
		l.added[add.Nodes[0].Name] = true
	} else {
		l.comment[set.Nodes[0]] = value
	}
}

// compare holds a controller's catalog against the log.
func (l *told) compare(c *crowd, controller *mesh.Controller, start *catalog.Catalog) {
	now := controller.Catalog()
	for node, want := range l.comment {
		got := ""
		if n, there := now.Node(node); there && n.Settings.Comment != nil {
			got = *n.Settings.Comment
		}
		if got != want {
			c.t.Errorf("on %s the comment of %s is %q, want %s", controller.Name, node, got, want)
		}
	}
	for n := range l.added {
		if _, there := now.Node(n); !there {
			c.t.Errorf("on %s there is no node %s", controller.Name, n)
		}
	}
	if got, want := now.NodeCount(), start.NodeCount()+len(l.added); got != want {
		c.t.Errorf("on %s there are %d nodes, want %d", controller.Name, got, want)
	}
	for request, want := range l.first {
		if out, known := now.Request(request); !known || out.Err != nil || out.Revision != want {
			c.t.Errorf("on %s the request of revision %d is known as %+v", controller.Name, want, out)
		}
	}
}
