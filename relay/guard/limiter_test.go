package guard

import (
	"testing"
	"time"
)

// A bucket that two senders share serves the one that comes later, when the first has been quiet.
func TestBucketsAreGivenOn(t *testing.T) {
	l, now := NewLimiter(10, 5, 1), time.Now()
	for range 5 {
		if !l.Take([]byte("a"), now.Add(time.Second)) {
			t.Fatal("the burst is not granted")
		}
	}
	if l.Take([]byte("a"), now.Add(time.Second)) || l.Take([]byte("b"), now.Add(time.Second)) {
		t.Error("granted without a token")
	}
	for range 5 {
		if !l.Take([]byte("b"), now.Add(2*time.Second)) {
			t.Error("the bucket is not given on")
		}
	}
}
