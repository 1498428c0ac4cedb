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
	v, refs, err := p.Import(ctx, publish.Source{Name: "tiny", Tar: bytes.NewReader(root(true)), Label: "test"}, func(api.ImportProgress) {})
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
	if len(refs) != len(m.Refs())+1 || v.Arch != "amd64" || len(v.Kernels) != 1 || v.Kernels[0].Version != "6.1" || v.Unpacked < 5_000_000 || v.Size == 0 || v.Size > v.Unpacked {
		t.Errorf("version %+v with %d chunks", v, len(refs))
	}
}

func TestTheSameTreeGivesTheSameSegments(t *testing.T) {
	var ids []chunk.ID
	for range 2 {
		store := chunkstore.NewMem()
		p, pub := publisher(t, store)
		v, _, err := p.Import(context.Background(), publish.Source{Name: "tiny", Tar: bytes.NewReader(root(true))}, nil)
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
		_, _, err := p.Import(context.Background(), publish.Source{Name: "tiny", Tar: bytes.NewReader(tc.tar)}, nil)
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
	_, _, err = p.Import(context.Background(), publish.Source{Name: "tiny", Tar: bytes.NewReader(root(true))}, nil)
	if !errors.Is(err, fault.Full) {
		t.Errorf("got %v", err)
	}
}

func TestACancelledImportEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	p, _ := publisher(t, chunkstore.NewMem())
	_, _, err := p.Import(ctx, publish.Source{Name: "tiny", Tar: bytes.NewReader(root(true))}, func(g api.ImportProgress) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
