package source

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// fromDaemon lets docker or podman on this machine save an image. Without a tag a name is NAME:latest, for docker would save
// all tags of it, or else an image's ID.
func (t *Tree) fromDaemon(ctx context.Context, ref Ref, o Options) (*image, error) {
	socket, err := daemonSocket()
	if err != nil {
		return nil, err
	}
	c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	defer c.CloseIdleConnections()
	names := []string{ref.Name}
	if !strings.ContainsAny(ref.Name[strings.LastIndexByte(ref.Name, '/')+1:], ":@") {
		names = []string{ref.Name + ":latest", ref.Name}
	}
	for _, name := range names {
		at := url.URL{Scheme: "http", Host: "docker", Path: "/images/" + name + "/get"}
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
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
			return t.archive(ctx, a.Body, Ref{Kind: Daemon, Name: name}, o)
		case http.StatusNotFound:
		default:
			return nil, fault.New(fault.Unavailable, "docker at %s answers %s", socket, a.Status)
		}
	}
	return nil, fault.New(fault.NotFound, "docker at %s has no image %s", socket, ref.Name)
}

// daemonSocket is where docker or podman listens, the system's before a user's own.
func daemonSocket() (string, error) {
	if host := os.Getenv("DOCKER_HOST"); host != "" {
		path, ok := strings.CutPrefix(host, "unix://")
		if !ok {
			return "", fault.New(fault.Invalid, "DOCKER_HOST is %s, and only a socket of this machine can be asked", host).
				WithFix("save it there, and import that: docker save -o FILE NAME; wulf image import IMAGE docker-archive:FILE")
		}
		return path, nil
	}
	run := os.Getenv("XDG_RUNTIME_DIR")
	if run == "" {
		run = fmt.Sprintf("/run/user/%d", os.Getuid())
	}
	for _, path := range []string{
		"/var/run/docker.sock", "/run/podman/podman.sock", filepath.Join(run, "docker.sock"), filepath.Join(run, "podman/podman.sock"),
	} {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fault.New(fault.Unavailable, "neither docker nor podman listens on this machine").WithFix("start it, or say where: DOCKER_HOST=unix:///PATH")
}
