package source

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// lonely takes away every login of whoever runs the tests.
func lonely(t *testing.T) {
	for _, v := range []string{"HOME", "DOCKER_CONFIG", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"} {
		t.Setenv(v, t.TempDir())
	}
	t.Setenv("REGISTRY_AUTH_FILE", "")
}

func isBlob(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/")
}

func TestALoginMayBeATokenOfAnotherServer(t *testing.T) {
	lonely(t)
	s := newServer(t)
	s.push(t, "lab/two:1", two(t))
	s.spoiled(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/token" {
			user, password, _ := r.BasicAuth()
			if user != "me" || password != "secret" || r.URL.Query().Get("scope") != "repository:lab/two:pull" {
				w.WriteHeader(http.StatusUnauthorized)
				return true
			}
			fmt.Fprint(w, `{"token":"go"}`)
			return true
		}
		if r.Header.Get("Authorization") == "Bearer go" {
			return false
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="lab"`, s.host))
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	at := "docker://" + s.host + "/lab/two:1"
	if _, err := open(t, at, Options{}); !errors.Is(err, fault.Denied) {
		t.Errorf("without a login: %v", err)
	}
	if _, err := open(t, at, Options{Username: "me", Password: "secret"}); err != nil {
		t.Errorf("with one: %v", err)
	}
}

func TestLoginsAreFoundWhereverTheyAre(t *testing.T) {
	login := func(user string) string { return base64.StdEncoding.EncodeToString([]byte(user + ":secret")) }
	auths := func(pairs ...string) string {
		var list []string
		for i := 0; i < len(pairs); i += 2 {
			list = append(list, fmt.Sprintf(`%q:{"auth":%q}`, pairs[i], login(pairs[i+1])))
		}
		return `{"auths":{` + strings.Join(list, ",") + `}}`
	}
	for what, tc := range map[string]struct {
		files map[string]string // by the variable that names their directory
		image string
		want  string
	}{
		"nowhere":                     {nil, "quay.io/lab/x", ""},
		"podman's":                    {map[string]string{"XDG_RUNTIME_DIR/containers/auth.json": auths("quay.io", "a")}, "quay.io/lab/x", "a"},
		"podman's that stays":         {map[string]string{"XDG_CONFIG_HOME/containers/auth.json": auths("quay.io", "a")}, "quay.io/lab/x", "a"},
		"podman's, docker has others": {map[string]string{"XDG_CONFIG_HOME/containers/auth.json": auths("quay.io", "a"), "DOCKER_CONFIG/config.json": auths("ghcr.io", "b")}, "quay.io/lab/x", "a"},
		"docker's, podman has others": {map[string]string{"XDG_CONFIG_HOME/containers/auth.json": auths("quay.io", "a"), "DOCKER_CONFIG/config.json": auths("ghcr.io", "b")}, "ghcr.io/lab/x", "b"},
		"of a part of the registry":   {map[string]string{"XDG_RUNTIME_DIR/containers/auth.json": auths("quay.io", "all", "quay.io/lab", "lab", "quay.io/la", "no")}, "quay.io/lab/x", "lab"},
		"docker.io by podman":         {map[string]string{"XDG_RUNTIME_DIR/containers/auth.json": auths("docker.io", "a")}, "debian", "a"},
		"docker.io by docker":         {map[string]string{"DOCKER_CONFIG/config.json": auths("https://index.docker.io/v1/", "a")}, "docker.io/library/debian", "a"},
		"of another registry":         {map[string]string{"DOCKER_CONFIG/config.json": auths("quay.io", "a")}, "quay.io.example.org/x/y", ""},
		"empty":                       {map[string]string{"DOCKER_CONFIG/config.json": "{}"}, "quay.io/lab/x", ""},
	} {
		t.Run(what, func(t *testing.T) {
			lonely(t)
			for path, content := range tc.files {
				v, rest, _ := strings.Cut(path, "/")
				path = filepath.Join(os.Getenv(v), rest)
				os.MkdirAll(filepath.Dir(path), 0o755)
				os.WriteFile(path, []byte(content), 0o600)
			}
			ref, err := name.ParseReference(tc.image)
			if err != nil {
				t.Fatal(err)
			}
			a, err := logins{}.Resolve(ref.Context())
			if err != nil {
				t.Fatal(err)
			}
			got, err := a.Authorization()
			if err != nil || got.Username != tc.want {
				t.Errorf("got %q, want %q: %v", got.Username, tc.want, err)
			}
		})
	}
	lonely(t)
	path := filepath.Join(t.TempDir(), "auth.json")
	os.WriteFile(path, []byte("no JSON"), 0o600)
	t.Setenv("REGISTRY_AUTH_FILE", path)
	ref, _ := name.ParseReference("quay.io/x/y")
	if _, err := (logins{}).Resolve(ref.Context()); !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), path) {
		t.Errorf("a file that cannot be read: %v", err)
	}
	os.WriteFile(path, []byte(auths("quay.io", "a")), 0o600)
	if a, err := (logins{}).Resolve(ref.Context()); err != nil || a == authn.Anonymous {
		t.Errorf("the file that REGISTRY_AUTH_FILE names: %v", err)
	}
}

func TestAMirrorIsNotToldThePassword(t *testing.T) {
	lonely(t)
	origin, mirror := newServer(t), newServer(t)
	origin.push(t, "lab/two:1", two(t))
	var told atomic.Int64
	mirror.spoiled(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") != "" {
			told.Add(1)
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="mirror"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	if _, err := open(t, "docker://"+origin.host+"/lab/two:1", Options{Mirrors: []string{mirror.host}, Username: "me", Password: "secret"}); err != nil {
		t.Error(err)
	}
	if told.Load() > 0 {
		t.Error("the mirror was told the password")
	}
}

func TestWhatAMirrorCannotGiveComesFromTheOrigin(t *testing.T) {
	origin, mirror := newServer(t), newServer(t)
	origin.push(t, "lab/two:1", two(t))
	mirror.push(t, "lab/two:1", two(t))
	config, _ := two(t).ConfigName()
	for what, answer := range map[string]func(w http.ResponseWriter, r *http.Request){
		"gone":    func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) },
		"garbage": func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "garbage") },
	} {
		mirror.spoiled(func(w http.ResponseWriter, r *http.Request) bool {
			if !isBlob(r) || strings.Contains(r.URL.Path, config.Hex) {
				return false
			}
			answer(w, r)
			return true
		})
		tree, err := open(t, "docker://"+origin.host+"/lab/two:1", Options{Mirrors: []string{mirror.host}})
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if got := words(t, tree); got != twoWords {
			t.Errorf("%s: it holds %s", what, got)
		}
	}
}

func TestAnAnswerThatStallsGoesOn(t *testing.T) {
	body := strings.Repeat("0123456789", 1000)
	var asked atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 1 {
			w.Header().Set("Content-Length", fmt.Sprint(len(body)))
			io.WriteString(w, body[:1234])
			w.(http.Flusher).Flush()
			<-r.Context().Done() // it says no more
			return
		}
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(body))
	}))
	defer s.Close()
	c := http.Client{Transport: resuming{http.DefaultTransport, 100 * time.Millisecond}}
	a, err := c.Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	got, err := io.ReadAll(a.Body)
	if err != nil || string(got) != body || asked.Load() != 2 {
		t.Errorf("got %d bytes in %d answers, %v", len(got), asked.Load(), err)
	}
}

func TestAServerThatNeverGoesOnIsLeft(t *testing.T) {
	stop := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/silent" {
			<-stop
			return
		}
		w.Header().Set("Content-Length", "1000") // whatever is asked for: no ranges here
		io.WriteString(w, "only this")
		w.(http.Flusher).Flush()
		select {
		case <-r.Context().Done():
		case <-stop:
		}
	}))
	defer s.Close()
	defer close(stop)
	c := http.Client{Transport: resuming{http.DefaultTransport, 100 * time.Millisecond}}
	if _, err := c.Get(s.URL + "/silent"); !errors.Is(err, fault.Unavailable) {
		t.Errorf("one that says nothing: %v", err)
	}
	a, err := c.Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	if got, err := io.ReadAll(a.Body); !errors.Is(err, fault.Unavailable) || string(got) != "only this" {
		t.Errorf("one that stops: %q, %v", got, err)
	}
}

func TestARegistryThatLiesIsFoundOut(t *testing.T) {
	s := newServer(t)
	h := s.push(t, "lab/two:1", two(t))
	other := s.push(t, "lab/other:1", containerOf(t, "amd64", archive("x", "other")))
	raw := func(img interface{ RawManifest() ([]byte, error) }) []byte { b, _ := img.RawManifest(); return b }
	manifest := raw(two(t))
	huge := strings.Replace(string(manifest), `"config":{`, `"config":{"x":"`+strings.Repeat("x", 1)+`",`, 1)
	config, _ := two(t).RawConfigFile()
	huge = strings.Replace(huge, fmt.Sprintf(`"size":%d`, len(config)), `"size":99999999999`, 1)
	for what, tc := range map[string]struct {
		ref    string
		answer string
		kind   fault.Kind
		say    string
	}{
		"another image than the one asked for":       {"lab/two@" + other.String(), string(manifest), fault.Corrupt, other.Hex},
		"a configuration that would fill the memory": {"lab/two:1", huge, fault.Invalid, "99999999999"},
		"no manifest": {"lab/two:1", "[]", "", ""},
	} {
		s.spoiled(func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, "/manifests/") {
				return false
			}
			w.Header().Set("Content-Type", "application/vnd.docker.distribution.manifest.v2+json")
			io.WriteString(w, tc.answer)
			return true
		})
		_, err := open(t, "docker://"+s.host+"/"+tc.ref, Options{})
		if err == nil || tc.kind != "" && !errors.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.say) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v (%s)", what, err, fault.KindOf(err))
		}
	}
	_ = h
}

func TestAnImageForAnotherPlatformIsRefusedOnlyIfOneWasAskedFor(t *testing.T) {
	s := newServer(t)
	s.push(t, "lab/arm:1", containerOf(t, "arm64", archive("x", "1")))
	at := "docker://" + s.host + "/lab/arm:1"
	for platform, ok := range map[string]bool{"": true, "arm64": true, "linux/amd64": false} {
		if _, err := open(t, at, Options{Platform: platform}); (err == nil) != ok || err != nil && !errors.Is(err, fault.NotFound) {
			t.Errorf("for %q: %v", platform, err)
		}
	}
}

func TestNothingGoesInTheClearUnlessThatWasAskedFor(t *testing.T) {
	lonely(t)
	s := newServer(t)
	s.push(t, "lab/two:1", two(t))
	var asked atomic.Int64
	s.spoiled(func(http.ResponseWriter, *http.Request) bool { asked.Add(1); return false })
	sends := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://"+r.Host+r.URL.Path, http.StatusTemporaryRedirect)
	}))
	defer sends.Close()
	network := &http.Transport{ // every host is the registry, or on port 443 the server that sends us there
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			to := s.host
			if strings.HasSuffix(addr, ":443") {
				to = sends.Listener.Addr().String()
			}
			return (&net.Dialer{}).DialContext(ctx, "tcp", to)
		},
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}
	defer network.CloseIdleConnections()
	for _, host := range []string{"10.0.0.5:5000", "registry.cluster.local:5000", "registry.example.org:5000", "registry.example.org"} {
		asked.Store(0)
		o := Options{Transport: network, Username: "me", Password: "secret"}
		_, err := open(t, "docker://"+host+"/lab/two:1", o)
		if !errors.Is(err, fault.Denied) || !strings.Contains(fault.Fix(err), "--insecure") || asked.Load() > 0 {
			t.Errorf("%s: %d requests, %v", host, asked.Load(), err)
		}
		o.Insecure = true
		if _, err := open(t, "docker://"+host+"/lab/two:1", o); err != nil {
			t.Errorf("%s with --insecure: %v", host, err)
		}
	}
}

func TestTheHubHasItsUsualName(t *testing.T) {
	for text, want := range map[string]string{
		"debian":           "docker.io/library/debian:latest",
		"lab/x:1":          "docker.io/lab/x:1",
		"quay.io/lab/x":    "quay.io/lab/x:latest",
		"docker.io/lab/x":  "docker.io/lab/x:latest",
		"index.docker.iox": "docker.io/library/index.docker.iox:latest",
	} {
		ref, err := parseReference(text, nil)
		if err != nil || plainName(ref) != want {
			t.Errorf("%s is called %v, %v", text, ref, err)
		}
	}
}
