package replication

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func TestServerIDsAreReadBack(t *testing.T) {
	for _, m := range []Member{{ID: "c1", Store: "ab12"}, {ID: "ctl-01.site", Store: "f", Observer: true}} {
		got, err := parseServerID(m.serverID())
		if err != nil || got != m {
			t.Errorf("%+v came back as %+v, %v", m, got, err)
		}
	}
	for _, bad := range []string{"", "c1", "c1~", "~x", "c1~x~y", "c1~x~observer~", "c 1~x", "c1@h~x", strings.Repeat("a", 65) + "~x"} {
		if m, err := parseServerID(raft.ServerID(bad)); err == nil {
			t.Errorf("%q gives %+v", bad, m)
		}
	}
}

func TestMembersGrowAndLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.grow(5)
		c.propose("a")
		if err := c.at[c.leader()].Remove(t.Context(), "c9"); !errors.Is(err, fault.NotFound) {
			t.Errorf("removing a stranger: %v", err)
		}
		for _, id := range []string{"c5", "c4"} {
			c.remove(id)
			c.await(id+" knows", func() bool { return c.at[id].Status().Role == Waiting })
			c.stop(id)
		}
		c.propose("b")

		// With one of three gone, removing another would leave one that answers of two.
		leader := c.leader()
		var others []string
		for id := range c.at {
			if id != leader {
				others = append(others, id)
			}
		}
		c.stop(others[0])
		time.Sleep(2 * testHeartbeat)
		if err := c.at[leader].Remove(t.Context(), others[1]); !errors.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "no majority") {
			t.Errorf("removing below a majority: %v", err)
		}
		c.remove(others[0]) // the dead one may go
		c.remove(leader)    // the leader too: it hands over
		c.await("the old leader knows", func() bool { return c.at[leader].Status().Role == Waiting })
		last := others[1]
		c.propose("c")
		if err := c.at[last].Remove(t.Context(), last); !errors.Is(err, fault.Conflict) {
			t.Errorf("removing the last voter: %v", err)
		}
		if got := c.at[last].machine.all(); !slices.Equal(got, []string{"a", "b", "c"}) {
			t.Errorf("the last member has %q", got)
		}
	})
}

// remove removes a member at whoever leads, as an API that forwards to the leader does.
func (c *cluster) remove(id string) {
	c.t.Helper()
	for range 5 {
		err := c.at[c.leader()].Remove(within(10*time.Second), id)
		if err == nil {
			return
		}
		if !errors.Is(err, fault.NotLeader) {
			c.t.Fatalf("removing %s: %v", id, err)
		}
		time.Sleep(testHeartbeat)
	}
	c.t.Fatalf("%s could not be removed", id)
}

func TestObserversFollowAndNeverVote(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.grow(1)
		c.start("c2", func(cfg *Config) { cfg.Observer = true })
		c.await("c2 follows", func() bool { return c.at["c2"].Status().Role == Follower })
		rev := c.propose("a")
		time.Sleep(time.Minute)
		if err := c.at["c2"].Wait(t.Context(), rev); err != nil {
			t.Fatal(err)
		}
		for _, m := range c.at["c1"].Status().Members {
			if m.Voter != (m.ID == "c1") || !m.Healthy {
				t.Errorf("%+v", m)
			}
		}
		c.stop("c2")
		c.propose("b") // its absence does not matter
	})
}

func TestUnexpectedMembersAreNotLetIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.start("c1", func(cfg *Config) {
			cfg.Admit = func(m Member) error { return fault.New(fault.Denied, "%s is not in the catalog", m.ID) }
		})
		c.leader()
		c.start("c2")
		c.await("c2 knows why", func() bool { return strings.Contains(c.at["c2"].Status().JoinError, "c2 is not in the catalog") })
		if got := len(c.at["c1"].Status().Members); got != 1 {
			t.Fatalf("%d members", got)
		}
		if err := c.at["c1"].Join(t.Context(), c.at["c2"].Status().Self); err != nil { // decided elsewhere
			t.Fatal(err)
		}
		c.await("c2 votes", func() bool { return c.at["c2"].Status().Self.Voter })
		if got := c.at["c2"].Status().JoinError; got != "" {
			t.Errorf("it is in, and says %q", got)
		}
		clone := c.at["c2"].Status().Self
		clone.Store = "other"
		if err := c.at["c1"].Join(t.Context(), clone); !errors.Is(err, fault.Conflict) {
			t.Errorf("a second controller of the same name: %v", err)
		}
		if err := c.at["c1"].Join(t.Context(), Member{ID: "c3", Store: "x", Addr: addr("c2")}); !errors.Is(err, fault.Conflict) {
			t.Errorf("a second controller at the same address: %v", err)
		}
	})
}

func TestMemberMovesToAnotherAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.grow(3)
		for _, id := range []string{"c1", "c2"} { // each time perhaps the leader, perhaps not
			c.stop(id)
			c.leader()
			moved := func(cfg *Config) { cfg.Addr = "new-" + id + ":4400"; cfg.Dial = c.net.dialer(cfg.Addr) }
			c.start(id, moved)
			c.await("all know the new address", func() bool {
				for _, m := range c.at {
					for _, o := range m.Status().Members {
						if o.ID == id && o.Addr != "new-"+id+":4400" {
							return false
						}
					}
				}
				return true
			})
		}
		c.propose("a")
		c.agree()
	})
}

// A member whose disk was replaced must not vote or acknowledge as the one it was: c1 would count a promise that c2
// does not remember.
func TestMemberWithAnEmptyStoreIsANewOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.grow(3)
		c.propose("a")
		if l := c.leader(); l != "c1" {
			if err := c.at[l].TransferLeadership(t.Context(), "c1"); err != nil {
				t.Fatal(err)
			}
		}
		was := c.at["c2"].Status().Self
		c.stop("c2")
		c.stop("c3")
		if err := os.RemoveAll(c.path("c2", storeDir)); err != nil {
			t.Fatal(err)
		}
		c.start("c2", func(cfg *Config) { cfg.Bootstrap, cfg.Peers = true, nil }) // members.json forbids beginning anew
		time.Sleep(20 * testHeartbeat)
		if _, _, err := c.at["c1"].Propose(within(5*time.Second), []byte("b")); !errors.Is(err, fault.Unavailable) {
			t.Fatalf("one member with memory of three ordered a command: %v", err)
		}
		if s := c.at["c2"].Status(); s.Role != Waiting || s.Self.Store == was.Store {
			t.Fatalf("c2 came back as %+v", s)
		}
		c.start("c3") // now two of three remember
		c.await("c2 is replaced and votes", func() bool { return c.at["c2"].Status().Self.Voter })
		c.propose("c")
		if got := c.agree(); !slices.Equal(got, []string{"a", "c"}) {
			t.Errorf("the log has %q", got)
		}
		for _, m := range c.at["c1"].Status().Members {
			if m.ID == "c2" && m.Store == was.Store {
				t.Error("the lost store is still a member")
			}
		}
	})
}

func TestConnectionsBelongToWhomTheCertificateNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		liar := make(map[string]string)
		withNames := func(cfg *Config) {
			cfg.PeerName = func(conn net.Conn) (string, error) { return conn.(*namedConn).peer, nil }
			inner, id := cfg.Dial, cfg.ID
			cfg.Dial = namedDial(inner, c.net, id, liar)
		}
		c.start("c1", withNames)
		c.leader()
		liar["c2"] = "c7" // c2 shows a certificate for c7
		c.start("c2", withNames)
		time.Sleep(20 * testHeartbeat)
		if got := len(c.at["c1"].Status().Members); got != 1 {
			t.Fatalf("a controller with the wrong certificate is a member, one of %d", got)
		}
		c.stop("c2")
		delete(liar, "c2")
		c.start("c2", withNames)
		c.await("c2 votes", func() bool { return c.at["c2"].Status().Self.Voter })
	})
}

func TestALoneMemberDoesNotBeginAnewWhenItsStoreIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.grow(1)
		c.propose("a")
		c.stop("c1")
		if err := os.RemoveAll(c.path("c1", storeDir)); err != nil {
			t.Fatal(err)
		}
		m := c.start("c1")
		if err := <-m.ended; !errors.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), "has served before") || fault.Fix(err) == "" {
			t.Fatalf("Run = %v, fix %q", err, fault.Fix(err))
		}
		delete(c.at, "c1")
		if err := os.WriteFile(filepath.Join(c.path("c1"), hintFile), []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		m = c.start("c1")
		if err := <-m.ended; !errors.Is(err, fault.Corrupt) {
			t.Fatalf("with an unreadable %s Run = %v", hintFile, err)
		}
		delete(c.at, "c1")
	})
}
