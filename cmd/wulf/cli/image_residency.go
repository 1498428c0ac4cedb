package cli

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/nodeset"
)

func (p *program) imageResidencyVerb() verb {
	return verb{
		name: "residency", usage: "show which relays have every chunk of a version", args: "IMAGE[:TAG]", least: 1, most: 1,
		about: "Each relay says what is on its disk, and since when every byte of it was read and found right. A relay with NODES 0\n" +
			"serves no node that boots the version. With --wait the command ends when all relays have it that are asked about;\n" +
			"those that do not in time are named, and it exits with 4.",
		examples: []string{"wulf image residency debian", "wulf image residency debian:next --wait --zone hill", "wulf image residency debian --lacking -o nodeset"},
		flags: listFlags(
			text("rack", "only relays of rack `NAME`"), text("zone", "only relays of zone `NAME`"),
			texts("relays", "only the relays `NAME`; several: again, or with commas", "relay"),
			toggle("lacking", "only relays that do not have every chunk"),
			toggle("wait", "wait until all of them have every chunk"),
			duration("wait-timeout", 30*time.Minute, "wait for `TIME` at most"),
		),
		run: p.imageResidency,
	}
}

func (p *program) imageResidency(c *cli.Context) error {
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	name, version := catalog.SplitImage(c.Args().First())
	path := strings.Replace(api.PathResidency, "{name}", url.PathEscape(string(name)), 1) + "?version=" + url.QueryEscape(version)
	list, err := fetch[api.Residency](cl, path)
	if err != nil {
		return err
	}
	list.Items = residencyOf(c, list.Items)
	if c.Bool("wait") {
		if list, err = p.waitResident(c, cl, path, list); err != nil {
			return err
		}
	}
	if c.Bool("lacking") {
		list.Items = slices.DeleteFunc(list.Items, func(r api.Residency) bool { return r.Resident })
	}
	return printList(p, c, listing[api.Residency]{
		list: list,
		name: func(r api.Residency) string { return string(r.Relay) },
		columns: []column[api.Residency]{
			{name: "RELAY", cell: func(r api.Residency) string { return string(r.Relay) }},
			{name: "RACK", cell: func(r api.Residency) string { return or(r.Rack) }},
			{name: "ZONE", wide: true, cell: func(r api.Residency) string { return or(r.Zone) }},
			{name: "NODES", cell: func(r api.Residency) string { return fmt.Sprint(r.Nodes) }},
			{name: "RESIDENT", cell: residentText},
			{name: "CHUNKS", cell: func(r api.Residency) string { return fmt.Sprintf("%d of %s", r.Have, ofChunks(r.Need, r)) }},
			{name: "BYTES", cell: func(r api.Residency) string { return size(r.Bytes) }},
			{name: "SIZE", wide: true, cell: func(r api.Residency) string { return or(sizeOr(r.Size)) }},
			{name: "MISSING", wide: true, cell: func(r api.Residency) string { return ofChunks(r.Need-r.Have, r) }},
			{name: "VERIFIED", cell: func(r api.Residency) string { return ago(r.Verified) }},
			{name: "STATE", cell: func(r api.Residency) string { return aliveText(r.Alive) }},
			{name: "SEEN", wide: true, cell: func(r api.Residency) string { return ago(r.Seen) }},
		},
	})
}

// ofChunks is a number of chunks, of how many, which nobody knows until a relay has read the manifest.
func ofChunks(n int, r api.Residency) string {
	if r.Need == 0 {
		return "?"
	}
	return fmt.Sprint(n)
}

func residentText(r api.Residency) string {
	switch {
	case r.Resident:
		return "yes"
	case r.Size == 0:
		return "no"
	}
	return fmt.Sprintf("%d%%", 100*r.Bytes/r.Size)
}

// residencyOf are the relays that are asked about.
func residencyOf(c *cli.Context, all []api.Residency) []api.Residency {
	relays := names(c, "relays")
	return slices.DeleteFunc(all, func(r api.Residency) bool {
		return c.IsSet("rack") && r.Rack != c.String("rack") || c.IsSet("zone") && r.Zone != c.String("zone") ||
			len(relays) > 0 && !slices.Contains(relays, string(r.Relay))
	})
}

// waitResident returns when all relays that are asked about have every chunk. None at all is a mistake: nothing would be
// proved.
func (p *program) waitResident(c *cli.Context, cl *client, path string, list api.List[api.Residency]) (api.List[api.Residency], error) {
	if len(list.Items) == 0 {
		return list, fault.New(fault.NotFound, "there is no such relay to wait for").WithFix("see wulf relay list")
	}
	ctx, cancel := context.WithTimeout(c.Context, c.Duration("wait-timeout"))
	defer cancel()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		var lacking []string
		for _, r := range list.Items {
			if !r.Resident {
				lacking = append(lacking, string(r.Relay))
			}
		}
		if len(lacking) == 0 {
			return list, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if c.Context.Err() != nil {
				return list, c.Context.Err()
			}
			return list, fault.New(fault.Timeout, "after %s these relays do not have every chunk of %s: %s", c.Duration("wait-timeout"), c.Args().First(), nodeset.Fold(lacking)).
				WithFix("see wulf relay list for what is wrong with them")
		}
		var next api.List[api.Residency]
		if err := cl.Get(ctx, path, &next); err == nil {
			next.Items = residencyOf(c, next.Items)
			list = next
		}
	}
}
