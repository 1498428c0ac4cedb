package httpd

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"path"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
)

// wwOverlay sends a node's overlays of a kind as a cpio archive. What is secret is in it only for who showed the ticket of
// this boot, as in a one-stage boot.
func (s *Server) wwOverlay(w http.ResponseWriter, r *http.Request, c *caller, kind string) error {
	release, err := s.turn(r.Context(), turnTime)
	if err != nil {
		return err
	}
	defer release()
	o, err := s.images.open(r.Context(), c.plan.Manifest.ID)
	if err != nil {
		return err
	}
	files, err := s.overlays.files(r.Context(), c.plan.Node, kind, c.boot != "")
	if err != nil {
		s.refused(c, err)
		return err
	}
	var b bytes.Buffer
	if err := archive(&b, files, o.tree); err != nil {
		return err
	}
	body := b.Bytes()
	if c.gzip {
		var z bytes.Buffer
		g, _ := gzip.NewWriterLevel(&z, gzip.BestSpeed) // it fails for levels that there are not
		_, err := g.Write(body)
		if err := errors.Join(err, g.Close()); err != nil {
			return err
		}
		body = z.Bytes()
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("ETag", `"`+chunk.Of(body).String()+`"`)
	before := replyOf(w).sent
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
	if sent := replyOf(w).sent - before; sent == int64(len(body)) {
		s.sentTo(c, kind, "__"+map[string]string{wwSystem: "SYSTEM", wwRuntime: "RUNTIME"}[kind]+"__.img", sent)
	}
	return nil
}

// files renders a node's overlays of a kind: with its secrets, for which it waits as patient does, or without any.
func (o *overlays) files(ctx context.Context, node catalog.NodeName, kind string, secrets bool) ([]overlay.Rendered, error) {
	giveUp := time.NewTimer(secretsWait)
	defer giveUp.Stop()
	for {
		changed := o.cfg.Feed.SecretsChanged()
		made := rendered{catalog: o.cfg.Feed.Catalog(), secrets: o.cfg.Feed.Secrets(), bare: !secrets}
		if err := o.render(ctx, &made, node, kind); err != nil {
			return nil, err
		}
		if !made.pending {
			return made.result.Files, nil
		}
		select {
		case <-changed:
		case <-giveUp.C:
			return made.result.Files, nil
		case <-ctx.Done():
			return made.result.Files, nil
		}
	}
}

// serverOf is what the templates of a node that boots by Warewulf's method are told of the server: what the site says of
// it, but the address and port of the node's first relay, which its wwclient asks from then on. nil for all other nodes.
func (o *overlays) serverOf(ctx context.Context, c *catalog.Catalog, r *catalog.Resolved) (*overlay.Server, error) {
	if *r.Settings.Method != catalog.MethodWarewulf || r.Primary == nil || r.Primary.Network == nil {
		return nil, nil
	}
	p, err := o.cfg.Feed.Plan(boot.Request{Hardware: r.Primary.Hardware, Network: r.Primary.Network.Name, Relay: o.cfg.Name, Live: o.cfg.Live()})
	if err != nil || len(p.Relays) == 0 {
		return nil, err
	}
	s, err := o.renderer.Server(ctx, c)
	if err != nil {
		return nil, err
	}
	first, network := p.Relays[0], r.Primary.Network.Prefix
	s.Ipaddr, s.Netmask, s.Network, s.Ipaddr6, s.PrefixLen6 = first.Addr.String(), "", "", "", ""
	if network.Contains(first.Addr) {
		s.Netmask, s.Network = net.IP(net.CIDRMask(network.Bits(), 32)).String(), network.Addr().String()
	}
	s.Warewulf.Port, s.Warewulf.TLSEnabled = int(first.BootPort), false // relays speak plainly to what trusts no certificate of theirs
	return &s, nil
}

// archive writes files as a cpio archive that a kernel, or cpio, unpacks over an image. Neither makes directories that
// are not in it, and either would replace a symbolic link to a directory, as /lib is one, by a directory: so each path is
// the one that the image has for it, and all directories are there, as the image has them.
func archive(out io.Writer, files []overlay.Rendered, image fs.FS) error {
	a := archiver{w: segment.NewWriter(out), image: image, made: map[string]string{".": "."}, own: map[string]overlay.Rendered{}}
	for _, f := range files {
		a.own[f.Path] = f
	}
	for _, f := range files {
		if err := a.add(f); err != nil {
			return fault.Wrap(fault.KindOf(err), err, "overlay file %s", f.Path)
		}
	}
	return a.w.Close()
}

type archiver struct {
	w     *segment.Writer
	image fs.FS
	own   map[string]overlay.Rendered // by path
	made  map[string]string           // directories by path, and where they really are
}

func (a *archiver) add(f overlay.Rendered) error {
	if f.Type == overlay.TypeDir {
		_, err := a.dir(f.Path, 0)
		return err
	}
	dir, err := a.dir(path.Dir(f.Path), 0)
	if err != nil {
		return err
	}
	e := segment.Entry{Path: path.Join(dir, path.Base(f.Path)), Type: segment.File, Mode: f.Mode, UID: uint32(f.UID), GID: uint32(f.GID), Size: int64(len(f.Content)), MTime: changed(f)}
	if f.Type == overlay.TypeLink {
		e.Type, e.Size, e.Link = segment.Symlink, 0, f.Target
	}
	return a.w.WriteEntry(&e, bytes.NewReader(f.Content))
}

// maxDepth bounds the links that one path may lead through.
const maxDepth = 40

// dir makes sure that a directory is in the archive, and tells its path there.
func (a *archiver) dir(p string, depth int) (string, error) {
	if real, ok := a.made[p]; ok {
		return real, nil
	}
	if depth++; depth > 2*maxDepth {
		return "", fault.New(fault.Invalid, "it lies too deep")
	}
	e := segment.Entry{Type: segment.Dir, Mode: 0o755}
	own, ours := a.own[p]
	switch {
	case ours && own.Type == overlay.TypeLink: // an overlay's own link to a directory
		to := own.Target
		if !path.IsAbs(to) {
			to = path.Join(path.Dir(p), to)
		}
		real, err := a.dir(inside(to), depth)
		a.made[p] = real
		return real, err
	case ours && own.Type != overlay.TypeDir:
		return "", fault.New(fault.Invalid, "%s is no directory", p)
	}
	if info, err := fs.Stat(a.image, p); err == nil && info.IsDir() {
		if have, ok := info.Sys().(*segment.Entry); ok {
			if have.Path != p { // the image has a link there
				real, err := a.dir(have.Path, depth)
				a.made[p] = real
				return real, err
			}
			e.Mode, e.UID, e.GID, e.MTime = have.Mode, have.UID, have.GID, have.MTime
		}
	}
	parent, err := a.dir(path.Dir(p), depth)
	if err != nil {
		return "", err
	}
	e.Path = path.Join(parent, path.Base(p))
	if ours {
		e.Mode, e.UID, e.GID = own.Mode, uint32(own.UID), uint32(own.GID)
	}
	a.made[p] = e.Path
	return e.Path, a.w.WriteEntry(&e, nil)
}

// inside is a path, taken from the root, as archives have it.
func inside(p string) string { return cmp.Or(path.Join("/", p)[1:], ".") }

// changed is a time for a file that wwclient tells from that of any other content: it compares sizes and times, and
// neither content nor digests. It lies in the past, and says nothing else.
func changed(f overlay.Rendered) int64 {
	const begin, span = 978307200, 1 << 29 // the year 2001, and 17 years
	h := sha256.Sum256(append([]byte(f.Target+"\x00"), f.Content...))
	return begin + int64(binary.BigEndian.Uint32(h[:])%span)
}
