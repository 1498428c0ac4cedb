package controller_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wulfmesh/wulfmesh/controller"
	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
)

// relay lets a relay join with a token, over the network, and returns its credentials.
func (c *cluster) relay(name, ip string) (*pki.Credentials, error) {
	c.t.Helper()
	return c.joinRelay(c.token(api.TokenRequest{Role: catalog.TokenRelay, Name: name, Networks: c.network()}), ip, c.ctls...)
}

// network makes the network in which relays serve.
func (c *cluster) network() []catalog.NetworkName {
	c.t.Helper()
	if _, ok := c.leader().Catalog().Network("rack"); !ok {
		c.change(catalog.AddNetwork{Network: catalog.Network{
			Name: "rack", Prefix: netip.MustParsePrefix("10.1.0.0/16"), DHCP: catalog.DHCPAuthoritative, Secrets: catalog.SecretsRelay,
		}})
	}
	return []catalog.NetworkName{"rack"}
}

// secretsCA is the cluster's authority, as the first controller holds it.
func (c *cluster) secretsCA() *pki.CA {
	c.t.Helper()
	ca, err := pki.LoadCA(filepath.Join(c.ctls[0].dir, "secrets", "ca.pem"))
	if err != nil {
		c.t.Fatal(err)
	}
	return ca
}

func (c *cluster) joinRelay(text, ip string, at ...*member) (*pki.Credentials, error) {
	token, err := pki.ParseToken(text)
	if err != nil {
		return nil, err
	}
	key, csr, err := pki.NewKeyAndCSR()
	if err != nil {
		return nil, err
	}
	client := api.NewClient(api.ClientConfig{
		Endpoints: func() (all []string) {
			for _, m := range at {
				all = append(all, m.addr())
			}
			return all
		},
		TLS: pki.PinnedTLS(token.CA, []string{api.ALPNHTTP}), Dial: c.admin.Dial,
	})
	defer client.Close()
	var joined api.JoinedRelay
	if err := client.Post(c.t.Context(), api.PathJoinRelay, api.JoinRelay{Token: text, CSR: csr, Relay: catalog.Relay{
		Addresses: []netip.Addr{netip.MustParseAddr(ip)}, BootPort: 4480, MeshPort: 4481, Mesh: ip + ":4481", Gossip: ip + ":4482",
	}}, &joined); err != nil {
		return nil, err
	}
	return pki.NewCredentials(key, []byte(joined.Certificate), []byte(joined.CA))
}

func TestARelayJoinsFollowsAndIsRemoved(t *testing.T) {
	bubble(t, 3, func(t *testing.T, c *cluster) {
		own, err := c.relay("r1", "10.1.0.1")
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range c.ctls { // each knows it, however fresh the admission
			client := c.client(own, m)
			var secrets api.RelaySecrets
			if err := client.Get(t.Context(), api.PathSecrets, &secrets); err != nil || len(secrets.Networks["rack"]) != 32 {
				t.Errorf("secrets at %s: %v, %v", m.name, secrets, err)
			}
			news, err := client.Catalog(t.Context(), 0, 0)
			if err != nil || news.Snapshot == nil {
				t.Fatalf("catalog at %s: %+v, %v", m.name, news, err)
			}
			have := news.Snapshot
			got := make(chan *catalog.Catalog, 1)
			go func() {
				news, err := client.Catalog(t.Context(), have.Revision, 30*time.Second)
				if err == nil && news.Delta != nil {
					have, err = api.Follow(have, news.Delta)
				}
				if err != nil {
					t.Errorf("following %s: %v", m.name, err)
				}
				got <- have
			}()
			rev := c.change(addNode("n-"+m.name), c.follower())
			if now := <-got; now.Revision < rev {
				t.Errorf("%s told of revision %d, not %d", m.name, now.Revision, rev)
			}
			client.Close()
		}
		rev := c.change(catalog.DeleteRelay{Name: "r1"})
		for _, m := range c.ctls {
			c.eventually("the removal to be known at "+m.name, func() bool { return m.Catalog().Revision >= rev })
			client := c.client(own, m)
			_, err := client.Catalog(t.Context(), 0, 0)
			is(t, "a removed relay at "+m.name, err, fault.Denied)
			client.Close()
		}
	})
}

