package feed_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/boot"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/durable"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/relay/feed"
)

func wantSame(t *testing.T, f *feed.Feed, want *catalog.Catalog) {
	t.Helper()
	if got := f.Catalog(); got.Revision != want.Revision || got.Hash != want.Hash {
		t.Fatalf("the feed is at revision %d (%s), want %d (%s); %q", got.Revision, got.Hash, want.Revision, want.Hash, f.State().Problems)
	}
}

func TestFeedFollowsChangesAtOnce(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(t)
		s := newSetup(t, h, dir)
		stop := (&controller{history: h, name: "c1"}).start(s.net.Host("c1", "10.0.0.1"))
		defer stop()
		f := s.open(s.config("10.0.0.1:4400"))
		if err := f.Admitted(); !errors.Is(err, fault.Unavailable) {
			t.Errorf("without a catalog: %v", err)
		}
		defer s.run(f)()
		time.Sleep(time.Second)
		wantSame(t, f, h.latest())
		if err := f.Admitted(); err != nil {
			t.Error(err)
		}
		for i := range 5 {
			changed := f.Changed()
			want := h.addNode(i)
			time.Sleep(20 * time.Millisecond)
			wantSame(t, f, want)
			select {
			case <-changed:
			default:
				t.Error("nobody was told of the change")
			}
		}
		if st := f.State(); len(st.Problems) > 0 || time.Since(st.Contact) > time.Minute {
			t.Errorf("state %+v", st)
		}
	})
}

func TestFeedServesItsLastCatalogAfterRestartWithoutControllers(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(t)
		s := newSetup(t, h, dir)
		c := &controller{history: h, name: "c1", secrets: api.RelaySecrets{Gossip: []byte("gossip"), Tickets: map[string][]byte{"rack": []byte("ticket")}}}
		stop := c.start(s.net.Host("c1", "10.0.0.1"))
		f := s.open(s.config("10.0.0.1:4400"))
		halt := s.run(f)
		time.Sleep(time.Second)
		for i := range 3 { // come as deltas, of which one is all that is on disk of the last revision
			h.addNode(i)
			time.Sleep(time.Second)
		}
		stop()
		wantSame(t, f, h.latest())
		time.Sleep(2 * time.Minute)
		if p := strings.Join(f.State().Problems, "\n"); !strings.Contains(p, "no controller has answered") {
			t.Errorf("nothing is said about controllers that are gone: %q", p)
		}
		wantSame(t, f, h.latest())
		halt()

		f = s.open(s.config("10.0.0.1:4400"))
		wantSame(t, f, h.latest())
		if p, err := f.Plan(boot.Request{Hardware: "52:54:00:00:00:01"}); err != nil || p.Revision != h.latest().Revision {
			t.Errorf("plan of revision %d, %v", p.Revision, err)
		}
		sec := f.Secrets()
		if key, ok := sec.Tickets["rack"]; string(sec.Gossip.Reveal()) != "gossip" || !ok || string(key.Reveal()) != "ticket" {
			t.Errorf("the secrets did not survive: %v", sec)
		}
		if i, err := os.Stat(filepath.Join(dir, "secrets.json")); err != nil || i.Mode().Perm() != 0o600 {
			t.Errorf("secrets on disk: %v, %v", i.Mode(), err)
		}
	})
}

func TestFeedResyncsWhenTheStateHashDiffers(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(t)
		s := newSetup(t, h, dir)
		c := &controller{history: h, name: "c1"}
		defer c.start(s.net.Host("c1", "10.0.0.1"))()
		f := s.open(s.config("10.0.0.1:4400"))
		defer s.run(f)()
		time.Sleep(time.Second)
		c.lie.Store(true)
		want := h.addNode(1)
		time.Sleep(10 * time.Second)
		wantSame(t, f, want) // from a snapshot, which does not lie
	})
}

func TestFeedNeverGoesBackwards(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(t)
		s := newSetup(t, h, dir)
		for i := range 10 {
			h.addNode(i)
		}
		good := &controller{history: h, name: "c1"}
		stop := good.start(s.net.Host("c1", "10.0.0.1"))
		old := &controller{history: h, name: "c2", limit: 6}
		defer old.start(s.net.Host("c2", "10.0.0.2"))()
		f := s.open(s.config("10.0.0.1:4400", "10.0.0.2:4400"))
		halt := s.run(f)
		time.Sleep(time.Minute)
		wantSame(t, f, h.latest())
		want := h.addNode(99) // an old controller among them does not hold the news up for long
		time.Sleep(20 * time.Second)
		wantSame(t, f, want)
		stop()
		time.Sleep(time.Minute)
		wantSame(t, f, want)
		if p := strings.Join(f.State().Problems, "\n"); !strings.Contains(p, "is at revision 6") {
			t.Errorf("nothing is said about the controller that is behind: %q", p)
		}
		halt()
		f = s.open(s.config("10.0.0.2:4400"))
		defer s.run(f)()
		time.Sleep(time.Minute)
		wantSame(t, f, want)
	})
}

