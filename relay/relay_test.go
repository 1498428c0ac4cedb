package relay_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/overlay"
	"github.com/wulfmesh/wulfmesh/pkg/segment"
)

var (
	ticketIn = regexp.MustCompile(boot.ParamTicket + `=(\S+)`)
)

// script fetches a machine's script and returns the ticket in it.
func (m *machine) script(hw catalog.HardwareAddr) (text, ticket string) {
	m.t.Helper()
	a := m.get("http://10.1.0.1:4480/boot/" + string(hw) + "/script")
	if a.status != 200 {
		m.t.Fatalf("script: %d %s", a.status, a.body)
	}
	if found := ticketIn.FindSubmatch(a.body); found != nil {
		ticket = string(found[1])
	}
	return string(a.body), ticket
}

func (m *machine) claim(q api.SessionRequest, bearer string) (api.Session, answer) {
	m.t.Helper()
	body, _ := json.Marshal(q)
	h := http.Header{"Content-Type": {"application/json"}}
	if bearer != "" {
		h.Set("Authorization", "Bearer "+bearer)
	}
	a := m.do("POST", "https://10.1.0.1:4481/v1/sessions", h, body)
	var s api.Session
	if a.status == 200 {
		if err := json.Unmarshal(a.body, &s); err != nil {
			m.t.Fatal(err)
		}
	}
	return s, a
}

// files are the contents of a listing, compressed or not.
func files(t *testing.T, listing []byte) map[string]string {
	t.Helper()
	plain, _, err := segment.Decompress(bytes.NewReader(listing))
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	raw, err := io.ReadAll(plain)
	if err != nil {
		t.Fatal(err)
	}
	l, err := overlay.DecodeListing(raw)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, f := range l.Files {
		found[f.Path] = string(f.Content)
	}
	return found
}

