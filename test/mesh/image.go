package mesh

import (
	"archive/tar"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Contents are what is in an image. Another seed gives other files.
type Contents struct {
	Kernel string // its architecture, amd64 or arm64
	Seed   uint64
}

// Publish imports an image through the API, as the CLI does: a kernel that nobody can run, and files that do not
// compress, so that it has a handful of chunks. Another seed gives other files.
func (m *Mesh) Publish(name string, seed uint64) catalog.ImageVersion {
	m.t.Helper()
	return m.PublishOf(name, Contents{Kernel: "amd64", Seed: seed})
}

// PublishOf is Publish of other contents.
func (m *Mesh) PublishOf(name string, c Contents) catalog.ImageVersion {
	m.t.Helper()
	v, err := m.publish(m.Client, name, c)
	for ; err != nil && again(err); v, err = m.publish(m.Client, name, c) {
		time.Sleep(time.Second)
	}
	if err != nil {
		m.t.Fatalf("publishing %s: %v", name, err)
	}
	return v
}

// PublishAt is Publish through a client, once.
func (m *Mesh) PublishAt(client *api.Client, name string, seed uint64) (catalog.ImageVersion, error) {
	return m.publish(client, name, Contents{Kernel: "amd64", Seed: seed})
}

func (m *Mesh) publish(client *api.Client, name string, c Contents) (catalog.ImageVersion, error) {
	body := imageTar(cmp.Or(m.size.Image, ImageBytes), c)
	a, err := client.Do(m.Ctx(), api.Request{
		Method: http.MethodPost, Path: strings.Replace(api.PathImage, "{name}", name, 1) + "?source=test", Size: int64(len(body)),
		Body: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }, Once: true,
	})
	if err != nil {
		return catalog.ImageVersion{}, err
	}
	defer a.Body.Close()
	for d := json.NewDecoder(a.Body); ; {
		var p api.ImportProgress
		if err := d.Decode(&p); err != nil {
			return catalog.ImageVersion{}, fault.Wrap(fault.Unknown, err, "the answer ended early")
		}
		switch {
		case p.Error != nil:
			return catalog.ImageVersion{}, &fault.Error{Kind: p.Error.Kind, Message: p.Error.Detail}
		case p.Version != nil:
			return *p.Version, nil
		}
	}
}

// again tells whether a request may simply be repeated.
func again(err error) bool {
	return errors.Is(err, fault.Unavailable) || errors.Is(err, fault.NotLeader) || errors.Is(err, fault.Unknown) || errors.Is(err, fault.Timeout)
}

// kernelVersion is that of the images' kernel.
const kernelVersion = "6.1.0-test"

// imageTar is a root file system of about so many bytes.
func imageTar(size int, c Contents) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	put := func(name string, body []byte) {
		h := &tar.Header{Name: name, Mode: 0o755, Size: int64(len(body)), Typeflag: tar.TypeReg}
		if strings.HasSuffix(name, "/") {
			h.Typeflag = tar.TypeDir
		}
		// Writing to memory fails only where the header is wrong, and then the import says so.
		_ = w.WriteHeader(h)
		_, _ = w.Write(body)
	}
	dice := rand.NewChaCha8([32]byte{byte(c.Seed), byte(c.Seed >> 8), 0x77})
	noise := func(n int) []byte {
		p := make([]byte, n)
		_, _ = dice.Read(p)
		return p
	}
	kernel := noise(64 << 10)
	switch c.Kernel {
	case "arm64":
		copy(kernel[56:], "ARM\x64") // the header of an Image
	default:
		copy(kernel[0x202:], "HdrS") // the boot protocol of x86 begins so
	}
	for _, dir := range []string{"boot/", "etc/", "sbin/", "usr/", "usr/lib/"} {
		put(dir, nil)
	}
	put("boot/vmlinuz-"+kernelVersion, kernel)
	put("etc/os-release", []byte("ID=test\n"))
	put("sbin/init", []byte("#!/bin/sh\n"))
	const part = 300 << 10
	for i := range max(1, size/part) {
		put(fmt.Sprintf("usr/lib/part%03d", i), noise(part))
	}
	_ = w.Close()
	return b.Bytes()
}

// Version is the newest version of an image.
func (m *Mesh) Version(name string) catalog.ImageVersion {
	m.t.Helper()
	_, v, ok := m.Leader().Catalog().ImageVersion(name)
	if !ok {
		m.t.Fatalf("there is no image %s", name)
	}
	return v
}

// Chunks are all chunks that an image needs, its manifest among them.
func (m *Mesh) Chunks(v catalog.ImageVersion) []chunk.Ref {
	m.t.Helper()
	body, err := m.Client.Chunk(m.Ctx(), v.Manifest)
	if err != nil {
		m.t.Fatal(err)
	}
	defer body.Close()
	b, err := io.ReadAll(body)
	if err != nil {
		m.t.Fatal(err)
	}
	manifest, err := chunk.Open(b, m.Controllers[0].Catalog().Cluster.SigningKeys())
	if err != nil {
		m.t.Fatal(err)
	}
	return append(manifest.Refs(), v.Manifest)
}