func TestOldFileIsServedUntilAControllerAnswersAndSaidSo(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(t)
		s := newSetup(t, h, dir)
		c := &controller{history: h, name: "c1", keep: 1 << 40} // snapshots only
		host := s.net.Host("c1", "10.0.0.1")
		stop := c.start(host)
		f := s.open(s.config("10.0.0.1:4400"))
		halt := s.run(f)
		time.Sleep(time.Second)
		backup, err := os.ReadFile(filepath.Join(dir, "catalog"))
		if err != nil {
			t.Fatal(err)
		}
		was := h.latest()
		h.addNode(1)
		time.Sleep(20 * time.Second)
		wantSame(t, f, h.latest())
		stop()
		halt()
		if err := os.WriteFile(filepath.Join(dir, "catalog"), backup, 0o600); err != nil {
			t.Fatal(err)
		}

		f = s.open(s.config("10.0.0.1:4400"))
		wantSame(t, f, was)
		if p := strings.Join(f.State().Problems, "\n"); !strings.Contains(p, "an old file was put back") {
			t.Errorf("nothing is said about the old file: %q", p)
		}
		defer s.run(f)()
		time.Sleep(5 * time.Second)
		defer c.start(host)()
		time.Sleep(10 * time.Second)
		wantSame(t, f, h.latest())
		if p := f.State().Problems; len(p) > 0 {
			t.Errorf("problems %q", p)
		}
	})
}

// Whatever byte of the files on disk is damaged, the feed opens, serves a catalog that once was, and says so or
// holds the latest all the same.
func TestDamagedFilesAreNoticedAndFetchedAgain(t *testing.T) {
	for _, file := range []string{"catalog", "catalog.deltas", "secrets.json"} {
		t.Run(file, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				h := newHistory(t)
				s := newSetup(t, h, dir)
				c := &controller{history: h, name: "c1", secrets: api.RelaySecrets{Gossip: []byte("gossip")}}
				host := s.net.Host("c1", "10.0.0.1")
				stop := c.start(host)
				f := s.open(s.config("10.0.0.1:4400"))
				halt := s.run(f)
				time.Sleep(time.Second)
				h.addNode(1)
				time.Sleep(time.Second)
				h.addNode(2)
				time.Sleep(time.Second)
				halt()
				stop()
				path := filepath.Join(dir, file)
				good, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				for at := 0; at < len(good); at += 1 + len(good)/40 {
					for name, bad := range map[string][]byte{"flipped": flip(good, at), "cut off": good[:at]} {
						files := map[string][]byte{}
						for _, n := range []string{"catalog", "catalog.deltas"} {
							files[n], _ = os.ReadFile(filepath.Join(dir, n))
						}
						os.WriteFile(path, bad, 0o600)
						f := s.open(s.config())
						known := f.Catalog().Revision == 0
						for _, c := range h.catalogs {
							known = known || f.Catalog().Revision == c.Revision && f.Catalog().Hash == c.Hash
						}
						if !known {
							t.Fatalf("byte %d %s: the feed serves a catalog that never was, revision %d", at, name, f.Catalog().Revision)
						}
						os.Remove(path + ".damaged")
						for n, b := range files {
							os.WriteFile(filepath.Join(dir, n), b, 0o600)
						}
						os.WriteFile(path, good, 0o600)
					}
				}
				os.WriteFile(path, flip(good, len(good)/2), 0o600)
				defer c.start(host)()
				f = s.open(s.config("10.0.0.1:4400"))
				defer s.run(f)()
				time.Sleep(time.Minute)
				wantSame(t, f, h.latest())
				if p := f.State().Problems; len(p) > 0 {
					t.Errorf("problems %q", p)
				}
			})
		})
	}
}

func flip(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 0x20
	return b
}

