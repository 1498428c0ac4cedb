package catalog

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// SnapshotFormat is the version of the encoding of a whole catalog that this program writes.
//
// History: 1 (2026-11) first: a header line, a line a thing, and a last line with their SHA-256. 2 (2026-11) lines of
// history; the header says how far back it goes. What takes a change of many nodes back has lines of its own. 3 (2026-11)
// overlays in two parts. 4 (2026-11) what is decided about unknown machines, lines of zones, and what relays may take. Formats
// 1 to 3 are still read.
const SnapshotFormat = 4

// MaxSnapshotLine bounds a line of a snapshot, that is, one thing of the catalog.
const MaxSnapshotLine = 16 << 20

type snapshotHeader struct {
	Format   int      `json:"wulfmesh_catalog"`
	Revision Revision `json:"revision"`
	Changed  Revision `json:"changed"`
	Hash     Hash     `json:"hash"`
	Floor    Revision `json:"floor,omitempty"` // of the history
	Cluster  Cluster  `json:"cluster"`
}

type snapshotLine struct {
	Node       *Node         `json:"node,omitempty"`
	Profile    *Profile      `json:"profile,omitempty"`
	Network    *Network      `json:"network,omitempty"`
	Image      *Image        `json:"image,omitempty"`
	Overlay    *Overlay      `json:"overlay,omitempty"`
	File       *SiteFile     `json:"file,omitempty"`
	Relay      *Relay        `json:"relay,omitempty"`
	Zone       *Zone         `json:"zone,omitempty"`
	Controller *Controller   `json:"controller,omitempty"`
	Token      *Token        `json:"token,omitempty"`
	Rule       *DiscoverRule `json:"rule,omitempty"`
	Ignored    *Ignored      `json:"ignored,omitempty"`
	Request    *request      `json:"request,omitempty"`
	Record     *Record       `json:"record,omitempty"`
	Undo       *Undo         `json:"undo,omitempty"` // more of the record before
	End        string        `json:"end,omitempty"`  // SHA-256 of all lines before
}

// WriteTo writes the whole catalog, line by line. Equal catalogs give equal bytes.
func (c *Catalog) WriteTo(w io.Writer) (int64, error) {
	s := snapshotWriter{buf: bufio.NewWriterSize(w, 64<<10), sum: sha256.New()}
	s.line(snapshotHeader{SnapshotFormat, c.Revision, c.requests.changed, c.Hash, c.history.floor, c.Cluster})
	for v := range c.Networks() {
		s.line(snapshotLine{Network: v})
	}
	for v := range c.Images() {
		s.line(snapshotLine{Image: v})
	}
	for v := range c.Overlays() {
		s.line(snapshotLine{Overlay: v})
	}
	for v := range c.SiteFiles() {
		s.line(snapshotLine{File: v})
	}
	for v := range c.Profiles() {
		s.line(snapshotLine{Profile: v})
	}
	for v := range c.Nodes() {
		s.line(snapshotLine{Node: v})
	}
	for v := range c.Relays() {
		s.line(snapshotLine{Relay: v})
	}
	for v := range c.Zones() {
		s.line(snapshotLine{Zone: v})
	}
	for v := range c.Controllers() {
		s.line(snapshotLine{Controller: v})
	}
	for v := range c.Tokens() {
		s.line(snapshotLine{Token: v})
	}
	for v := range c.DiscoverRules() {
		s.line(snapshotLine{Rule: v})
	}
	for v := range c.IgnoredMachines() {
		s.line(snapshotLine{Ignored: v})
	}
	for _, id := range c.requests.byAge.all() {
		q, _ := c.requests.byID.get(id)
		s.line(snapshotLine{Request: &q})
	}
	for v := range c.history.records.values() {
		s.record(v)
	}
	s.line(snapshotLine{End: hex.EncodeToString(s.sum.Sum(nil))})
	if s.err == nil {
		s.err = s.buf.Flush()
	}
	return s.n, s.err
}

type snapshotWriter struct {
	buf *bufio.Writer
	sum hash.Hash
	n   int64
	err error
}

func (s *snapshotWriter) line(v any) {
	if s.err != nil {
		return
	}
	b, err := json.Marshal(v)
	if err != nil {
		s.err = fmt.Errorf("encoding catalog: %w", err)
		return
	}
	b = append(b, '\n')
	s.sum.Write(b)
	n, err := s.buf.Write(b)
	s.n, s.err = s.n+int64(n), err
}

