// Package arch holds the repository to its own rules: which package may import which, who owns a library, how large a
// file may be, and what the pure core may not do. It reads the sources in its own process rather than through the go
// command, so that the test cache knows when they change. The rules are the tables of this file; docs/architecture.md
// says why.
package arch

import "strings"

// floors is the dependency rule: a package imports only from floors below its own, so that whoever reads from the
// bottom up never meets a word that was not explained. A new package is given its floor here, in review; a package
// may have its floor before it exists.
var floors = map[string]int{
	"cmd/wulf":       9,
	"cmd/wulf-agent": 9,

	"cmd/wulf/cli":      8,
	"cmd/wulf-agent/**": 8, // its parts: stage one, the service, …

	"controller":             7, // wiring only, as is relay
	"relay":                  7,
	"cmd/wulf/workdir":       7, // where people work inside an image
	"cmd/wulf-agent/image":   7, // fetching and unpacking an image
	"cmd/wulf-agent/storage": 7, // the disks of a node
	"storm":                  7, // machines that are not there, and what becomes of them

	"controller/apiserver": 6,
	"controller/web":       6,
	"relay/dhcpd":          6,
	"relay/dhcp6d":         6,
	"relay/httpd":          6,
	"relay/radvd":          6, // so that iPXE need not wait for a router
	"relay/tftpd":          6,

	"storm/ipxe": 6, // scripts, run for them

	"cmd/wulf-agent/mesh":    6, // how the agent's parts talk to relays
	"cmd/wulf-agent/params":  6, // what the agent is told when it starts
	"cmd/wulf-agent/session": 6, // what stage one hands to the service
	"cmd/wulf-agent/files":   5, // putting overlays in place, and taking them back
	"cmd/wulf-agent/units":   5, // telling systemd of it

	"controller/chunks":  5,
	"controller/journal": 5,
	"controller/publish": 5,
	"controller/state":   5,
	"pkg/capacity":       5, // how long storms will take
	"pkg/render":         5, // what nodes get of their overlays
	"relay/cache":        5,
	"relay/feed":         5,
	"relay/gossip":       5,
	"relay/guard":        5, // bounds of servers that whoever is on a link may ask
	"relay/lease":        5,
	"relay/spool":        5,

	"pkg/api":           4,
	"pkg/pki":           4,
	"pkg/source":        4, // where root file systems come from
	"pkg/stageone":      4,
	"pkg/warewulf/view": 4, // what templates see of its files
	"replication":       4,

	"pkg/admission":  3, // whose turn it is
	"pkg/boot":       3,
	"pkg/chunkstore": 3,
	"pkg/discover":   3,
	"pkg/disks":      3, // what lies on a node's disks, and what is to
	"pkg/overlay":    3,
	"pkg/segment":    3,
	"pkg/tree":       3, // from whom relays fetch chunks
	"pkg/warewulf":   3,

	"pkg/catalog": 2,
	"pkg/modules": 2,

	"pkg/accounts": 1,
	"pkg/chunk":    1,
	"pkg/durable":  1,
	"pkg/nodeset":  1, // so that the catalog may compute from names
	"pkg/openapi":  1, // it knows nothing of what it describes
	"pkg/packages": 1, // it reads any file system

	"pkg/fault": 0, // the vocabulary of everybody
}

// suites are packages outside test/ that only tests import: the contracts that implementations are held to.
var suites = map[string]bool{
	"pkg/chunkstore/storetest": true,
}

// owners names the packages that may import a library, so that each can be replaced, and its quirks are met, in one
// place. A library that is neither here nor in everyones fails the test: it is given an owner, in review. The second
// and later owners need a reason.
var owners = map[string][]string{
	"github.com/hashicorp/raft":               {"replication"},
	"github.com/hashicorp/raft-boltdb":        {"replication"},
	"go.etcd.io/bbolt":                        {"replication"},
	"github.com/hashicorp/go-hclog":           {"replication"}, // raft's logger
	"github.com/hashicorp/go-metrics":         {"replication"}, // raft's metrics
	"github.com/hashicorp/memberlist":         {"relay/gossip"},
	"github.com/hashicorp/go-immutable-radix": {"pkg/catalog"},
	"github.com/insomniacslk/dhcp":            {"relay/dhcp6d", "relay/dhcpd", "cmd/wulf-agent/**", "storm"}, // DHCPv6; the agent asks for its lease, and so do a storm's machines; tests compare the relay's DHCPv4 codec
	"github.com/mdlayher/packet":              {"relay/dhcpd", "cmd/wulf-agent/**"},                          // answers to, and questions from, machines without address
	"github.com/urfave/cli":                   {"cmd/wulf/cli"},
	"github.com/theory/jsonpath":              {"cmd/wulf/cli"},
	"github.com/rogpeppe/go-internal":         {"cmd/wulf/cli"},                                                // its diff; testscript is for tests
	"github.com/klauspost/compress":           {"pkg/segment", "pkg/stageone", "pkg/chunkstore", "pkg/source"}, // frames; the first initramfs; chunks at rest; layers of exports
	"github.com/ulikunitz/xz":                 {"pkg/segment", "pkg/stageone"},                                 // distributions pack archives so, and kernel modules, which tests do too
	"github.com/Masterminds/sprig":            {"pkg/overlay"},
	"go.yaml.in/yaml":                         {"cmd/wulf/cli", "pkg/warewulf"}, // what Warewulf's files are
	"github.com/vishvananda/netlink":          {"cmd/wulf-agent/**"},
	"github.com/vishvananda/netns":            {"cmd/wulf-agent/**"},
	"github.com/coreos/go-systemd":            {"cmd/wulf/cli", "cmd/wulf-agent/**"}, // both are services
	"github.com/google/go-containerregistry":  {"pkg/source"},
	"github.com/docker/cli":                   {"pkg/source"},                          // the file in which logins are
	"github.com/prometheus/client_golang":     {"controller/apiserver", "relay/httpd"}, // each serves its own metrics
}