func TestJoiningNeedsAGoodTokenOfThisCluster(t *testing.T) {
	bubble(t, 1, func(t *testing.T, c *cluster) {
		controllerToken := func(q api.TokenRequest) string { q.Role = catalog.TokenController; return c.token(q) }
		join := func(token, name string) error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			dir := filepath.Join(t.TempDir(), "x")
			_, err := controller.Join(ctx, dir, controller.JoinConfig{
				Token: token, Endpoints: []string{c.ctls[0].addr()}, Dial: c.admin.Dial,
				Settings: controller.Settings{Name: catalog.ControllerName(name), Advertise: "10.0.0.9:4400"},
			})
			if _, e := controller.LoadSettings(dir); err != nil && !errors.Is(e, fault.NotFound) {
				t.Errorf("a failed join left a controller behind: %v", e)
			}
			return err
		}
		foreign, err := pki.NewCA("demo", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		own := c.secretsCA()
		good, short := controllerToken(api.TokenRequest{}), controllerToken(api.TokenRequest{TTL: time.Second})
		forRelay := c.token(api.TokenRequest{Role: catalog.TokenRelay, Networks: c.network()})
		time.Sleep(2 * time.Second)
		is(t, "an expired token", join(short, "c9"), fault.Denied)
		is(t, "a malformed token", join("wulf1.hello", "c9"), fault.Invalid)
		is(t, "a token of another cluster's authority", join(pki.NewToken(foreign.Fingerprint()).Text(), "c9"), fault.Denied)
		is(t, "an unknown token", join(pki.NewToken(own.Fingerprint()).Text(), "c9"), fault.Denied)
		is(t, "a relay's token", join(forRelay, "c9"), fault.Denied)
		if err := join(good, "c9"); err != nil {
			t.Errorf("a good token: %v", err)
		}
		is(t, "a token that is used up", join(good, "c8"), fault.Denied)
		n := 0
		for range c.ctls[0].Catalog().Controllers() {
			n++
		}
		if n != 2 {
			t.Errorf("the catalog has %d controllers", n)
		}
	})
}

// root is a root file system in a tar, with a kernel or without.
func root(kernel bool, text string) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(name, body string) {
		w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Typeflag: tar.TypeReg, Size: int64(len(body))})
		io.WriteString(w, body)
	}
	add("sbin/init", "#!/bin/sh\n")
	add("etc/motd", text)
	if kernel {
		head := make([]byte, 0x300)
		copy(head[0x202:], "HdrS")
		add("boot/vmlinuz-6.1", string(head))
	}
	w.Close()
	return b.Bytes()
}

// upload imports an image and returns the last line of the answer.
func (c *cluster) upload(client *api.Client, name string, archive []byte) (last api.ImportProgress, err error) {
	a, err := client.Do(c.t.Context(), api.Request{
		Method: http.MethodPost, Path: "/v1/images/" + name + "?source=test&tag=v1", Size: int64(len(archive)), Once: true,
		Body: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive)), nil },
	})
	if err != nil {
		return last, err
	}
	defer a.Body.Close()
	for d := json.NewDecoder(a.Body); ; {
		var q api.ImportProgress
		if err := d.Decode(&q); err == io.EOF {
			return last, nil
		} else if err != nil {
			return last, err
		}
		last = q
	}
}

