package source

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// fromRegistry finds an image in a registry, or in a mirror of it, which is asked first. A digest that was asked for is the
// one that comes, whoever sends it.
func fromRegistry(ctx context.Context, ref Ref, o Options) (*image, error) {
	var naming []name.Option
	if o.Insecure {
		naming = append(naming, name.Insecure)
	}
	at, err := parseReference(ref.Name, naming)
	if err != nil {
		return nil, fault.New(fault.Invalid, "%q names no image in a registry: %v", ref.Name, err).WithFix("write docker://[HOST/]NAME[:TAG][@sha256:…]")
	}
	platform, err := parsePlatform(o.Platform)
	if err != nil {
		return nil, err
	}
	o.Progress("asking the registry", 0, 0)
	var first error
	for _, mirror := range append(o.Mirrors, "") {
		from := at
		if mirror != "" {
			repo := strings.TrimSuffix(mirror, "/") + "/" + at.Context().RepositoryStr() + strings.TrimPrefix(at.Name(), at.Context().Name())
			if from, err = parseReference(repo, naming); err != nil {
				return nil, fault.New(fault.Invalid, "%q is no registry: %v", mirror, err)
			}
		}
		i, err := oneRegistry(ctx, at, from, platform, o)
		if err == nil {
			return i, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		first = err // the registry's own word is the last
	}
	return nil, first
}

// parseReference reads NAME[:TAG][@DIGEST]; with both, the digest is what counts.
func parseReference(s string, naming []name.Option) (name.Reference, error) {
	if at, digest, ok := strings.Cut(s, "@"); ok {
		tag, err := name.NewTag(at, naming...)
		if err != nil {
			return nil, err
		}
		return name.NewDigest(tag.Context().Name()+"@"+digest, naming...)
	}
	return name.ParseReference(s, naming...)
}

func oneRegistry(ctx context.Context, at, from name.Reference, platform v1.Platform, o Options) (*image, error) {
	auth := remote.WithAuthFromKeychain(authn.DefaultKeychain)
	if o.Username != "" {
		auth = remote.WithAuth(&authn.Basic{Username: o.Username, Password: o.Password})
	}
	options := []remote.Option{remote.WithContext(ctx), remote.WithPlatform(platform), remote.WithTransport(resuming{o.transport()}), auth, remote.WithUserAgent("wulfmesh")}
	i, err := remote.Image(from, options...)
	if err != nil {
		return nil, refused(from, err)
	}
	digest, err := i.Digest()
	if err != nil {
		return nil, refused(from, err)
	}
	config, err := i.RawConfigFile()
	if err != nil {
		return nil, refused(from, err)
	}
	layers, err := i.Layers()
	if err != nil {
		return nil, refused(from, err)
	}
	blobs := make([]blob, len(layers))
	for n, l := range layers {
		h, err := l.Digest()
		if err != nil {
			return nil, refused(from, err)
		}
		size, err := l.Size()
		if err != nil {
			return nil, refused(from, err)
		}
		blobs[n] = blob{digest: h.String(), size: size, open: func(context.Context) (io.ReadCloser, error) {
			r, err := l.Compressed()
			if err != nil {
				return nil, refused(from, err)
			}
			return r, nil
		}}
	}
	label := "docker://" + plainName(at)
	if _, pinned := at.(name.Digest); !pinned {
		label += "@" + digest.String()
	}
	return imageOf(label, config, blobs)
}

func (o *Options) transport() http.RoundTripper {
	if o.Transport != nil {
		return o.Transport
	}
	t := remote.DefaultTransport.(*http.Transport).Clone() // which goes by the proxies that the environment names
	if o.Insecure {
		t.TLSClientConfig = &tls.Config{InsecureSkipVerify: true} // it was asked for
	}
	return t
}

// refused says what a registry's answer means.
func refused(ref name.Reference, err error) error {
	host := ref.Context().RegistryStr()
	if te, ok := errors.AsType[*transport.Error](err); ok {
		switch te.StatusCode {
		case http.StatusUnauthorized, http.StatusForbidden:
			return fault.New(fault.Denied, "%s does not let you have %s", host, ref.Name()).WithFix("log in with podman login %s or docker login %s, or give --username and --password-file; the name may be wrong, too", host, host)
		case http.StatusNotFound:
			return fault.New(fault.NotFound, "%s has no image %s", host, ref.Name())
		case http.StatusTooManyRequests:
			return fault.New(fault.Denied, "%s says that there were too many requests", host).WithFix("log in, wait, or ask a mirror: --mirror HOST")
		}
		return fault.New(fault.Unavailable, "%s answers %d %s", host, te.StatusCode, http.StatusText(te.StatusCode))
	}
	if strings.Contains(err.Error(), "no child with platform") {
		return fault.New(fault.NotFound, "%s is not there for this platform: %v", ref.Name(), err).WithFix("see which there are, and say --platform OS/ARCH")
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return fault.New(fault.Denied, "%s shows a certificate that is not trusted here: %v", host, err).WithFix("add its CA to this machine's, or say --insecure")
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return fault.New(fault.Unavailable, "%s does not answer: %v", host, op)
	}
	return fault.Wrap(fault.Unavailable, err, "%s", host)
}

// resuming goes on with an answer that breaks off where it broke off: layers have gigabytes.
type resuming struct{ http.RoundTripper }

// RoundTrip sends a request.
func (t resuming) RoundTrip(r *http.Request) (*http.Response, error) {
	a, err := t.RoundTripper.RoundTrip(r)
	if err != nil || r.Method != http.MethodGet || a.StatusCode != http.StatusOK || !strings.Contains(r.URL.Path, "/blobs/") || a.ContentLength <= 0 {
		return a, err
	}
	a.Body = &resumed{t: t.RoundTripper, r: r, body: a.Body, size: a.ContentLength}
	return a, nil
}

type resumed struct {
	t       http.RoundTripper
	r       *http.Request
	body    io.ReadCloser
	n, size int64
	tries   int
}

// Read reads on, after a broken connection by another one.
func (b *resumed) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	b.n += int64(n)
	if err == nil || b.n >= b.size || b.r.Context().Err() != nil {
		return n, err
	}
	if b.tries++; b.tries > fetchTries {
		return n, err
	}
	again := b.r.Clone(b.r.Context())
	again.Header.Set("Range", fmt.Sprintf("bytes=%d-", b.n))
	a, e := b.t.RoundTrip(again)
	if e != nil {
		return n, err
	}
	if a.StatusCode != http.StatusPartialContent || !strings.HasPrefix(a.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", b.n)) {
		a.Body.Close()
		return n, err
	}
	b.body.Close()
	b.body = a.Body
	return n, nil
}

