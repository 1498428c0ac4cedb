package segment

import (
	"bytes"
	"context"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
)

func BenchmarkBuild(b *testing.B) {
	data := makeTar(b, library(9, 2000)...)
	src := openTar(b, data)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		_, err := Build(context.Background(), src, Options{Sink: func(chunk.Ref, []byte) error { return nil }})
		if err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUnpack(b *testing.B) {
	data := makeTar(b, library(9, 2000)...)
	made := build(b, openTar(b, data), Options{})
	b.SetBytes(int64(len(data)))
	out := b.TempDir()
	for b.Loop() {
		made.unpack(b, out)
	}
}

func BenchmarkVerify(b *testing.B) {
	data := makeTar(b, library(9, 2000)...)
	made := build(b, openTar(b, data), Options{})
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if err := Verify(context.Background(), made.manifest(), made.open); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReader(b *testing.B) {
	data := archive(b, Entry{Path: "some/path/of/a/file", Type: File}, string(bytes.Repeat([]byte("content"), 100)))
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		for r := NewReader(bytes.NewReader(data)); ; {
			if _, err := r.Next(); err != nil {
				break
			}
		}
	}
}
