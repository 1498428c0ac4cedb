package state

import (
	"context"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Log is the replicated log as a State uses it.
type Log interface {
	// Propose orders a command and returns what Apply made of it. Errors: fault.NotLeader or fault.Unavailable if
	// it certainly was not ordered, fault.Unknown if it may have been.
	Propose(ctx context.Context, command []byte) (revision uint64, result any, err error)
	// Sync returns when everything acknowledged anywhere before the call is applied here. It asks the leader if
	// this member is not it.
	Sync(ctx context.Context) error
}

// Attach gives the state its log, which could not be made before the state that it drives. Call it once, before
// Propose and Fresh.
func (s *State) Attach(log Log) { s.log = log }

// Proposal is a change on its way into the log.
type Proposal struct {
	Change  catalog.Change
	By      string           // who asks for it
	Request string           // names the write, so that it can be repeated: at most MaxRequest bytes
	If      catalog.Revision // 0, or: only if nothing has changed since
	Message string           // why, for the history
	At      time.Time        // when it was accepted
}

// MaxRequest bounds the name of a request: it is remembered with many others in the catalog.
const MaxRequest = 128

func (p Proposal) encode() ([]byte, error) {
	if len(p.Request) > MaxRequest {
		return nil, fault.New(fault.Invalid, "a request ID has at most %d characters, this one %d", MaxRequest, len(p.Request))
	}
	b, err := catalog.Entry{Request: p.Request, By: p.By, At: p.At, If: p.If, Message: p.Message, Change: p.Change}.Encode()
	if err != nil {
		return nil, err
	}
	// What cannot be read back would stop every controller at once, and again at each start: never let it in.
	if _, err := catalog.DecodeEntry(b); err != nil {
		return nil, fault.Wrap(fault.Internal, err, "the change %s does not survive its encoding", catalog.KindOf(p.Change))
	}
	return b, nil
}

// Propose asks the log for a change and waits for what comes of it. There are three answers:
//
//   - it happened: the revision at which it did, and no error;
//   - it was rejected, or could not be proposed: an error, and nothing has changed. On a controller that does not
//     lead it is fault.NotLeader, or fault.Unavailable while nobody does;
//   - fault.Unknown: it may have happened or may still happen. The same Proposal, proposed again at any controller,
//     happens once at most, because of its Request.
func (s *State) Propose(ctx context.Context, p Proposal) (catalog.Revision, error) {
	entry, err := p.encode()
	if err != nil {
		return 0, err
	}
	_, result, err := s.log.Propose(ctx, entry)
	if err != nil {
		return 0, err
	}
	out, ok := result.(catalog.Outcome)
	if !ok {
		return 0, fault.New(fault.Internal, "the log answered a proposal with a %T", result)
	}
	return out.Revision, out.Err
}

// Preview says what would come of a change if nothing else happened first. It proposes nothing, and fails as the change
// would.
func (s *State) Preview(p Proposal) (*catalog.Preview, error) {
	entry, err := p.encode()
	if err != nil {
		return nil, err
	}
	return s.Current().Preview(entry)
}