// everyones are the libraries that any package may import: the extended standard library.
var everyones = []string{
	"golang.org/x/crypto", "golang.org/x/net", "golang.org/x/sync", "golang.org/x/sys", "golang.org/x/time",
}

// testers are the libraries that only tests import.
var testers = []string{
	"github.com/anishathalye/porcupine", "github.com/google/go-cmp", "github.com/rogpeppe/go-internal/testscript",
	"go.uber.org/goleak", "golang.org/x/net/nettest", "pgregory.net/rapid",
}

// pure tells whether a package may open no socket, read no clock and start no goroutine: the same input gives the same
// answer on every controller, every relay and in every test.
func pure(pkg string) bool {
	floor, ok := floorOf(pkg)
	return ok && floor <= 2 || pkg == "pkg/admission" || pkg == "pkg/boot" || pkg == "pkg/capacity" || pkg == "pkg/discover" || pkg == "pkg/disks" || pkg == "pkg/tree" || pkg == "pkg/warewulf"
}

// impure are the imports that a pure package may not have, why, and the names in them that it may use after all.
var impure = map[string]struct {
	why string
	but []string
}{
	"net":                         {"it opens sockets; net/netip has the addresses", []string{"HardwareAddr", "ParseMAC"}},
	"net/http":                    {"it opens sockets", nil},
	"os/exec":                     {"it starts processes", nil},
	"os/signal":                   {"it starts a goroutine", nil},
	"time":                        {"it is given the time, and neither asks nor waits for it", calendar},
	"crypto/rand":                 {"its answers differ", nil},
	"math/rand":                   {"its answers differ", []string{"Rand"}},
	"math/rand/v2":                {"its answers differ", []string{"Rand", "New", "NewPCG"}}, // the caller's dice, or dice that always fall the same
	"golang.org/x/sync/errgroup":  {"it starts goroutines", nil},
	"golang.org/x/sync/semaphore": {"it waits for goroutines", nil},
	"golang.org/x/time/rate":      {"it reads the clock", nil},
}

// calendar is what package time knows without a clock.
var calendar = []string{
	"Time", "Duration", "Month", "Weekday", "Location", "UTC", "Date", "Unix", "UnixMilli", "UnixMicro",
	"Parse", "ParseDuration", "ParseInLocation", "FixedZone", "ParseError",
	"Nanosecond", "Microsecond", "Millisecond", "Second", "Minute", "Hour",
	"RFC3339", "RFC3339Nano", "DateTime", "DateOnly", "TimeOnly", "January", "December", "Sunday", "Saturday",
}

// realTime are the tests that drive real processes and machines, which do not live in virtual time.
var realTime = []string{"test/bench", "test/cluster", "test/demo", "test/e2e", "test/rig", "test/storm"}

const (
	longFile    = 600  // lines of a Go file, after which the test grumbles
	tooLongFile = 1000 // and after which it fails
)

// machinePaths are beginnings of paths on the machines where wulfmesh is made. They mean nothing to anybody else. They
// are written in two halves so that this file passes.
var machinePaths = []string{"/wo" + "rk/", "/ro" + "ot/go/", "/ro" + "ot/.cache/", "/tmp/te" + "am/", "/home/run" + "ner/"}

// ignored are the directories that hold no source.
var ignored = map[string]bool{".git": true, ".cache": true, "bin": true, "node_modules": true}

// floorOf finds the floor of a package; "dir/**" stands for all packages below dir.
func floorOf(pkg string) (int, bool) {
	if f, ok := floors[pkg]; ok {
		return f, true
	}
	for pattern, f := range floors {
		if matches(pattern, pkg) {
			return f, true
		}
	}
	return 0, false
}

func matches(pattern, pkg string) bool {
	if dir, ok := strings.CutSuffix(pattern, "/**"); ok {
		return under(pkg, dir)
	}
	return pattern == pkg
}

// under tells whether a path is dir or below it.
func under(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

// role is the program that a package belongs to, "" for what they share.
func role(pkg string) string {
	switch {
	case under(pkg, "controller"), pkg == "replication":
		return "controller"
	case under(pkg, "relay"):
		return "relay"
	case under(pkg, "cmd/wulf-agent"):
		return "agent"
	}
	return ""
}