func TestRelayJoinsAndBootsANode(t *testing.T) {
	dir := t.TempDir()
	inWorld(t, func(w *world) {
		m, id, _ := w.image("debian")
		w.overlays()
		hw := w.node(1, catalog.Settings{})
		w.join(1, dir)
		r, _ := w.run(1, dir)
		time.Sleep(10 * time.Second)
		if s := r.Status(); s.Cache.Missing != 0 || s.Revision != w.catalog().Revision {
			t.Errorf("status %+v", s)
		}

		// The firmware.
		n1 := w.machine(1)
		script, ticket := n1.script(hw)
		if !strings.Contains(script, "/chunk/"+m.Kernels[0].Kernel.ID.String()) || ticket == "" {
			t.Fatalf("script %s", script)
		}
		for _, ref := range []struct{ id string }{{m.Kernels[0].Kernel.ID.String()}, {m.Kernels[0].StageOne.ID.String()}} {
			if a := n1.get("http://10.1.0.1:4480/chunk/" + ref.id); a.status != 200 || a.err != nil {
				t.Errorf("chunk: %d, %v", a.status, a.err)
			}
		}

		// The agent.
		s, a := n1.claim(api.SessionRequest{Ticket: ticket, Claim: "mine"}, "")
		if a.status != 200 || s.Node != "n1" || len(s.Relays) != 1 || s.Relays[0] != "10.1.0.1:4481" || len(s.Plain) != 1 || s.Plain[0] != "10.1.0.1:4480" {
			t.Fatalf("session %+v: %d %s", s, a.status, a.body)
		}
		if _, again := n1.claim(api.SessionRequest{Ticket: ticket, Claim: "mine"}, ""); again.status != 200 {
			t.Errorf("the same claim again: %d %s", again.status, again.body)
		}
		for _, other := range []string{"", "another"} {
			if _, stolen := n1.claim(api.SessionRequest{Ticket: ticket, Claim: other}, ""); stolen.status != 403 {
				t.Errorf("the ticket again with the claim %q: %d", other, stolen.status)
			}
		}
		if longer, a := n1.claim(api.SessionRequest{}, s.Token); a.status != 200 || longer.Node != "n1" {
			t.Errorf("prolonging the session: %d %s", a.status, a.body)
		}
		for _, seg := range append(m.Segments, m.Segments[0]) {
			if a := n1.get("https://10.1.0.1:4481/chunk/" + seg.ID.String()); a.status != 200 || !bytes.Equal(a.body, w.body(seg.ID)) {
				t.Errorf("segment %s: %d", seg.ID.Short(), a.status)
			}
		}
		if a := n1.get("https://10.1.0.1:4481/chunk/" + id.String()); a.status != 200 {
			t.Errorf("manifest: %d", a.status)
		}
		auth := http.Header{"Authorization": {"Bearer " + s.Token}}
		a = n1.do("GET", "https://10.1.0.1:4481/overlay/n1/system", auth, nil)
		got := files(t, a.body)
		if a.status != 200 || got["etc/hostname"] != "n1\n" || !strings.Contains(got["etc/ssh/key"], "OPENSSH PRIVATE KEY") {
			t.Errorf("overlay: %d %v", a.status, got)
		}
		tagged := auth.Clone()
		tagged.Set("If-None-Match", a.header.Get("ETag"))
		if a := n1.do("GET", "https://10.1.0.1:4481/overlay/n1/system", tagged, nil); a.status != 304 {
			t.Errorf("an overlay that did not change: %d", a.status)
		}
		events, _ := json.Marshal(api.EventBatch{Events: []boot.Event{
			{Time: time.Now(), Node: "n2", Stage: boot.StageUp}, {Time: time.Now(), Stage: boot.StageAlive, Error: strings.Repeat("x", 5000)},
		}})
		if a := n1.do("POST", "https://10.1.0.1:4481/v1/node/events", auth, events); a.status/100 != 2 {
			t.Errorf("events: %d %s", a.status, a.body)
		}

		time.Sleep(10 * time.Second)
		boots := map[string]bool{}
		for _, stage := range []boot.Stage{boot.StageScript, boot.StageKernel, boot.StageUp, boot.StageAlive} {
			var found *boot.Event
			for _, e := range w.seen(stage) {
				if e.Error == "" || stage == boot.StageAlive {
					found = &e
				}
			}
			if found == nil {
				t.Errorf("no event of stage %s", stage)
				continue
			}
			if found.Node != "n1" || found.Hardware != hw || found.Relay != "r1" || len(found.Error) > boot.MaxEventText {
				t.Errorf("%s: %+v", stage, found)
			}
			boots[found.Boot] = true
		}
		if len(boots) != 1 {
			t.Errorf("the events are of the boots %v", boots)
		}
		if k := w.seen(boot.StageKernel); len(k) > 0 && k[0].Bytes != m.Kernels[0].Kernel.Size+m.Kernels[0].StageOne.Size && k[0].Error == "" {
			t.Errorf("kernel and stage one have %d bytes", k[0].Bytes)
		}
		if st := w.heard("r1"); st.Name != "r1" || st.Version != "test" || st.Revision != w.catalog().Revision {
			t.Errorf("the controller heard %+v", st)
		}
	})
}

func TestNodesBootWhileEveryControllerIsGone(t *testing.T) {
	dir := t.TempDir()
	inWorld(t, func(w *world) {
		m, _, whole := w.image("debian")
		w.overlays()
		hw := w.node(1, catalog.Settings{})
		w.join(1, dir)
		_, stop := w.run(1, dir)
		time.Sleep(10 * time.Second)
		w.running["c1"]()
		stop() // and it even starts without them
		r, _ := w.run(1, dir)
		n1 := w.machine(1)
		_, ticket := n1.script(hw)
		s, a := n1.claim(api.SessionRequest{Ticket: ticket}, "")
		if a.status != 200 {
			t.Fatalf("session: %d %s", a.status, a.body)
		}
		var got []byte
		for _, seg := range m.Segments {
			got = append(got, n1.get("https://10.1.0.1:4481/chunk/"+seg.ID.String()).body...)
		}
		if !bytes.Equal(got, whole) {
			t.Errorf("the image has the sum %s, want %s", sum(got), sum(whole))
		}
		if a := n1.do("GET", "https://10.1.0.1:4481/overlay/n1/runtime", http.Header{"Authorization": {"Bearer " + s.Token}}, nil); a.status != 200 || files(t, a.body)["etc/hostname"] != "n1\n" {
			t.Errorf("overlay: %d %s", a.status, a.body)
		}
		time.Sleep(2 * time.Minute)
		if p := strings.Join(r.Status().Problems, "\n"); !strings.Contains(p, "no controller has answered") {
			t.Errorf("problems %q", p)
		}
		w.startController() // what happened meanwhile is told
		time.Sleep(2 * time.Minute)
		if len(w.seen(boot.StageScript)) == 0 {
			t.Error("the boot was not told to the controller when it was back")
		}
	})
}

