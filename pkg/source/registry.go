package source

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
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

// oneRegistry finds the image at under the name from. What a mirror cannot give after all comes from where it belongs.
func oneRegistry(ctx context.Context, at, from name.Reference, platform v1.Platform, o Options) (*image, error) {
	puller, err := remote.NewPuller(o.remote(from, at, platform)...)
	if err != nil {
		return nil, refused(from, err)
	}
	found, err := puller.Get(ctx, from)
	if err != nil {
		return nil, refused(from, err)
	}
	i, err := found.Image()
	if err != nil {
		return nil, refused(from, err)
	}
	digest, err := i.Digest()
	if err != nil {
		return nil, refused(from, err)
	}
	m, err := i.Manifest()
	if err != nil {
		return nil, refused(from, err)
	}
	if m.Config.Size <= 0 || m.Config.Size > maxConfig { // it is read into memory
		return nil, fault.New(fault.Invalid, "%s has a configuration of %d bytes", plainName(from), m.Config.Size)
	}
	config, err := i.RawConfigFile()
	if err != nil {
		return nil, refused(from, err)
	}
	blobs := make([]blob, len(m.Layers))
	for n, l := range m.Layers {
		blobs[n] = blob{digest: l.Digest.String(), size: l.Size, tries: fetchTries, open: fetches(puller, from, l.Digest)}
		if from != at {
			origin, err := remote.NewPuller(o.remote(at, at, platform)...) // which asks nobody before it has to
			if err != nil {
				return nil, refused(at, err)
			}
			blobs[n].elsewhere = fetches(origin, at, l.Digest)
		}
	}
	label := "docker://" + plainName(at)
	if _, pinned := at.(name.Digest); !pinned {
		label += "@" + digest.String()
	}
	return imageOf(label, config, blobs, o)
}

// fetches opens a layer at a registry.
func fetches(p *remote.Puller, from name.Reference, digest v1.Hash) func(context.Context) (io.ReadCloser, error) {
	return func(ctx context.Context) (io.ReadCloser, error) {
		l, err := p.Layer(ctx, from.Context().Digest(digest.String()))
		if err != nil {
			return nil, refused(from, err)
		}
		r, err := l.Compressed()
		if err != nil {
			return nil, refused(from, err)
		}
		return r, nil
	}
}

// remote is how to talk to the registry of from. A password that was given is for the registry of at, and no mirror's business.
func (o *Options) remote(from, at name.Reference, platform v1.Platform) []remote.Option {
	auth := remote.WithAuthFromKeychain(logins{})
	if o.Username != "" && from.Context().RegistryStr() == at.Context().RegistryStr() {
		auth = remote.WithAuth(&authn.Basic{Username: o.Username, Password: o.Password})
	}
	return []remote.Option{remote.WithPlatform(platform), remote.WithTransport(resuming{o.transport(), stalled}), auth, remote.WithUserAgent("wulfmesh")}
}

func (o *Options) transport() http.RoundTripper {
	t := o.Transport
	if t == nil {
		network := remote.DefaultTransport.(*http.Transport).Clone() // which goes by the proxies that the environment names
		if o.Insecure {
			network.TLSClientConfig = &tls.Config{InsecureSkipVerify: true} // it was asked for
		}
		t = network
	}
	if !o.Insecure {
		t = onlyTLS{t}
	}
	return t
}

// onlyTLS sends nothing in the clear, but to this machine. The library takes plain HTTP for good enough wherever an address is
// private or a name ends in .local, passwords included, if it only answers sooner.
type onlyTLS struct{ http.RoundTripper }

var errPlain = fault.New(fault.Denied, "plain HTTP can be read and changed by anybody on its way").WithFix("if that is all right, say --insecure")

// RoundTrip sends a request, or refuses to.
func (t onlyTLS) RoundTrip(r *http.Request) (*http.Response, error) {
	if host := r.URL.Hostname(); r.URL.Scheme != "https" && host != "localhost" && !net.ParseIP(host).IsLoopback() {
		return nil, errPlain
	}
	return t.RoundTripper.RoundTrip(r)
}

// refused says what a registry's answer means.
func refused(ref name.Reference, err error) error {
	host := ref.Context().RegistryStr()
	if te, ok := errors.AsType[*transport.Error](err); ok {
		switch te.StatusCode {
		case http.StatusUnauthorized, http.StatusForbidden:
			return fault.New(fault.Denied, "%s does not let you have %s", host, plainName(ref)).WithFix("log in with podman login %s or docker login %s, or give --username and --password-file; the name may be wrong, too", host, host)
		case http.StatusNotFound:
			return fault.New(fault.NotFound, "%s has no image %s", host, plainName(ref))
		case http.StatusTooManyRequests:
			return fault.New(fault.Denied, "%s says that there were too many requests", host).WithFix("log in, wait, or ask a mirror: --mirror HOST")
		}
		return fault.New(fault.Unavailable, "%s answers %d %s", host, te.StatusCode, http.StatusText(te.StatusCode))
	}
	if strings.Contains(err.Error(), "no child with platform") {
		return fault.New(fault.NotFound, "%s is not there for this platform: %v", plainName(ref), err).WithFix("see which there are, and say --platform OS/ARCH")
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return fault.New(fault.Denied, "%s shows a certificate that is not trusted here: %v", host, err).WithFix("add its CA to this machine's, or say --insecure")
	}
	switch text := err.Error(); {
	case strings.Contains(text, "does not match requested digest"):
		return fault.New(fault.Corrupt, "%s sends another image than the one with the digest %s", host, ref.Identifier())
	case strings.Contains(text, "server gave HTTP response to HTTPS client"):
		return fault.New(fault.Denied, "%s speaks plain HTTP, which anybody can read and change on its way", host).WithFix("if that is all right, say --insecure")
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return fault.New(fault.Unavailable, "%s does not answer: %v", host, op)
	}
	if fault.KindOf(err) != fault.Internal { // a login that cannot be read, or a connection that stalls
		return err
	}
	return fault.Wrap(fault.Unavailable, err, "%s", host)
}