// record writes a record, and what its undo holds of nodes and site files a line each: all together has no bound that a line could have.
func (s *snapshotWriter) record(r *Record) {
	if r.Undo == nil {
		s.line(snapshotLine{Record: r})
		return
	}
	head, undo := *r, *r.Undo
	undo.Nodes, undo.Set, undo.Files = nil, nil, nil
	head.Undo = &undo
	s.line(snapshotLine{Record: &head})
	for i := range r.Undo.Nodes {
		s.line(snapshotLine{Undo: &Undo{Nodes: r.Undo.Nodes[i : i+1]}})
	}
	for i := range r.Undo.Set {
		s.line(snapshotLine{Undo: &Undo{Set: r.Undo.Set[i : i+1]}})
	}
	for i := range r.Undo.Files {
		s.line(snapshotLine{Undo: &Undo{Files: r.Undo.Files[i : i+1]}})
	}
}

// ReadSnapshot reads what WriteTo wrote. A byte missing, added or changed anywhere is fault.Corrupt.
func ReadSnapshot(r io.Reader) (*Catalog, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), MaxSnapshotLine)
	sum := sha256.New()
	next := func() ([]byte, bool) {
		ok := lines.Scan()
		return lines.Bytes(), ok
	}
	var h snapshotHeader
	first, ok := next()
	if !ok || strict(first, &h) != nil || h.Format == 0 {
		return nil, fault.New(fault.Corrupt, "this is not a catalog")
	}
	if h.Format > SnapshotFormat {
		return nil, fault.New(fault.Corrupt, "the catalog has format %d; this program reads up to %d", h.Format, SnapshotFormat).WithFix("upgrade wulfmesh here")
	}
	c := &Catalog{Revision: h.Revision, Hash: h.Hash, Cluster: h.Cluster}
	c.requests.changed, c.history.floor = h.Changed, h.Floor
	c.profilesChanged()
	load := c.newLoader()
	for b, before := first, 0; ; before++ {
		sum.Write(b)
		sum.Write([]byte{'\n'})
		if b, ok = next(); !ok {
			return nil, fault.New(fault.Corrupt, "the catalog breaks off after %d lines", before+1)
		}
		var l snapshotLine
		if err := strict(b, &l); err != nil {
			return nil, fault.Wrap(fault.Corrupt, err, "line %d of the catalog", before+2)
		}
		if l.End != "" {
			if l.End != hex.EncodeToString(sum.Sum(nil)) {
				return nil, fault.New(fault.Corrupt, "the catalog does not match its digest")
			}
			break
		}
		load.put(&l)
	}
	if _, more := next(); more || lines.Err() != nil {
		return nil, fault.New(fault.Corrupt, "something follows the end of the catalog")
	}
	load.commit()
	return c, nil
}

// loader fills an empty catalog with things that were checked when they were written first.
type loader struct {
	c      *Catalog
	edit   *nodeEdit
	record *Record // of which more may come
}

func (c *Catalog) newLoader() *loader { return &loader{c: c, edit: c.editNodes()} }

func (l *loader) put(v *snapshotLine) {
	switch {
	case v.Node != nil:
		l.edit.store(v.Node)
	case v.Profile != nil:
		l.c.profiles.put(string(v.Profile.Name), v.Profile)
	case v.Network != nil:
		l.c.networks.put(string(v.Network.Name), v.Network)
		l.c.indexNetwork(v.Network, true)
	case v.Image != nil:
		l.c.images.put(string(v.Image.Name), v.Image)
	case v.Overlay != nil:
		l.c.overlays.put(string(v.Overlay.Name), v.Overlay.formerly())
	case v.File != nil:
		l.c.files.put(v.File)
	case v.Relay != nil:
		l.c.relays.put(string(v.Relay.Name), v.Relay)
	case v.Zone != nil:
		l.c.zones.put(v.Zone.Name, v.Zone)
	case v.Controller != nil:
		l.c.controllers.put(string(v.Controller.Name), v.Controller)
	case v.Token != nil:
		l.c.tokens.put(v.Token.ID, v.Token)
	case v.Rule != nil:
		l.c.rules.put(string(v.Rule.Name), v.Rule)
	case v.Ignored != nil:
		l.c.ignored.put(string(v.Ignored.Hardware), v.Ignored)
	case v.Record != nil:
		l.recordEnds()
		l.record = v.Record
	case v.Undo != nil && l.record != nil && l.record.Undo != nil:
		l.record.Undo.Nodes = append(l.record.Undo.Nodes, v.Undo.Nodes...)
		l.record.Undo.Set = append(l.record.Undo.Set, v.Undo.Set...)
		l.record.Undo.Files = append(l.record.Undo.Files, v.Undo.Files...)
	case v.Request != nil:
		l.c.requests.add(*v.Request)
	}
}

func (l *loader) recordEnds() {
	if l.record != nil {
		l.c.history.add(l.record)
	}
}

func (l *loader) commit() {
	l.recordEnds()
	l.edit.commit()
}
