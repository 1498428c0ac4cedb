package controller

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/durable"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Settings are what a controller is by itself, before it knows anything of the cluster. Init and Join write them
// into its data directory.
type Settings struct {
	Cluster   string                 `json:"cluster"`
	Name      catalog.ControllerName `json:"name"`
	Listen    string                 `json:"listen"`              // host:port to listen on
	Advertise string                 `json:"advertise"`           // IP:port where the others reach it
	Found     bool                   `json:"found,omitempty"`     // it begins the cluster, and has not yet
	Endpoints []string               `json:"endpoints,omitempty"` // the other controllers, as last known: whom to ask for a log that is lost
}

// Where things are in the data directory.
const (
	settingsFile = "controller.json" // written last: a directory without it holds no controller
	identityFile = "identity.pem"    // own key and certificate
	secretsDir   = "secrets"         // what all controllers share, and nobody else has
	logDir       = "log"
	chunksDir    = "chunks"
	journalDir   = "journal"
	workDir      = "work" // of imports; emptied at each start
)

// LoadSettings reads the settings of the controller in a data directory; fault.NotFound if there is none.
func LoadSettings(dir string) (Settings, error) {
	var s Settings
	path := filepath.Join(dir, settingsFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, fault.New(fault.NotFound, "there is no controller in %s", dir).
			WithFix("begin a cluster with: wulf controller init, or join one with: wulf controller join TOKEN ADDRESS")
	}
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(b, &s); err != nil || s.Name == "" || s.Advertise == "" {
		return s, fault.Wrap(fault.Corrupt, err, "%s cannot be read", path).WithFix("put back a backup of it")
	}
	return s, nil
}

// checkLog refuses to begin with an empty log where there was one. If this was the only controller, all is lost that
// is not in a backup, and the operator must know; if it was not, the others are asked.
func (s Settings) checkLog(dir string) error {
	entries, err := os.ReadDir(filepath.Join(dir, logDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(entries) > 0 || s.Found || len(s.Endpoints) > 0 {
		return nil
	}
	return fault.New(fault.Corrupt, "the log in %s is gone, and no other controller is known", filepath.Join(dir, logDir)).
		WithFix("put back a backup of it; to begin a new cluster with nothing, remove %s", dir)
}

func (s Settings) save(dir string) error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, settingsFile), append(b, '\n'), 0o600)
}

// nameForm is what can name a member of the replicated log; catalog names may end otherwise.
var nameForm = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$`)

// withDefaults fills in what was not said: names from the host's, the usual port, and an address that others can
// probably reach.
func (s Settings) withDefaults() (Settings, error) {
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	host, _, _ = strings.Cut(host, ".")
	if s.Name == "" {
		if s.Name = catalog.ControllerName(host); !nameForm.MatchString(host) {
			s.Name = "c1"
		}
	}
	if !nameForm.MatchString(string(s.Name)) {
		return s, fault.New(fault.Invalid, "%.80q cannot name a controller", s.Name).
			WithFix("use 1 to 63 letters, digits, '-', '_' or '.', beginning and ending with a letter or digit")
	}
	if s.Cluster == "" {
		s.Cluster = clusterName(host)
	}
	if s.Listen == "" {
		s.Listen = fmt.Sprintf(":%d", api.PortController)
	}
	if s.Advertise == "" {
		if s.Advertise, err = advertise(s.Listen); err != nil {
			return s, err
		}
	}
	if ap, err := netip.ParseAddrPort(s.Advertise); err != nil || ap.Port() == 0 || ap.Addr().IsUnspecified() {
		return s, fault.New(fault.Invalid, "%.80q is not an IP address with a port at which others can reach this controller", s.Advertise).
			WithFix("say one with --advertise, such as 192.0.2.1:%d", api.PortController)
	}
	return s, nil
}

// clusterName makes a host's name one for a cluster: lower-case letters, digits and hyphens between them.
func clusterName(host string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '-'
	}, host)
	name = strings.Trim(name[:min(len(name), catalog.MaxName)], "-")
	if name == "" {
		return "wulfmesh"
	}
	return name
}

// advertise is the address to tell others: the one that is listened on, or if that is any, the first of this machine
// that is not its own business only.
func advertise(listen string) (string, error) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "", fault.Wrap(fault.Invalid, err, "%.80q is not an address to listen on", listen).WithFix("write it as ADDRESS:PORT or :PORT")
	}
	if ip, err := netip.ParseAddr(host); err == nil && !ip.IsUnspecified() {
		return net.JoinHostPort(host, port), nil
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return "", fmt.Errorf("asking for the addresses of this machine: %w", err)
	}
	best := netip.MustParseAddr("127.0.0.1")
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err == nil && p.Addr().Is4() && p.Addr().IsGlobalUnicast() {
			best = p.Addr()
			break
		}
	}
	return net.JoinHostPort(best.String(), port), nil
}
