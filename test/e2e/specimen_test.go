//go:build e2e

package e2e

import (
	"archive/tar"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/sys/unix"

	"github.com/wulfmesh/wulfmesh/test/treesum"
)

// specimen is the directory, in the root that makeSpecimen makes, with one of everything that a file system can hold.
const specimen = "srv/specimen"

// makeSpecimen copies the distribution's root and adds what distributions have little of, and an image must carry all the same.
func makeSpecimen(t *testing.T, root string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "cp", "-a", script(t, t.Context(), "make-image"), root).CombinedOutput(); err != nil {
		t.Fatalf("copying the root: %v: %s", err, out)
	}
	at := func(path string) string { return filepath.Join(root, specimen, path) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(path, content string) { must(os.WriteFile(at(path), []byte(content), 0o644)) }
	for _, dir := range []string{"empty", "sticky", "one", "two", "setgid"} {
		must(os.MkdirAll(at(dir), 0o755))
	}
	must(os.Chmod(at("empty"), 0o700))
	must(unix.Chmod(at("sticky"), 0o1777))
	must(os.Chown(at("setgid"), 12, 34))
	must(unix.Chmod(at("setgid"), 0o2750))

	write("capable", "may bind low ports")
	must(os.Chmod(at("capable"), 0o755))
	capability := binary.LittleEndian.AppendUint32(nil, 0x02000001) // VFS_CAP_REVISION_2, effective (capabilities(7))
	for _, word := range []uint32{1 << unix.CAP_NET_BIND_SERVICE, 0, 0, 0} {
		capability = binary.LittleEndian.AppendUint32(capability, word)
	}
	must(unix.Setxattr(at("capable"), "security.capability", capability, 0))
	write("noted", "has a note")
	must(unix.Setxattr(at("noted"), "user.note", []byte("by \x00 hand"), 0))
	write("shared", "may be read by user 1234")
	list := binary.LittleEndian.AppendUint32(nil, 2) // POSIX_ACL_XATTR_VERSION, then tag, permissions and ID of each entry
	for _, e := range []struct {
		tag, perm uint16
		id        uint32
	}{{0x01, 6, ^uint32(0)}, {0x02, 4, 1234}, {0x04, 4, ^uint32(0)}, {0x10, 4, ^uint32(0)}, {0x20, 0, ^uint32(0)}} {
		list = binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint16(list, e.tag), e.perm), e.id)
	}
	must(unix.Setxattr(at("shared"), "system.posix_acl_access", list, 0))

	must(unix.Mknod(at("null"), unix.S_IFCHR|0o620, int(unix.Mkdev(1, 3))))
	must(unix.Mknod(at("disk"), unix.S_IFBLK|0o660, int(unix.Mkdev(259, 70000))))
	must(os.Chown(at("disk"), 0, 6))
	must(unix.Mkfifo(at("pipe"), 0o600))
	write("one/name", "one file, three names")
	must(os.Link(at("one/name"), at("two/name")))
	must(os.Link(at("one/name"), at("another")))
	must(os.Symlink("one/name", at("link")))
	must(os.Symlink("/nowhere/at all", at("dangling")))
	must(os.Lchown(at("dangling"), 1234, 5678))
	write("not \xff\xfe UTF-8", "a name is bytes")
	write("a\nname\twith\\ everything\" 'in it", "")
	write("set-uid", "#!/bin/sh\n")
	must(os.Chown(at("set-uid"), 4_000_000_000, 70000))
	must(unix.Chmod(at("set-uid"), 0o4711))
	write("sealed", "nobody may read it")
	must(os.Chmod(at("sealed"), 0))
	sparse, err := os.Create(at("sparse"))
	must(err)
	_, err = sparse.WriteAt([]byte("in the middle"), 5<<20)
	must(err)
	must(sparse.Truncate(9<<20 + 1))
	must(sparse.Close())
	large := make([]byte, 20<<20)
	_, err = rand.NewChaCha8([32]byte{4}).Read(large) // nothing compresses it
	must(err)
	write("large", string(large))
	write("changed", "as the last layer has it")
	must(os.MkdirAll(filepath.Join(root, "etc/wulf"), 0o755))
	must(os.WriteFile(filepath.Join(root, "etc/wulf/excludes"), []byte("# nodes need no documents\nusr/share/doc/*\n"), 0o644))
}

