package publish_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"log/slog"
	"strings"
	"syscall"
	"testing"

	"github.com/wulfmesh/wulfmesh/controller/publish"
	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/chunkstore"
	"github.com/wulfmesh/wulfmesh/pkg/durable"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
)

// root is a root file system with or without a kernel.
func root(kernel bool) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(name, body string) {
		w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Typeflag: tar.TypeReg, Size: int64(len(body))})
		io.WriteString(w, body)
	}
	add("sbin/init", "#!/bin/sh\n")
	add("etc/large", strings.Repeat("some text that compresses ", 200_000))
	if kernel {
		head := make([]byte, 0x300)
		copy(head[0x202:], "HdrS")
		add("boot/vmlinuz-6.1", string(head))
	}
	w.Close()
	return b.Bytes()
}

func publisher(t *testing.T, chunks chunkstore.Store) (*publish.Publisher, ed25519.PublicKey) {
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := publish.New(publish.Config{
		Chunks: chunks, Key: key, Trust: []byte("{}"), Work: t.TempDir(), Log: slog.New(slog.DiscardHandler),
		Agents: func(arch string) ([]byte, error) { return []byte("agent for " + arch), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	return p, pub
}

func TestEveryChunkOfAVersionIsStoredAndItsManifestIsSigned(t *testing.T) {
	ctx := context.Background()
	store := chunkstore.NewMem()
	p, pub := publisher(t, store)
	v, err := p.Import(ctx, publish.Source{Name: "tiny", Tar: bytes.NewReader(root(true)), Draft: api.ImageDraft{Source: "test"}}, nil, func(api.ImportProgress) {})
	if err != nil {
		t.Fatal(err)
	}
	signed, err := chunkstore.ReadAll(ctx, store, v.Manifest.ID, chunk.MaxManifest)
	if err != nil {
		t.Fatal(err)
	}
	m, err := chunk.Open(signed, []ed25519.PublicKey{pub})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range append(m.Refs(), v.Manifest) {
		if n, err := store.Stat(ctx, r.ID); err != nil || n != r.Size {
			t.Errorf("chunk %s: %d bytes, %v", r.ID.Short(), n, err)
		}
	}
	if len(v.Chunks) != len(m.Refs())+1 || v.Arch != "amd64" || len(v.Kernels) != 1 || v.Kernels[0].Version != "6.1" || v.Unpacked < 5_000_000 || v.Size == 0 || v.Size > v.Unpacked {
		t.Errorf("version %+v with %d chunks", v.ImageVersion, len(v.Chunks))
	}
}

func TestTheSameTreeGivesTheSameSegments(t *testing.T) {
	var ids []chunk.ID
	for range 2 {
		store := chunkstore.NewMem()
		p, pub := publisher(t, store)
		v, err := p.Import(context.Background(), publish.Source{Name: "tiny", Tar: bytes.NewReader(root(true))}, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := chunkstore.ReadAll(context.Background(), store, v.Manifest.ID, chunk.MaxManifest)
		m, err := chunk.Open(b, []ed25519.PublicKey{pub})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range m.Refs() {
			ids = append(ids, r.ID)
		}
	}
	for i := range ids[:len(ids)/2] {
		if ids[i] != ids[i+len(ids)/2] {
			t.Errorf("chunk %d differs", i)
		}
	}
}

func TestWhatCannotBecomeAnImageIsRefusedInOneLine(t *testing.T) {
	whole := root(true)
	for name, tc := range map[string]struct {
		tar  []byte
		kind fault.Kind
		text string
	}{
		"no kernel": {root(false), fault.Invalid, "no kernel"},
		"no tar":    {[]byte(strings.Repeat("hello ", 1000)), fault.Invalid, ""},
		"cut short": {whole[:len(whole)/2], fault.Invalid, ""},
		"empty":     {nil, fault.Invalid, ""},
	} {
		p, _ := publisher(t, chunkstore.NewMem())
		_, err := p.Import(context.Background(), publish.Source{Name: "tiny", Tar: bytes.NewReader(tc.tar)}, nil, nil)
		if !errors.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.text) || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "tiny") {
			t.Errorf("%s: %v (%s)", name, err, fault.KindOf(err))
		}
	}
}

func TestAFullDiskIsSaid(t *testing.T) {
	n := 0
	store, err := chunkstore.NewDir(t.TempDir(), durable.FS{Hook: func(op durable.Op, _ string) error {
		if op == durable.OpWrite {
			if n++; n > 3 {
				return syscall.ENOSPC
			}
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	p, _ := publisher(t, store)
	_, err = p.Import(context.Background(), publish.Source{Name: "tiny", Tar: bytes.NewReader(root(true))}, nil, nil)
	if !errors.Is(err, fault.Full) {
		t.Errorf("got %v", err)
	}
}

func TestACancelledImportEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	p, _ := publisher(t, chunkstore.NewMem())
	_, err := p.Import(ctx, publish.Source{Name: "tiny", Tar: bytes.NewReader(root(true))}, nil, func(g api.ImportProgress) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// draft cuts a tree as a client does, into the Publisher's store.
func draft(t *testing.T, store chunkstore.Store, archive []byte) api.ImageDraft {
	t.Helper()
	src, err := segment.OpenTar(bytes.NewReader(archive), t.TempDir(), segment.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	r, err := segment.Build(t.Context(), src, segment.Options{Level: 3, Sink: func(ref chunk.Ref, b []byte) error {
		return store.Put(t.Context(), ref, bytes.NewReader(b))
	}})
	if err != nil {
		t.Fatal(err)
	}
	return api.ImageDraft{Level: 3, Segments: r.Segments, Index: r.Index, Extras: r.Extras, Files: r.Files, Unpacked: r.Unpacked}
}

func TestADraftThatIsTheParentAllOverIsTheParent(t *testing.T) {
	store := chunkstore.NewMem()
	p, _ := publisher(t, store)
	d := draft(t, store, root(true))
	first, err := p.Finish(t.Context(), "tiny", d, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	d.Parent, d.Source = first.Manifest.ID, "elsewhere"
	again, err := p.Finish(t.Context(), "tiny", d, &first.Manifest, nil)
	if err != nil || again.Manifest != first.Manifest {
		t.Errorf("the same became %s after %s, %v", again.Manifest.ID.Short(), first.Manifest.ID.Short(), err)
	}
}

func TestNoDraftIsBelieved(t *testing.T) {
	store := chunkstore.NewMem()
	p, _ := publisher(t, store)
	good := draft(t, store, root(true))
	other := draft(t, store, []byte(strings.Replace(string(root(true)), "sbin/init", "sbin/inti", 1))) // the same check sum
	put := func(s string) chunk.Ref {
		ref := chunk.RefOf([]byte(s))
		if err := store.Put(t.Context(), ref, strings.NewReader(s)); err != nil {
			t.Fatal(err)
		}
		return ref
	}
	for name, change := range map[string]func(*api.ImageDraft){
		"another index":              func(d *api.ImageDraft) { d.Index = other.Index },
		"an index that is none":      func(d *api.ImageDraft) { d.Index = put("no index") },
		"a segment less":             func(d *api.ImageDraft) { d.Segments = d.Segments[:len(d.Segments)-1] },
		"a segment twice":            func(d *api.ImageDraft) { d.Segments = append(d.Segments, d.Segments[1]) },
		"segments in another order":  func(d *api.ImageDraft) { d.Segments[0], d.Segments[1] = d.Segments[1], d.Segments[0] },
		"a segment that is none":     func(d *api.ImageDraft) { d.Segments[1].Ref = put("no segment") },
		"a segment that is not here": func(d *api.ImageDraft) { d.Segments[1].Ref = chunk.RefOf([]byte("elsewhere")) },
		"another size":               func(d *api.ImageDraft) { d.Unpacked++ },
		"another number of files":    func(d *api.ImageDraft) { d.Files-- },
		"extras that are none":       func(d *api.ImageDraft) { d.Extras = put("no extras") },
		"no segments":                func(d *api.ImageDraft) { d.Segments = nil },
	} {
		d := good
		d.Segments = append([]chunk.Segment(nil), good.Segments...)
		change(&d)
		_, err := p.Finish(t.Context(), "tiny", d, nil, nil)
		if k := fault.KindOf(err); k != fault.Corrupt && k != fault.Invalid && k != fault.NotFound || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
