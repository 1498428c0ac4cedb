package segment

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func TestPackMakesOneArchiveOfATree(t *testing.T) {
	src := openTar(t, makeTar(t, dir("a", 0o755), regular("a/f", "content"), hardlink("a/g", "a/f"), symlink("l", "a/f"), regular("z", "")))
	b, err := Pack(context.Background(), src, 3)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Pack(context.Background(), src, 3)
	if err != nil || !bytes.Equal(b, again) {
		t.Errorf("packed again it differs (%v)", err)
	}
	plain, _, err := Decompress(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	r := NewReader(plain)
	got := ""
	for {
		e, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(r)
		got += e.Path + "=" + string(body) + e.Link + " "
	}
	if want := "a= a/f=content a/g= l=a/f z= "; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if _, err := Pack(context.Background(), src, 77); !errors.Is(err, fault.Invalid) {
		t.Errorf("level 77: got %v", err)
	}
}
