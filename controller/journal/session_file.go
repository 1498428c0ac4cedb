package journal

import (
	"bytes"
	"encoding/json"
	"math"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
)

// line is a line of the journal's file: an event, or what came of a boot whose events are not kept any more.
//
// History: 1 (2026-11) events. 2 (2026-11) results among them; who reads only events takes them for events of no stage.
type line struct {
	boot.Event
	Result *keptResult `json:"result,omitempty"`
}

// keptResult is a result as it is kept; times are Unix milliseconds, 0 for what was not.
type keptResult struct {
	Key      string               `json:"key"`
	Node     catalog.NodeName     `json:"node,omitempty"`
	Hardware catalog.HardwareAddr `json:"hardware,omitempty"`
	Boot     uint64               `json:"boot,omitempty"`
	Started  int64                `json:"started"`
	Last     int64                `json:"last"`
	Reached  [stages]int64        `json:"reached"`
	Failed   int64                `json:"failed,omitempty"`
	Erred    int64                `json:"erred,omitempty"`
	Relay    catalog.RelayName    `json:"relay,omitempty"`
	Image    string               `json:"image,omitempty"`
	Manifest chunk.ID             `json:"manifest,omitzero"`
	Text     string               `json:"text,omitempty"`
	Fix      string               `json:"fix,omitempty"`
	Bytes    int64                `json:"bytes,omitempty"`
	Events   int32                `json:"events,omitempty"`
}

// but are all results but some.
func (ss *sessions) but(some map[*result]bool) []*result {
	var all []*result
	for _, s := range ss.list {
		for _, m := range s.minutes {
			for _, r := range ss.cells[m].results {
				if !some[r] {
					all = append(all, r)
				}
			}
		}
	}
	return all
}

// encodeResults makes results lines of the file.
func encodeResults(results []*keptResult) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	for _, r := range results {
		_ = enc.Encode(struct { // a result always encodes, and a bytes.Buffer takes it
			Result *keptResult `json:"result"`
		}{r})
	}
	return b.Bytes()
}

func (r *result) kept() *keptResult {
	ms := func(at int32) int64 {
		if at == never {
			return 0
		}
		return r.base + int64(at)
	}
	k := &keptResult{
		Key: r.key, Node: r.node, Hardware: r.hardware, Boot: r.boot, Started: ms(r.started), Last: ms(r.last), Failed: ms(r.failed), Erred: ms(r.erred),
		Relay: r.relay, Image: r.image.name, Manifest: r.image.manifest, Text: r.text, Fix: r.fix, Bytes: r.bytes, Events: r.events,
	}
	for i, at := range r.reached {
		k.Reached[i] = ms(at)
	}
	return k
}

// restore takes a result from the file.
func (ss *sessions) restore(k *keptResult) {
	r := newResult(k.Key, &boot.Event{Time: time.UnixMilli(k.Started)})
	at := func(ms int64) int32 {
		if ms == 0 {
			return never
		}
		return r.at(time.UnixMilli(ms))
	}
	r.node, r.hardware, r.boot, r.last, r.failed, r.erred = k.Node, k.Hardware, k.Boot, at(k.Last), at(k.Failed), at(k.Erred)
	r.relay, r.image, r.text, r.fix, r.bytes, r.events = k.Relay, imageRef{k.Image, k.Manifest}, k.Text, k.Fix, k.Bytes, k.Events
	r.relayAt, r.namedAt, r.knownAt, r.script = math.MinInt32, math.MinInt32, math.MinInt32, true // what is known is not told again
	for i, ms := range k.Reached {
		r.reached[i] = at(ms)
	}
	ss.insert(r)
}
