package workdir

import (
	"bytes"
	"context"
	"os"
	"os/signal"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// told is where signals are passed on to.
type told chan byte

func (t told) Write(b []byte) (int, error) {
	for _, s := range b {
		t <- s
	}
	return len(b), nil
}

// An interruption also ends the context, as it does in the program. The command is told of it once, and not that it should
// end besides: how it ended would be a matter of luck.
func TestAnInterruptedCommandIsToldOnce(t *testing.T) {
	for range 20 {
		ctx, done := signal.NotifyContext(context.Background(), os.Interrupt)
		to := make(told, 16)
		stop := passSignals(ctx, nil, to, time.Hour)
		if err := unix.Kill(os.Getpid(), unix.SIGINT); err != nil {
			t.Fatal(err)
		}
		got := []byte{<-to}
		<-ctx.Done()
		select {
		case s := <-to:
			got = append(got, s)
		case <-time.After(2 * settle):
		}
		stop()
		done()
		if !bytes.Equal(got, []byte{byte(unix.SIGINT)}) {
			t.Fatalf("the command was told %v", got)
		}
	}
}

func TestACommandWhoseContextEndsIsAskedToEnd(t *testing.T) {
	ctx, done := context.WithCancel(t.Context())
	to := make(told, 16)
	defer passSignals(ctx, nil, to, time.Hour)()
	done()
	if s := <-to; s != byte(unix.SIGTERM) {
		t.Errorf("the command was told %v", s)
	}
}
