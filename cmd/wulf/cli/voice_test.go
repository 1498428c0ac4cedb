package cli_test

import (
	"context"
	"encoding/json"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
)

// voice is how a relay is heard by the controllers, and nothing else of one.
type voice struct {
	*api.Client
	name catalog.RelayName
}

// admitted lets a relay join through the API, as the program of a relay does, and returns its voice.
func admitted(ctx context.Context, socket, name, address string) (*voice, error) {
	root := api.NewClient(api.ClientConfig{Endpoints: func() []string { return []string{api.UnixScheme + socket} }})
	defer root.Close()
	var token api.TokenResult
	if err := root.Post(ctx, api.PathTokens, api.TokenRequest{
		Role: catalog.TokenRelay, Name: name, Rack: "r07", Networks: []catalog.NetworkName{"rack"}, Uses: 1, TTL: time.Minute,
	}, &token); err != nil {
		return nil, err
	}
	parsed, err := pki.ParseToken(token.Token)
	if err != nil {
		return nil, err
	}
	key, csr, err := pki.NewKeyAndCSR()
	if err != nil {
		return nil, err
	}
	endpoints := func() []string { return token.Endpoints }
	first := api.NewClient(api.ClientConfig{Endpoints: endpoints, TLS: pki.PinnedTLS(parsed.CA, []string{api.ALPNHTTP})})
	defer first.Close()
	var joined api.JoinedRelay
	if err := first.Post(ctx, api.PathJoinRelay, api.JoinRelay{Token: token.Token, CSR: csr, Relay: catalog.Relay{
		Addresses: []netip.Addr{netip.MustParseAddr(address)}, BootPort: api.PortBoot, MeshPort: api.PortMesh,
		Mesh: address + ":4481", Gossip: address + ":4482",
	}}, &joined); err != nil {
		return nil, err
	}
	own, err := pki.NewCredentials(key, []byte(joined.Certificate), []byte(joined.CA))
	if err != nil {
		return nil, err
	}
	return &voice{name: joined.Name, Client: api.NewClient(api.ClientConfig{
		Endpoints: endpoints, TLS: pki.ClientTLS(pki.NewKeeper(own), []string{api.ALPNHTTP}, pki.Controller),
	})}, nil
}

// report tells which revision the relay serves.
func (v *voice) report(ctx context.Context, rev catalog.Revision) error {
	path := strings.Replace(api.PathRelayStatus, "{name}", string(v.name), 1)
	return v.Post(ctx, path, api.RelayStatus{Name: v.name, Version: "test", Revision: rev, Time: time.Now()}, nil)
}

// voices are the relays of a script, in its values.
type voices map[string]*voice

type voicesKey struct{}

// relay NAME ADDRESS: a relay joins and is heard.
func relay(ts *testscript.TestScript, _ bool, args []string) {
	v, err := admitted(context.Background(), ts.Getenv("WULF_SOCKET"), args[0], args[1])
	ts.Check(err)
	ts.Value(voicesKey{}).(voices)[args[0]] = v
	ts.Defer(v.Close)
}

// reports NAME REVISION: a relay says which revision it serves.
func reports(ts *testscript.TestScript, _ bool, args []string) {
	rev, err := strconv.ParseUint(args[1], 10, 64)
	ts.Check(err)
	ts.Check(ts.Value(voicesKey{}).(voices)[args[0]].report(context.Background(), catalog.Revision(rev)))
}

// events NAME FILE: a relay tells what it saw. NOW in the file is the time, BEFORE that of three days ago.
func events(ts *testscript.TestScript, _ bool, args []string) {
	var batch api.EventBatch
	now := time.Now().UTC()
	times := strings.NewReplacer("NOW", now.Format(time.RFC3339Nano), "BEFORE", now.AddDate(0, 0, -3).Format(time.RFC3339Nano))
	ts.Check(json.Unmarshal([]byte(times.Replace(ts.ReadFile(args[1]))), &batch))
	ts.Check(ts.Value(voicesKey{}).(voices)[args[0]].Post(context.Background(), api.PathEvents, batch, nil))
}