func TestAnImageIsOnAMajorityBeforeItIsInTheCatalog(t *testing.T) {
	bubble(t, 3, func(t *testing.T, c *cluster) {
		away := c.follower()
		c.net.Cut(away.name)
		at := c.leader()
		if other := c.follower(); other != away {
			at = other // a follower imports, too
		}
		client := c.operator(at)
		defer client.Close()
		last, err := c.upload(client, "tiny", root(true, "hello"))
		if err != nil || last.Version == nil || last.Result == nil {
			t.Fatalf("import: %+v, %v", last, err)
		}
		img, ok := at.Catalog().Image("tiny")
		if !ok || img.Tags["v1"] != last.Version.Manifest.ID || len(img.Versions[0].Kernels) != 1 || img.Versions[0].By != "operator/alice" {
			t.Errorf("in the catalog: %+v", img)
		}
		held := map[string]int{}
		for _, m := range c.ctls {
			held[m.name] = len(chunksIn(t, m))
		}
		if held[away.name] != 0 && held[away.name] >= held[at.name] {
			t.Errorf("chunks held: %v", held)
		}
		c.net.Heal()
		c.eventually("the third controller to hold it too", func() bool {
			have, all := chunksIn(t, away), chunksIn(t, at)
			for id := range all {
				if !have[id] {
					return false
				}
			}
			return len(away.Status().Problems) == 0
		})

		// What cannot be an image leaves nothing.
		before := at.Catalog().Revision
		last, err = c.upload(client, "broken", root(false, "x"))
		if err != nil || last.Error == nil || last.Error.Kind != fault.Invalid || !strings.Contains(last.Error.Detail, "no kernel") {
			t.Errorf("without a kernel: %+v, %v", last, err)
		}
		if at.Catalog().Revision != before {
			t.Error("it reached the log")
		}
	})
}

func TestARelayTakesEachChunkOnceFromAnyController(t *testing.T) {
	bubble(t, 3, func(t *testing.T, c *cluster) {
		own, err := c.relay("r1", "10.1.0.1")
		if err != nil {
			t.Fatal(err)
		}
		late := c.follower()
		c.net.Cut(late.name)
		client := c.operator(c.leader())
		last, err := c.upload(client, "tiny", root(true, strings.Repeat("text ", 1000)))
		client.Close()
		if err != nil || last.Version == nil {
			t.Fatalf("import: %+v, %v", last, err)
		}
		c.net.Heal()
		c.eventually("the news to be everywhere", func() bool {
			_, ok := late.Catalog().Image("tiny")
			return ok
		})
		// The one that was away may not have the chunk yet; it gets it from the others while the relay waits.
		from := c.client(own, late)
		defer from.Close()
		ref := last.Version.Kernels[0].Kernel
		a, err := from.Do(t.Context(), api.Request{Method: http.MethodGet, Path: api.ChunkPath(ref.ID), Header: http.Header{
			api.HeaderSize: {"768"},
		}})
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(a.Body)
		a.Body.Close()
		if err != nil || chunk.Of(b) != ref.ID {
			t.Errorf("%d bytes, %v", len(b), err)
		}
		synctest.Wait() // it is counted after it was sent
		if n := late.ChunksServed()[ref.ID.String()]; n != 1 {
			t.Errorf("counted %d times", n)
		}
	})
}