func TestRelayThatIsNotAdmittedServesNothing(t *testing.T) {
	dir := t.TempDir()
	inWorld(t, func(w *world) {
		m, id, _ := w.image("debian")
		w.overlays()
		hw := w.node(1, catalog.Settings{})
		w.join(1, dir)
		w.run(1, dir)
		time.Sleep(10 * time.Second)
		n1 := w.machine(1)
		_, ticket := n1.script(hw)
		w.change(catalog.DeleteRelay{Name: "r1"})
		time.Sleep(time.Second)
		for _, url := range []string{
			"http://10.1.0.1:4480/boot/" + string(hw) + "/script", "http://10.1.0.1:4480/chunk/" + m.Segments[0].ID.String(),
			"http://10.1.0.1:4480/file/" + id.String(), "http://10.1.0.1:4480/boot/" + string(hw) + "/overlay?ticket=" + ticket,
			"http://10.1.0.1:4480/loader/snponly.efi", "http://10.1.0.1:4480/healthz", "https://10.1.0.1:4481/chunk/" + m.Segments[0].ID.String(),
		} {
			if a := n1.get(url); a.status < 400 || !strings.Contains(string(a.body), "not admitted") {
				t.Errorf("%s: %d %s", url, a.status, a.body)
			}
		}
		if _, a := n1.claim(api.SessionRequest{Ticket: ticket}, ""); a.status < 400 {
			t.Errorf("a session: %d", a.status)
		}
	})
}

func TestNodeMayNotHaveWhatIsAnothers(t *testing.T) {
	dir := t.TempDir()
	inWorld(t, func(w *world) {
		w.image("debian")
		w.overlays()
		hw1, hw2 := w.node(1, catalog.Settings{}), w.node(2, catalog.Settings{})
		w.join(1, dir)
		w.run(1, dir)
		time.Sleep(10 * time.Second)
		n1, n2 := w.machine(1), w.machine(2)
		_, ticket1 := n1.script(hw1)
		_, ticket2 := n2.script(hw2)
		s, _ := n1.claim(api.SessionRequest{Ticket: ticket1}, "")
		auth := http.Header{"Authorization": {"Bearer " + s.Token}}
		overlayOf := func(n string, h http.Header) int {
			return n1.do("GET", "https://10.1.0.1:4481/overlay/"+n+"/system", h, nil).status
		}
		if got := overlayOf("n1", auth); got != 200 {
			t.Errorf("its own overlay: %d", got)
		}
		if got := overlayOf("n2", auth); got != 403 {
			t.Errorf("another node's overlay: %d", got)
		}
		for name, h := range map[string]http.Header{
			"nothing": {}, "a ticket": {"Authorization": {"Bearer " + ticket2}}, "rubbish": {"Authorization": {"Bearer ws1.AAAA"}},
			"an altered session": {"Authorization": {"Bearer " + s.Token[:len(s.Token)-2] + "AA"}},
		} {
			if got := overlayOf("n1", h); got != 403 && got != 400 {
				t.Errorf("an overlay with %s: %d", name, got)
			}
		}
		if a := n1.get("http://10.1.0.1:4480/boot/" + string(hw1) + "/overlay?ticket=" + ticket2); a.status != 403 {
			t.Errorf("a boot's overlay with another machine's ticket: %d", a.status)
		}
		time.Sleep(11 * time.Minute)
		if _, a := n2.claim(api.SessionRequest{Ticket: ticket2}, ""); a.status != 403 {
			t.Errorf("a ticket that is over: %d", a.status)
		}
		w.change(catalog.DeleteNodes{Nodes: []catalog.NodeName{"n1"}})
		time.Sleep(time.Second)
		if got := overlayOf("n1", auth); got != 403 && got != 404 {
			t.Errorf("the overlay of a node that is gone: %d", got)
		}
	})
}

