package tftpd

import (
	"container/list"
	"net/netip"
	"slices"
)

// Bounds of all transfers of a server. One that has been acknowledged is held until it ends: a client beyond that many is
// not answered, and asks again. What nothing was heard of is remembered as long as there is room, so that a flood of
// requests in others' names puts only such requests out.
const (
	maxTransfers = 4096
	maxLoose     = 8192
	maxOfClient  = 4
	looseOfOne   = 16
)

// table is the transfers of a worker, by client.
type table struct {
	transfers map[netip.AddrPort]*transfer
	clients   map[netip.Addr]*client
	loose     *list.List // of *transfer: those that nothing was heard of yet, or that are over; the oldest first
	going     int
	maxGoing  int
	maxLoose  int
}

// client is the transfers of one address.
type client struct {
	loose []*list.Element // the oldest first
	going []*transfer
}

// newTable makes the table of one worker of so many.
func newTable(workers int) *table {
	return &table{
		transfers: map[netip.AddrPort]*transfer{}, clients: map[netip.Addr]*client{}, loose: list.New(),
		maxGoing: maxTransfers / workers, maxLoose: maxLoose / workers,
	}
}

// find returns a client's transfer, or nil.
func (b *table) find(peer netip.AddrPort) *transfer { return b.transfers[peer] }

// full tells whether no further transfer may begin.
func (b *table) full() bool { return b.going >= b.maxGoing }

// add takes a transfer in of which nothing was heard yet.
func (b *table) add(t *transfer) {
	c := b.clients[t.peer.Addr()]
	if c == nil {
		c = &client{}
		b.clients[t.peer.Addr()] = c
	}
	b.loosen(c, t)
	b.transfers[t.peer] = t
}

// loosen remembers a transfer for as long as there is room.
func (b *table) loosen(c *client, t *transfer) {
	c.loose = append(c.loose, b.loose.PushBack(t))
	if len(c.loose) > looseOfOne {
		b.remove(c.loose[0].Value.(*transfer))
	}
	if b.loose.Len() > b.maxLoose {
		b.remove(b.loose.Front().Value.(*transfer))
	}
}

// hold keeps a transfer until it ends, because its client is there. It returns another one of the same client that had to
// make room: the one that was not heard of for longest, which may be from before a reset.
func (b *table) hold(t *transfer) (quiet *transfer) {
	c := b.clients[t.peer.Addr()]
	b.tighten(c, t)
	if len(c.going) >= maxOfClient {
		quiet = slices.MinFunc(c.going, func(x, y *transfer) int { return x.heard.Compare(y.heard) })
		b.remove(quiet)
		b.clients[t.peer.Addr()] = c
	}
	t.stage = going
	c.going = append(c.going, t)
	b.going++
	return quiet
}

// finish makes a transfer that is held one that is only remembered.
func (b *table) finish(t *transfer) {
	c := b.clients[t.peer.Addr()]
	b.release(c, t)
	t.stage, t.body = over, nil
	b.loosen(c, t)
}

func (b *table) tighten(c *client, t *transfer) {
	i := slices.IndexFunc(c.loose, func(e *list.Element) bool { return e.Value == any(t) })
	b.loose.Remove(c.loose[i])
	c.loose = slices.Delete(c.loose, i, i+1)
}

func (b *table) release(c *client, t *transfer) {
	c.going = slices.DeleteFunc(c.going, func(x *transfer) bool { return x == t })
	b.going--
}

// remove forgets a transfer.
func (b *table) remove(t *transfer) {
	c := b.clients[t.peer.Addr()]
	if t.stage == going {
		b.release(c, t)
	} else {
		b.tighten(c, t)
	}
	delete(b.transfers, t.peer)
	if len(c.going)+len(c.loose) == 0 {
		delete(b.clients, t.peer.Addr())
	}
}
