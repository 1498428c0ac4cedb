package httpd

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

// link is a reader at the end of a link of so many bytes a second.
type link struct {
	http.ResponseWriter
	rate float64
}

func (l *link) Write(p []byte) (int, error) {
	time.Sleep(time.Duration(float64(len(p)) / l.rate * float64(time.Second)))
	return len(p), nil
}

// sentOver sends a file over a link and returns what was counted, and when.
func sentOver(t *testing.T, size int64, rate float64) (sizes []int64, gaps []time.Duration) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err == nil {
		err = f.Truncate(size)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	synctest.Test(t, func(t *testing.T) {
		last := time.Now()
		r := &reply{ResponseWriter: &link{rate: rate}, sentOn: func(n int64) {
			sizes, gaps = append(sizes, n), append(gaps, time.Since(last))
			last = time.Now()
		}}
		if n, err := r.ReadFrom(&io.LimitedReader{R: f, N: size}); err != nil || n != size {
			t.Fatalf("%d of %d bytes: %v", n, size, err)
		}
	})
	return sizes, gaps
}

// A gate takes machines that take less than a least rate for slow ones, and looks every other second.
func TestSlowReadersAreCountedWhileTheyRead(t *testing.T) {
	for _, rate := range []float64{130 << 10, 520 << 10, 2 << 20} {
		_, gaps := sentOver(t, 4<<20, rate)
		for i, gap := range gaps[1:] {
			if gap > 2*time.Second {
				t.Errorf("at %.0f bytes a second the piece after %d is counted after %s", rate, i+1, gap)
			}
		}
	}
}

func TestQuickReadersCostFewPieces(t *testing.T) {
	if sizes, _ := sentOver(t, 300<<20, 1<<30); len(sizes) > 300/4+8 {
		t.Errorf("300 MiB went out in %d pieces", len(sizes))
	}
	if sizes, _ := sentOver(t, firstPiece+firstPiece/8, 1<<30); len(sizes) != 1 {
		t.Errorf("the end is a piece of its own: %v", sizes)
	}
}