func TestFileIsTheConcatenationOfTheSegments(t *testing.T) {
	dir := t.TempDir()
	inWorld(t, func(w *world) {
		_, id, whole := w.image("debian")
		w.join(1, dir)
		w.run(1, dir)
		time.Sleep(10 * time.Second)
		m := w.machine(1)
		url := "http://10.1.0.1:4480/file/" + id.String()
		a := m.get(url)
		if a.status != 200 || !bytes.Equal(a.body, whole) || a.header.Get("Content-Length") != fmt.Sprint(len(whole)) || a.header.Get("Accept-Ranges") != "bytes" {
			t.Fatalf("%d, %d bytes of %d, %v", a.status, len(a.body), len(whole), a.header)
		}
		tag := a.header.Get("ETag")
		if a := m.do("HEAD", url, nil, nil); a.status != 200 || len(a.body) > 0 || a.header.Get("Content-Length") != fmt.Sprint(len(whole)) || a.header.Get("ETag") != tag {
			t.Errorf("HEAD: %d %v", a.status, a.header)
		}
		if a := m.do("GET", url, http.Header{"If-None-Match": {tag}}, nil); a.status != 304 {
			t.Errorf("If-None-Match: %d", a.status)
		}
		n := len(whole)
		for spec, want := range map[string][]byte{
			"bytes=0-0": whole[:1], "bytes=8999-9000": whole[8999:9001], "bytes=100-": whole[100:], "bytes=-10": whole[n-10:],
			fmt.Sprintf("bytes=%d-%d", n-5, n+5): whole[n-5:], "bytes=0-999999999": whole, "bytes=9000-18999": whole[9000:19000],
		} {
			a := m.do("GET", url, http.Header{"Range": {spec}}, nil)
			if a.status != 206 || !bytes.Equal(a.body, want) || a.header.Get("Content-Length") != fmt.Sprint(len(want)) {
				t.Errorf("%s: %d, %d bytes, want %d (%v)", spec, a.status, len(a.body), len(want), a.header)
			}
		}
		if a := m.do("GET", url, http.Header{"Range": {fmt.Sprintf("bytes=%d-", n)}}, nil); a.status != 416 || a.header.Get("Content-Range") != fmt.Sprintf("bytes */%d", n) {
			t.Errorf("beyond the end: %d %v", a.status, a.header)
		}
		if a := m.do("GET", url, http.Header{"Range": {"bytes=0-1"}, "If-Range": {`"other"`}}, nil); a.status != 200 || len(a.body) != n {
			t.Errorf("If-Range of something else: %d, %d bytes", a.status, len(a.body))
		}
		if a := m.get("http://10.1.0.1:4480/file/" + strings.Repeat("ab", 32)); a.status != 404 {
			t.Errorf("an unknown image: %d", a.status)
		}
	})
}