// pushSpecimen pushes the root as an image of two layers into a registry of its own on the loopback, and returns what to
// import. The first layer has a file and a directory that the second takes away, and a file that it replaces.
func pushSpecimen(t *testing.T, root string, entries []treesum.Entry) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })

	first, second := t.TempDir()+"/first.tar", t.TempDir()+"/second.tar"
	writeLayer(t, first, func(w *tar.Writer) {
		for _, e := range entries {
			if e.Name() == specimen+"/changed" {
				add(t, w, &tar.Header{Name: e.Name(), Typeflag: tar.TypeReg, Mode: 0o4777, Uid: 99}, []byte("as the first layer had it, and longer"))
				continue
			}
			addEntry(t, w, root, e)
		}
		add(t, w, &tar.Header{Name: specimen + "/gone", Typeflag: tar.TypeReg, Mode: 0o644}, []byte("for a while"))
		add(t, w, &tar.Header{Name: specimen + "/gone-too/", Typeflag: tar.TypeDir, Mode: 0o755}, nil)
		add(t, w, &tar.Header{Name: specimen + "/gone-too/file", Typeflag: tar.TypeReg, Mode: 0o644}, []byte("with its directory"))
	})
	writeLayer(t, second, func(w *tar.Writer) {
		for _, e := range entries {
			if e.Name() == specimen+"/changed" {
				addEntry(t, w, root, e)
			}
		}
		add(t, w, &tar.Header{Name: specimen + "/.wh.gone", Typeflag: tar.TypeReg}, nil)
		add(t, w, &tar.Header{Name: specimen + "/.wh.gone-too", Typeflag: tar.TypeReg}, nil)
	})
	image := empty.Image
	for _, path := range []string{first, second} {
		layer, err := tarball.LayerFromFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if image, err = mutate.AppendLayers(image, layer); err != nil {
			t.Fatal(err)
		}
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config.OS, config.Architecture = "linux", "amd64"
	if image, err = mutate.ConfigFile(image, config); err != nil {
		t.Fatal(err)
	}
	place := l.Addr().String() + "/site/specimen:1"
	ref, err := name.ParseReference(place)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, image, remote.WithContext(t.Context())); err != nil {
		t.Fatal(err)
	}
	return "docker://" + place
}

func writeLayer(t *testing.T, path string, fill func(*tar.Writer)) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := tar.NewWriter(f)
	fill(w)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func add(t *testing.T, w *tar.Writer, h *tar.Header, body []byte) {
	t.Helper()
	h.Size, h.Format = int64(len(body)), tar.FormatPAX
	if err := w.WriteHeader(h); err != nil {
		t.Fatalf("%q: %v", h.Name, err)
	}
	if _, err := w.Write(body); err != nil {
		t.Fatalf("%q: %v", h.Name, err)
	}
}

// addEntry writes a tree's entry as layers hold it (OCI image specification, layer.md).
func addEntry(t *testing.T, w *tar.Writer, root string, e treesum.Entry) {
	t.Helper()
	mode, err := strconv.ParseInt(e.Mode, 8, 64)
	if err != nil {
		t.Fatal(err)
	}
	h := &tar.Header{Name: e.Name(), Mode: mode, Uid: int(e.UID), Gid: int(e.GID), PAXRecords: make(map[string]string)}
	for key, value := range e.Xattrs {
		plain, err := hex.DecodeString(value)
		if err != nil {
			t.Fatal(err)
		}
		h.PAXRecords["SCHILY.xattr."+key] = string(plain)
	}
	var body []byte
	switch e.Type {
	case "dir":
		h.Typeflag, h.Name = tar.TypeDir, strings.TrimSuffix(h.Name, "/")+"/"
	case "link":
		h.Typeflag, h.Linkname = tar.TypeSymlink, e.Target()
	case "char", "block":
		h.Typeflag = map[string]byte{"char": tar.TypeChar, "block": tar.TypeBlock}[e.Type]
		if _, err := fmt.Sscanf(e.Device, "%d:%d", &h.Devmajor, &h.Devminor); err != nil {
			t.Fatal(err)
		}
	case "fifo":
		h.Typeflag = tar.TypeFifo
	case "file":
		h.Typeflag = tar.TypeReg
		if e.First != "" && e.First != e.Path {
			h.Typeflag, h.Linkname, h.PAXRecords = tar.TypeLink, treesum.Entry{Path: e.First}.Name(), nil
			break
		}
		if body, err = os.ReadFile(filepath.Join(root, e.Name())); err != nil {
			t.Fatal(err)
		}
	default:
		return // a socket has no place in an archive
	}
	add(t, w, h, body)
}