func chunksIn(t *testing.T, m *member) map[string]bool {
	have := map[string]bool{}
	err := filepath.WalkDir(filepath.Join(m.dir, "chunks"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			have[d.Name()] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return have
}

func TestOnlyTheOwnerCanReadTheData(t *testing.T) {
	bubble(t, 2, func(t *testing.T, c *cluster) {
		for _, m := range c.ctls {
			err := filepath.WalkDir(m.dir, func(path string, d fs.DirEntry, err error) error {
				if err != nil {
					return err
				}
				info, err := d.Info()
				if err != nil {
					return nil // a temporary file that is gone
				}
				if mode := info.Mode().Perm(); path == m.dir && mode != 0o700 || strings.Contains(path, "secrets") && mode&0o077 != 0 ||
					d.Name() == "identity.pem" && mode != 0o600 {
					t.Errorf("%s has mode %o", path, mode)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestACertificateIsRenewedInTime(t *testing.T) {
	bubble(t, 1, func(t *testing.T, c *cluster) {
		m := c.ctls[0]
		path := filepath.Join(m.dir, "identity.pem")
		old, err := pki.LoadCredentials(path)
		if err != nil {
			t.Fatal(err)
		}
		c.end(m)
		time.Sleep(12 * 24 * time.Hour) // while nothing runs, for the sake of the test's time
		c.start(m)
		c.leader()
		own, err := pki.LoadCredentials(path)
		if err != nil {
			t.Fatal(err)
		}
		if !own.Expires().After(old.Expires()) || !bytes.Equal(own.KeyHash(), old.KeyHash()) {
			t.Errorf("it ended %s and now ends %s", old.Expires(), own.Expires())
		}
		c.change(addNode("n1"))
		if st := m.Status(); len(st.Problems) != 0 {
			t.Errorf("problems %q", st.Problems)
		}
	})
}

func TestShippedOverlaysLeaveTheSitesOwnAlone(t *testing.T) {
	bubble(t, 1, func(t *testing.T, c *cluster) {
		m := c.ctls[0]
		shipped := 0
		for o := range m.Catalog().Overlays() {
			if o.Shipped {
				shipped++
			}
		}
		p, _ := m.Catalog().Profile(catalog.DefaultProfile)
		if shipped == 0 || len(p.Settings.Overlays.System) == 0 {
			t.Fatalf("%d overlays are shipped; the default profile has %v", shipped, p.Settings.Overlays)
		}
		client := c.operator()
		body := []byte(`{"format":1,"files":[{"path":"etc/hosts","type":"file","content":"aGk="}]}`)
		a, err := client.Do(t.Context(), api.Request{Method: http.MethodPut, Path: "/v1/overlays/hosts", Size: int64(len(body)),
			Body: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }})
		if err != nil {
			t.Fatal(err)
		}
		discard(a.Body)
		client.Close()
		mine, _ := m.Catalog().Overlay("hosts")
		c.change(catalog.SetProfiles{Names: []catalog.ProfileName{catalog.DefaultProfile}, Unset: []string{"overlays"}, Set: catalog.Settings{Init: new("/bin/x")}})
		c.end(m)
		c.start(m)
		c.leader()
		time.Sleep(10 * time.Second)
		now, _ := m.Catalog().Overlay("hosts")
		if base, own := now.Layers(); own != mine.Content || !base.ID.IsZero() || !now.Shipped {
			t.Errorf("a restart put the shipped one back: %+v", now)
		}
		if p, _ := m.Catalog().Profile(catalog.DefaultProfile); len(p.Settings.Overlays.System) != 0 {
			t.Errorf("a restart put the overlays back into the default profile: %v", p.Settings.Overlays)
		}
	})
}

func TestTwoControllersCannotUseOneDirectory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "c1")
		s := controller.Settings{Name: "c1", Cluster: "demo", Advertise: "10.0.0.1:4400"}
		if _, err := controller.Init(dir, s); err != nil {
			t.Fatal(err)
		}
		_, err := controller.Init(dir, s)
		is(t, "a second init", err, fault.Conflict)
		for what, s := range map[string]controller.Settings{
			"a bad cluster name": {Cluster: "Not A Name", Name: "c1", Advertise: "10.0.0.1:4400"},
			"a bad name":         {Cluster: "demo", Name: "c1-", Advertise: "10.0.0.1:4400"},
			"a bad address":      {Cluster: "demo", Name: "c1", Advertise: "somewhere"},
			"any address":        {Cluster: "demo", Name: "c1", Advertise: "0.0.0.0:4400"},
		} {
			_, err := controller.Init(filepath.Join(t.TempDir(), "c1"), s)
			is(t, what, err, fault.Invalid)
		}
	})
}