func TestDamagedChunksNeverReachAReader(t *testing.T) {
	dir := t.TempDir()
	inWorld(t, func(w *world) {
		m, id, whole := w.image("debian")
		w.join(1, dir)
		r, _ := w.run(1, dir)
		time.Sleep(10 * time.Second)
		n := w.machine(1)
		for _, ref := range m.Refs() {
			flip(t, dir, ref.ID)
		}
		if a := n.get("http://10.1.0.1:4480/file/" + id.String()); !bytes.Equal(a.body, whole) {
			t.Errorf("the image has the sum %s, want %s (%d, %v)", sum(a.body), sum(whole), a.status, a.err)
		}
		verifies := http.Header{api.HeaderVerifies: {"yes"}}
		for i, header := range []http.Header{nil, verifies, verifies} {
			scheme := []string{"http://10.1.0.1:4480", "http://10.1.0.1:4480", "https://10.1.0.1:4481"}[i]
			for _, ref := range m.Refs() {
				flip(t, dir, ref.ID)
				if a := n.do("GET", scheme+"/chunk/"+ref.ID.String(), header, nil); !bytes.Equal(a.body, w.body(ref.ID)) {
					t.Errorf("chunk %s has the sum %s (%d, %v)", ref.ID.Short(), sum(a.body), a.status, a.err)
				}
			}
		}
		if s := r.Status(); s.Cache.Corrupt < int64(2*len(m.Refs())) || !strings.Contains(strings.Join(s.Problems, "\n"), "was damaged") {
			t.Errorf("status %+v", s)
		}
	})
}

func TestOverlaysAndStrangersAreNotServedAsChunks(t *testing.T) {
	dir := t.TempDir()
	inWorld(t, func(w *world) {
		w.image("debian")
		w.overlays()
		w.join(1, dir)
		w.run(1, dir)
		time.Sleep(10 * time.Second)
		o, _ := w.catalog().Overlay("base")
		m := w.machine(1)
		for name, id := range map[string]string{"an overlay": o.Content.ID.String(), "a stranger": w.put([]byte("stranger")).ID.String()} {
			for _, scheme := range []string{"http://10.1.0.1:4480", "https://10.1.0.1:4481"} {
				if a := m.get(scheme + "/chunk/" + id); a.status != 404 {
					t.Errorf("%s at %s: %d", name, scheme, a.status)
				}
			}
			if a := m.do("GET", "https://10.1.0.1:4481/v1/mesh/chunks/"+id, http.Header{api.HeaderHops: {"1"}}, nil); a.status != 403 {
				t.Errorf("%s as if by a relay: %d", name, a.status)
			}
		}
		if a := m.get("http://10.1.0.1:4480/chunk/..%2f..%2frelay.json"); a.status != 400 && a.status != 404 {
			t.Errorf("a path: %d", a.status)
		}
	})
}

func TestUnknownMachineIsToldWhy(t *testing.T) {
	dir := t.TempDir()
	inWorld(t, func(w *world) {
		w.join(1, dir)
		w.run(1, dir)
		time.Sleep(10 * time.Second)
		script, ticket := w.machine(9).script("52:54:00:ff:ff:ff")
		if !strings.Contains(script, "no node has the hardware address") || ticket != "" {
			t.Errorf("script %s", script)
		}
		time.Sleep(5 * time.Second)
		if e := w.seen(boot.StageScript); len(e) != 1 || e[0].Hardware != "52:54:00:ff:ff:ff" || e[0].Error == "" {
			t.Errorf("events %+v", e)
		}
	})
}

func TestTwoRelaysFindEachOtherAndShareTheLoad(t *testing.T) {
	one, two := t.TempDir(), t.TempDir()
	inWorld(t, func(w *world) {
		w.join(1, one)
		w.join(2, two)
		r1, _ := w.run(1, one)
		r2, _ := w.run(2, two)
		time.Sleep(30 * time.Second)
		if len(r1.Status().Members) != 2 || len(r2.Status().Members) != 2 {
			t.Fatalf("members %v and %v", r1.Status().Members, r2.Status().Members)
		}
		m, _, _ := w.image("debian")
		w.overlays()
		time.Sleep(20 * time.Second)
		if got, want := w.total(), len(m.Refs())+2; got != want {
			t.Errorf("the controller sent %d chunks for %d", got, want)
		}
		for _, r := range []interface{ Status() api.RelayStatus }{r1, r2} {
			if s := r.Status(); s.Cache.Missing != 0 || s.Cache.FromRelays == 0 {
				t.Errorf("%s has %+v", s.Name, s.Cache)
			}
		}
	})
}