func TestRemovedRelayStopsServingAndStaysSo(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(t)
		s := newSetup(t, h, dir)
		c := &controller{history: h, name: "c1", secrets: api.RelaySecrets{Gossip: []byte("gossip")}}
		stop := c.start(s.net.Host("c1", "10.0.0.1"))
		f := s.open(s.config("10.0.0.1:4400"))
		halt := s.run(f)
		time.Sleep(time.Second)
		if err := f.Admitted(); err != nil {
			t.Fatal(err)
		}
		c.deny.Store(true)
		time.Sleep(time.Minute)
		if err := f.Admitted(); !errors.Is(err, fault.Denied) {
			t.Errorf("a removed relay: %v", err)
		}
		if _, err := f.Plan(boot.Request{Hardware: "52:54:00:00:00:01"}); !errors.Is(err, fault.Denied) {
			t.Errorf("a removed relay plans: %v", err)
		}
		if len(f.Secrets().Gossip.Reveal()) > 0 {
			t.Error("a removed relay keeps its secrets")
		}
		stop()
		halt()
		f = s.open(s.config("10.0.0.1:4400"))
		if err := f.Admitted(); err == nil {
			t.Error("after a restart the removed relay serves again")
		}
		if _, err := os.Stat(filepath.Join(dir, "secrets.json")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the secrets are still on disk: %v", err)
		}
	})
}

func TestRelayRefusedInTheHandshakeIsRemoved(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(t)
		s := newSetup(t, h, dir)
		c := &controller{history: h, name: "c1"}
		defer c.start(s.net.Host("c1", "10.0.0.1"))()
		f := s.open(s.config("10.0.0.1:4400"))
		halt := s.run(f)
		time.Sleep(time.Second)
		halt()
		c.shut.Store(true)
		f = s.open(s.config("10.0.0.1:4400"))
		if err := f.Admitted(); err != nil {
			t.Fatal(err)
		}
		defer s.run(f)()
		time.Sleep(time.Minute)
		if err := f.Admitted(); !errors.Is(err, fault.Denied) {
			t.Errorf("a relay that is refused: %v", err)
		}
		c.shut.Store(false)
		time.Sleep(time.Minute)
		if err := f.Admitted(); err != nil {
			t.Errorf("a relay that is admitted again: %v", err)
		}
		wantSame(t, f, h.latest())
		wantSame(t, s.open(s.config()), h.latest())
	})
}

func TestRelayThatTheCatalogDoesNotAdmitServesNothing(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(t)
		s := newSetup(t, h, dir)
		defer (&controller{history: h, name: "c1"}).start(s.net.Host("c1", "10.0.0.1"))()
		cfg := s.config("10.0.0.1:4400")
		f := s.open(cfg)
		defer s.run(f)()
		time.Sleep(time.Second)
		h.change(catalog.DeleteRelay{Name: "r1"})
		time.Sleep(time.Second)
		if err := f.Admitted(); !errors.Is(err, fault.Denied) {
			t.Errorf("a relay that is not in the catalog: %v", err)
		}
	})
}

func TestStatusGoesToEveryControllerThatIsThere(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(t)
		s := newSetup(t, h, dir)
		c1, c2 := &controller{history: h, name: "c1"}, &controller{history: h, name: "c2"}
		defer c1.start(s.net.Host("c1", "10.0.0.1"))()
		defer c2.start(s.net.Host("c2", "10.0.0.2"))()
		s.net.Host("c3", "10.0.0.3")
		s.net.Stall("c3")
		cfg := s.config("10.0.0.1:4400", "10.0.0.2:4400", "10.0.0.3:4400")
		cfg.Status = func() api.RelayStatus { return api.RelayStatus{Name: "r1", Time: time.Now()} }
		f := s.open(cfg)
		defer s.run(f)()
		time.Sleep(time.Minute)
		for _, c := range []*controller{c1, c2} {
			if got := c.reports(); len(got) < 8 || time.Since(got[len(got)-1].Time) > 2*reportEvery {
				t.Errorf("%s has %d reports", c.name, len(got))
			}
		}
	})
}

const reportEvery = 5 * time.Second

// Somebody waits for it: wulf node set --wait.
func TestANewCatalogIsReportedAtOnceButABurstOfThemIsNot(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(t)
		s := newSetup(t, h, dir)
		c := &controller{history: h, name: "c1"}
		defer c.start(s.net.Host("c1", "10.0.0.1"))()
		cfg := s.config("10.0.0.1:4400")
		var f *feed.Feed
		cfg.Status = func() api.RelayStatus { return api.RelayStatus{Name: "r1", Revision: f.State().Revision} }
		f = s.open(cfg)
		defer s.run(f)()
		time.Sleep(reportEvery + 2*time.Second) // it has just reported, but not in the last second
		want := h.addNode(0).Revision
		time.Sleep(100 * time.Millisecond)
		if got := c.reports(); got[len(got)-1].Revision != want {
			t.Errorf("after %d reports the controller knows of revision %d, want %d", len(got), got[len(got)-1].Revision, want)
		}
		before := len(c.reports())
		for i := range 100 {
			want = h.addNode(1 + i).Revision
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(1100 * time.Millisecond)
		got := c.reports()
		if n := len(got) - before; n > 7 {
			t.Errorf("a hundred changes within five seconds were reported %d times", n)
		}
		if last := got[len(got)-1].Revision; last != want {
			t.Errorf("at last the controller knows of revision %d, want %d", last, want)
		}
	})
}

