package source

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/cli/cli/config/types"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// logins finds a password where podman login and docker login left it, the helpers that keep them elsewhere included
// (containers-auth.json(5)). The library's own way looks no further than docker's file once there is one, and does not
// know what podman calls docker.io.
type logins struct{}

// Resolve finds the login for an image; none is no error.
func (logins) Resolve(of authn.Resource) (authn.Authenticator, error) {
	for _, path := range loginFiles() {
		f, err := os.Open(path)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return nil, fault.Wrap(kindOf(err), err, "reading logins")
		}
		c, err := config.LoadFromReader(f)
		f.Close()
		if err != nil {
			return nil, fault.Wrap(fault.Invalid, err, "reading logins in %s", path)
		}
		a, err := login(c, of)
		if err != nil {
			return nil, fault.Wrap(fault.Denied, err, "asking for the login of %s, as %s says", of.RegistryStr(), path)
		}
		if a.ServerAddress = ""; a != (types.AuthConfig{}) {
			return authn.FromConfig(authn.AuthConfig{
				Username: a.Username, Password: a.Password, Auth: a.Auth, IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken,
			}), nil
		}
	}
	return authn.Anonymous, nil
}

// loginFiles lists the files to look in, the first first.
func loginFiles() []string {
	if path := os.Getenv("REGISTRY_AUTH_FILE"); path != "" {
		return []string{path}
	}
	home, _ := os.UserHomeDir() // without one there is nothing in it
	var list []string
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		list = append(list, filepath.Join(dir, "containers/auth.json"))
	} else {
		list = append(list, fmt.Sprintf("/run/containers/%d/auth.json", os.Getuid()))
	}
	if dir := os.Getenv("XDG_CONFIG_HOME"); dir != "" {
		list = append(list, filepath.Join(dir, "containers/auth.json"))
	} else if home != "" {
		list = append(list, filepath.Join(home, ".config/containers/auth.json"))
	}
	if dir := os.Getenv("DOCKER_CONFIG"); dir != "" {
		list = append(list, filepath.Join(dir, "config.json"))
	} else if home != "" {
		list = append(list, filepath.Join(home, ".docker/config.json"))
	}
	return list
}

// login finds the login for an image in one file: for the image, a part of the registry, or the registry.
func login(c *configfile.ConfigFile, of authn.Resource) (types.AuthConfig, error) {
	path, hub := strings.CutPrefix(of.String(), name.DefaultRegistry)
	host := of.RegistryStr()
	if hub { // as podman calls it
		path = "docker.io" + path
	}
	for {
		if a, ok := c.AuthConfigs[path]; ok && a != (types.AuthConfig{ServerAddress: a.ServerAddress}) {
			return a, nil
		}
		i := strings.LastIndexByte(path, '/')
		if i < 0 {
			break
		}
		path = path[:i]
	}
	if hub {
		host = authn.DefaultAuthKey
	}
	return c.GetAuthConfig(host)
}