func TestCertificateIsRenewedInTime(t *testing.T) {
	dir := t.TempDir()
	inWorld(t, func(w *world) {
		w.validity = 12 * time.Minute
		w.join(1, dir)
		r, stop := w.run(1, dir)
		time.Sleep(30 * time.Minute) // the first one is long over
		if p := strings.Join(r.Status().Problems, "\n"); strings.Contains(p, "certificate") {
			t.Errorf("problems %q", p)
		}
		stop()
		w.run(1, dir)
		time.Sleep(time.Minute)
		if last := w.heard("r1").Time; time.Since(last) > time.Minute {
			t.Errorf("the relay was last heard at %s", last)
		}
	})
}

// A loader fetches the overlays of a one-stage boot in plain, against the ticket, for one address.
func TestOneStageBootGetsItsOverlaysOnce(t *testing.T) {
	dir := t.TempDir()
	inWorld(t, func(w *world) {
		w.image("debian")
		w.overlays()
		hw := w.node(1, catalog.Settings{Method: new(catalog.MethodOneStage)})
		w.join(1, dir)
		w.run(1, dir)
		time.Sleep(10 * time.Second)
		n1 := w.machine(1)
		script, ticket := n1.script(hw)
		url := "http://10.1.0.1:4480/boot/" + string(hw) + "/overlay?ticket=" + ticket
		if !strings.Contains(script, "/file/") || !strings.Contains(script, "/overlay?ticket=") {
			t.Fatalf("script %s", script)
		}
		a := n1.get(url)
		if a.status != 200 {
			t.Fatalf("overlays: %d %s", a.status, a.body)
		}
		found := map[string]map[string]string{}
		for r := segment.NewReader(bytes.NewReader(a.body)); ; {
			e, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if b, _ := io.ReadAll(r); e.Type == segment.File {
				found[e.Path] = files(t, b)
			}
		}
		for _, kind := range []string{"system", "runtime"} {
			if got := found[api.OneStageOverlay+kind+".json"]["etc/hostname"]; got != "n1\n" {
				t.Errorf("the %s overlay has the host name %q", kind, got)
			}
		}
		if a := n1.get(url); a.status != 200 { // iPXE tries again when it was cut off
			t.Errorf("the same machine again: %d", a.status)
		}
		if a := w.machine(2).get(url); a.status != 403 {
			t.Errorf("another address with the same ticket: %d", a.status)
		}
		if _, a := n1.claim(api.SessionRequest{Ticket: ticket}, ""); a.status != 200 { // its agent claims the boot later
			t.Errorf("session: %d %s", a.status, a.body)
		}
	})
}

func TestNodeBootsWithoutSecretsThatNobodyMayHold(t *testing.T) {
	dir := t.TempDir()
	inWorld(t, func(w *world) {
		w.withhold = true
		w.image("debian")
		w.overlays()
		hw := w.node(1, catalog.Settings{})
		w.join(1, dir)
		w.run(1, dir)
		time.Sleep(10 * time.Second)
		n1 := w.machine(1)
		_, ticket := n1.script(hw)
		s, _ := n1.claim(api.SessionRequest{Ticket: ticket}, "")
		a := n1.do("GET", "https://10.1.0.1:4481/overlay/n1/system", http.Header{"Authorization": {"Bearer " + s.Token}}, nil)
		if got := files(t, a.body); a.status != 200 || got["etc/hostname"] != "n1\n" || got["etc/ssh/key"] != "" {
			t.Errorf("overlay: %d %v", a.status, got)
		}
		time.Sleep(5 * time.Second)
		told := false
		for _, e := range w.seen(boot.StageImage) {
			told = told || e.Node == "n1" && strings.Contains(e.Message, "secrets are not held")
		}
		if !told {
			t.Error("nobody was told that the node boots without its secrets")
		}
	})
}