// Close closes the connection.
func (b *resumed) Close() error { return b.body.Close() }

// fromDaemon lets docker or podman on this machine save an image.
func (t *Tree) fromDaemon(ctx context.Context, ref Ref, o Options) (*image, error) {
	socket, err := daemonSocket()
	if err != nil {
		return nil, err
	}
	c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	defer c.CloseIdleConnections()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker/images/"+ref.Name+"/get", nil)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "image %q", ref.Name)
	}
	a, err := c.Do(r)
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "docker at %s does not answer", socket)
	}
	defer a.Body.Close()
	switch a.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return nil, fault.New(fault.NotFound, "docker at %s has no image %s", socket, ref.Name)
	default:
		return nil, fault.New(fault.Unavailable, "docker at %s answers %s", socket, a.Status)
	}
	return t.archive(ctx, &reading{ctx: ctx, r: a.Body, step: "fetching", progress: o.Progress}, Ref{Kind: Daemon, Name: ref.Name}, o)
}

// daemonSocket is where docker or podman listens.
func daemonSocket() (string, error) {
	if host := os.Getenv("DOCKER_HOST"); host != "" {
		path, ok := strings.CutPrefix(host, "unix://")
		if !ok {
			return "", fault.New(fault.Invalid, "DOCKER_HOST is %s, and only a socket of this machine can be asked", host).WithFix("save it there, and import that: docker save -o FILE NAME; wulf image import IMAGE docker-archive:FILE")
		}
		return path, nil
	}
	for _, path := range []string{"/var/run/docker.sock", "/run/podman/podman.sock"} {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fault.New(fault.Unavailable, "neither docker nor podman listens on this machine").WithFix("start it, or say where: DOCKER_HOST=unix:///PATH")
}
