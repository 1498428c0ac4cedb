package httpd

import (
	"io"
	"net/http"
	"os"
	"time"
)

// A reader has so long for each piece of an answer. One that takes nothing, or next to it, is cut off, whatever the
// answer's size; one that is merely slow is not. Pieces are as long as the reader takes them well: what it took is counted
// by the piece, so that long ones would make a slow reader look as if it took nothing for seconds, and short ones cost.
const (
	leastPiece = 64 << 10
	firstPiece = 256 << 10
	mostPiece  = 4 << 20
	quickPiece = 100 * time.Millisecond
	slowPiece  = 500 * time.Millisecond
	pieceTime  = 30 * time.Second
)

// reply is a response that is counted, and whose reader must keep taking it. It hands files on to the connection,
// which sends them without a copy.
type reply struct {
	http.ResponseWriter
	status int
	sent   int64       // bytes of the body
	piece  int64       // how long the next one is
	sentOn func(int64) // is told of them as they go out; may be nil
}

// replyOf is the reply that guard made of every response.
func replyOf(w http.ResponseWriter) *reply {
	if r, ok := w.(*reply); ok {
		return r
	}
	return &reply{ResponseWriter: w}
}

func (r *reply) WriteHeader(status int) {
	switch {
	case status < http.StatusOK: // interim; but it has to be taken, too
		_ = http.NewResponseController(r.ResponseWriter).SetWriteDeadline(time.Now().Add(pieceTime))
	case r.status == 0:
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *reply) Write(p []byte) (int, error) {
	r.begin()
	n, err := r.ResponseWriter.Write(p)
	r.count(int64(n))
	return n, err
}

// ReadFrom implements io.ReaderFrom, by which net/http uses sendfile(2): that sees through one io.LimitedReader and
// no more.
func (r *reply) ReadFrom(src io.Reader) (total int64, err error) {
	limited, ok := src.(*io.LimitedReader)
	if !ok {
		limited = &io.LimitedReader{R: src, N: 1<<63 - 1}
	}
	_, whole := limited.R.(*os.File) // anything else may come slowly itself, as from another relay
	for limited.N > 0 {
		r.begin()
		size := r.next(whole)
		if limited.N < size+size/4 { // one piece rather than one and a crumb
			size = limited.N
		}
		began := time.Now()
		piece := io.LimitedReader{R: limited.R, N: size}
		n, err := io.Copy(r.ResponseWriter, &piece)
		total += n
		r.count(n)
		limited.N -= n
		r.took(time.Since(began))
		if err != nil || n == 0 {
			return total, err
		}
	}
	return total, nil
}

// next is how long the next piece is.
func (r *reply) next(whole bool) int64 {
	switch {
	case !whole:
		return leastPiece
	case r.piece == 0:
		r.piece = firstPiece
	}
	return r.piece
}

// took learns from how long the last piece took.
func (r *reply) took(d time.Duration) {
	switch {
	case d < quickPiece:
		r.piece = min(2*r.piece, mostPiece)
	case d > slowPiece:
		r.piece = max(r.piece/2, leastPiece)
	}
}

func (r *reply) count(n int64) {
	r.sent += n
	if r.sentOn != nil {
		r.sentOn(n)
	}
}

// begin gives the reader its time for the next piece.
func (r *reply) begin() {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	// A response that cannot have a deadline is a test's; there is nothing to be done about an error.
	_ = http.NewResponseController(r.ResponseWriter).SetWriteDeadline(time.Now().Add(pieceTime))
}

// Unwrap is for http.ResponseController.
func (r *reply) Unwrap() http.ResponseWriter { return r.ResponseWriter }