// However often the catalog changes, the relays of a large cluster together tell a controller so no more than 250 times a
// second. A change after a while without any is told soon.
func TestManyRelaysReportFewOfManyChanges(t *testing.T) {
	const relays = 1563
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(t)
		s := newSetup(t, h, dir)
		c := &controller{history: h, name: "c1"}
		defer c.start(s.net.Host("c1", "10.0.0.1"))()
		cfg := s.config("10.0.0.1:4400")
		var f *feed.Feed
		cfg.Status = func() api.RelayStatus { return api.RelayStatus{Name: "r1", Revision: f.State().Revision} }
		cfg.Relays = func() int { return relays }
		f = s.open(cfg)
		defer s.run(f)()
		time.Sleep(time.Minute)
		before := len(c.reports())
		const during = 10 * time.Minute
		for i := range int(during / (2 * time.Second)) {
			h.addNode(i)
			time.Sleep(2 * time.Second)
		}
		reports := len(c.reports()) - before
		t.Logf("%d relays would have reported %.0f times a second", relays, float64(reports*relays)/during.Seconds())
		if most := 250 * int(during/time.Second) / relays; reports > most {
			t.Errorf("%d reports in %v, want at most %d", reports, during, most)
		}
		for i := range 20 {
			time.Sleep(time.Minute + time.Duration(i)*time.Second)
			want := h.addNode(1000 + i).Revision
			time.Sleep(api.SpreadOf(relays) + api.SpreadOf(relays) + 2*time.Second)
			if got := c.reports(); got[len(got)-1].Revision != want {
				t.Errorf("the controller knows of revision %d, want %d", got[len(got)-1].Revision, want)
			}
		}
	})
}

// Where there are few relays, each change is told at once, also right after the relay has told how it is.
func TestAChangeIsReportedAtOnce(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(t)
		s := newSetup(t, h, dir)
		c := &controller{history: h, name: "c1"}
		defer c.start(s.net.Host("c1", "10.0.0.1"))()
		cfg := s.config("10.0.0.1:4400")
		var f *feed.Feed
		cfg.Status = func() api.RelayStatus { return api.RelayStatus{Name: "r1", Revision: f.State().Revision} }
		cfg.Relays = func() int { return 50 }
		f = s.open(cfg)
		defer s.run(f)()
		time.Sleep(time.Minute)
		for i := range 100 {
			want := h.addNode(i).Revision
			time.Sleep(100 * time.Millisecond)
			if got := c.reports(); got[len(got)-1].Revision != want {
				t.Errorf("after 100 ms the controller knows of revision %d, want %d", got[len(got)-1].Revision, want)
			}
			time.Sleep(time.Second + time.Duration(i)*37*time.Millisecond)
		}
	})
}

func TestFullDiskDoesNotStopTheFeed(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(t)
		s := newSetup(t, h, dir)
		defer (&controller{history: h, name: "c1", keep: 1 << 40}).start(s.net.Host("c1", "10.0.0.1"))()
		cfg := s.config("10.0.0.1:4400")
		var full atomic.Bool
		cfg.Disk = durable.FS{Hook: func(op durable.Op, path string) error {
			if full.Load() && op == durable.OpWrite {
				return fault.New(fault.Full, "no space left")
			}
			return nil
		}}
		f := s.open(cfg)
		defer s.run(f)()
		time.Sleep(time.Second)
		full.Store(true)
		want := h.addNode(1)
		time.Sleep(20 * time.Second)
		wantSame(t, f, want)
		if p := strings.Join(f.State().Problems, "\n"); !strings.Contains(p, "cannot be kept on disk") {
			t.Errorf("nothing is said about the full disk: %q", p)
		}
		full.Store(false)
		time.Sleep(20 * time.Second)
		if p := f.State().Problems; len(p) > 0 {
			t.Errorf("problems %q", p)
		}
	})
}
