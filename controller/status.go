package controller

import (
	"bytes"
	"fmt"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/replication"
)

// certWarning is how long before its end a certificate that was not renewed is a problem to tell of.
const certWarning = 10 * 24 * time.Hour

// Status says how the controller is. It does not block.
func (c *Controller) Status() api.ControllerStatus {
	now, log := c.state.Current(), c.node.Status()
	st := api.ControllerStatus{
		Name: c.settings.Name, Cluster: c.settings.Cluster, Version: c.cfg.Version,
		State: stateOf(log), Leader: log.Leader.ID, Term: log.Term,
		Revision: now.Revision, Hash: now.Hash, Nodes: now.NodeCount(),
	}
	free, _, err := c.disk.Free()
	if err != nil {
		st.Problems = append(st.Problems, "the free space cannot be told: "+err.Error())
	}
	st.DiskFree = free
	st.Problems = append(st.Problems, c.problems(now, log)...)
	return st
}

// stateOf is a member's role in the words of the API.
func stateOf(log replication.Status) string {
	if log.Role == replication.Follower && !log.Self.Voter {
		return "non-voter"
	}
	return string(log.Role)
}

// problems are what a person should know, one line each.
func (c *Controller) problems(now *catalog.Catalog, log replication.Status) []string {
	var all []string
	add := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	if log.Leader.ID == "" {
		add("no controller leads: nothing can be changed until a majority of the controllers runs and reaches one another")
	}
	if log.JoinError != "" {
		add("this controller is not let into the log: %s", log.JoinError)
	}
	if log.LowSpace {
		add("only %d MiB are free on the log's disk: this controller orders no changes", log.FreeSpace>>20)
	}
	if log.SetAside != "" {
		add("the log on this disk was damaged; it was fetched from the others, and what was damaged is kept in %s", log.SetAside)
	}
	for _, m := range log.Members {
		if log.Role == replication.Leader && !m.Healthy {
			add("controller %s does not answer", m.ID)
		}
	}
	own := c.keeper.Credentials()
	if left := time.Until(own.Expires()); left < certWarning {
		add("this controller's certificate ends in %s and is not renewed", left.Round(time.Minute))
	}
	if now.Cluster.Name != "" {
		switch self, ok := now.Controller(c.settings.Name); {
		case !ok:
			add("this controller was removed from the cluster; stop it, and delete its data to use the machine again")
		case !bytes.Equal(self.Key, own.KeyHash()):
			add("the cluster knows controller %s with another key", c.settings.Name)
		}
	}
	return append(all, c.chunks.Problems()...)
}
