package cli

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func (p *program) relay() *cli.Command {
	standFlags := []cli.Flag{
		text("rack", "the `NAME` of the rack where it stands"),
		text("zone", "the `NAME` of its zone"),
		texts("networks", "it serves network `NAME`; several: again, or with commas", "network"),
	}
	return noun("relay", "who boots the nodes of a rack, with or without controllers",
		verb{
			name: "token", usage: "make a token with which a relay may join",
			about:    "The token is printed on standard output, and cannot be shown again.",
			examples: []string{"wulf relay token --networks rack --rack r07", "wulf relay token --name r1 --networks rack --ttl 10m"},
			flags:    tokenFlags(standFlags...), run: func(c *cli.Context) error { return p.token(c, catalog.TokenRelay) },
		},
		p.relayJoinVerb(),
		p.relayRunVerb(),
		verb{
			name: "list", aliases: []string{"ls"}, usage: "list relays, what they serve, and how far they are",
			examples: []string{"wulf relay list", "wulf relay list -o wide"}, flags: listFlags(), run: p.relayList,
		},
		verb{
			name: "show", usage: "show a relay, and how much it has to send", args: "RELAY", least: 1, most: 1,
			examples: []string{"wulf relay show r1"}, flags: showFlags(), run: p.relayShow,
		},
		verb{
			name: "set", usage: "change where a relay stands, what it serves, to how many at once, and what it may take", args: "RELAY", least: 1, most: 1,
			about: "A relay that follows another fetches chunks from that one, wherever both stand: at a site at the end of one link,\n" +
				"for example. --rate bounds what it sends to other relays, and what it fetches before a node asks; nodes get what\n" +
				"they ask for as fast as it comes. --budget wins over --cache of wulf relay run.",
			examples: []string{
				"wulf relay set r1 --rack r08", "wulf relay set r1 --networks rack,admin", "wulf relay set r7 --follow r1",
				"wulf relay set r1 --rate 200MB --budget 200GB", "wulf relay set r1 --slots auto --reserve 4",
			},
			flags: changeFlags(append(append(standFlags, slotsFlags()...),
				text("follow", "it fetches chunks from `RELAY`, or as all do: none"),
				text("rate", "`SIZE` a second, as 200MB, that it sends to relays and fetches ahead; none: any"),
				text("budget", "its chunks take at most `SIZE`, as 200GB; none: as its program was told"))...), run: p.relaySet,
		},
		verb{
			name: "zone", usage: "say what a zone's link may carry", args: "ZONE", least: 1, most: 1,
			about:    "The relays of the zone share the rate: of what comes from outside, from other zones and from controllers.",
			examples: []string{"wulf relay zone hill --rate 50MB", "wulf relay zone hill --rate none"},
			flags:    changeFlags(text("rate", "`SIZE` a second, as 50MB, that its relays fetch from outside, all together; none: any")), run: p.relayZone,
		},
		verb{
			name: "remove", usage: "admit a relay no longer", args: "RELAY", least: 1, most: 1,
			examples: []string{"wulf relay remove r1"}, flags: changeFlags(), run: p.relayRemove,
		},
	)
}

func relayName(v api.RelayView) string { return string(v.Name) }

func relayStatus(v api.RelayView) api.RelayStatus {
	if v.Status == nil {
		return api.RelayStatus{}
	}
	return *v.Status
}

func (p *program) relayList(c *cli.Context) error {
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	list, err := fetch[api.RelayView](cl, api.PathRelays)
	if err != nil {
		return err
	}
	return printList(p, c, listing[api.RelayView]{
		list: list,
		name: relayName,
		columns: []column[api.RelayView]{
			{name: "NAME", cell: relayName},
			{name: "RACK", cell: func(v api.RelayView) string { return or(v.Rack) }},
			{name: "ZONE", wide: true, cell: func(v api.RelayView) string { return or(v.Zone) }},
			{name: "NETWORKS", cell: func(v api.RelayView) string { return or(words(v.Networks)) }},
			{name: "ADDRESSES", cell: func(v api.RelayView) string { return or(ipTexts(v.Addresses)) }},
			{name: "STATE", cell: func(v api.RelayView) string {
				if v.Status == nil {
					return "never"
				}
				if v.Alive && v.Status.Unwell {
					return "unwell"
				}
				return aliveText(v.Alive)
			}},
			{name: "SEEN", wide: true, cell: func(v api.RelayView) string { return ago(v.Seen) }},
			{name: "REVISION", cell: func(v api.RelayView) string { return or(revision(relayStatus(v).Revision)) }},
			{name: "CHUNKS", cell: func(v api.RelayView) string {
				cache := relayStatus(v).Cache
				if cache.Missing > 0 {
					return fmt.Sprintf("%d of %d", cache.Chunks, cache.Chunks+cache.Missing)
				}
				return fmt.Sprint(cache.Chunks)
			}},
			{name: "CACHE", wide: true, cell: func(v api.RelayView) string { return size(relayStatus(v).Cache.Bytes) }},
			{name: "BUDGET", wide: true, cell: func(v api.RelayView) string { return or(sizeOr(v.Budget)) }},
			{name: "RATE", wide: true, cell: func(v api.RelayView) string { return or(rate(v.Rate)) }},
			{name: "ZONERATE", wide: true, cell: func(v api.RelayView) string { return or(rate(v.ZoneRate)) }},
			{name: "FOLLOWS", wide: true, cell: func(v api.RelayView) string { return or(string(v.Follows)) }},
			{name: "FETCHED", wide: true, cell: func(v api.RelayView) string {
				cache := relayStatus(v).Cache
				return fmt.Sprintf("%d+%d", cache.FromRelays, cache.FromController)
			}},
			{name: "SERVED", wide: true, cell: func(v api.RelayView) string { return fmt.Sprint(relayStatus(v).Cache.Served) }},
			{name: "CORRUPT", wide: true, cell: func(v api.RelayView) string { return fmt.Sprint(relayStatus(v).Cache.Corrupt) }},
			{name: "SLOTS", wide: true, cell: func(v api.RelayView) string { return sendsTo(relayStatus(v).Load) }},
			{name: "WAITING", wide: true, cell: func(v api.RelayView) string { return waitingText(relayStatus(v).Load) }},
			{name: "SENT", wide: true, cell: func(v api.RelayView) string { return rateText(relayStatus(v).Load.Rate) }},
			{name: "VERSION", wide: true, cell: func(v api.RelayView) string { return or(relayStatus(v).Version) }},
			{name: "PROBLEMS", cell: func(v api.RelayView) string { return strings.Join(relayStatus(v).Problems, "; ") }},
		},
	})
}

func findRelay(cl *client, name string) (api.RelayView, error) {
	list, err := fetch[api.RelayView](cl, api.PathRelays)
	if err != nil {
		return api.RelayView{}, err
	}
	found, err := find("relay", list.Items, []string{name}, relayName)
	if err != nil {
		return api.RelayView{}, err
	}
	return found[0], nil
}

func (p *program) relaySet(c *cli.Context) error {
	change := catalog.SetRelay{Rack: said(c, "rack"), Zone: said(c, "zone")}
	if c.IsSet("networks") {
		list := []catalog.NetworkName{}
		for _, n := range names(c, "networks") {
			list = append(list, catalog.NetworkName(n))
		}
		change.Networks = &list
	}
	var err error
	if change.Slots, err = slotsOf(c, "slots"); err != nil {
		return err
	}
	if change.Reserve, err = slotsOf(c, "reserve"); err != nil {
		return err
	}
	if f := said(c, "follow"); f != nil {
		change.Follows = new(catalog.RelayName(unlessNone(*f)))
	}
	if change.Rate, err = sizeOrNone(c, "rate"); err != nil {
		return err
	}
	if change.Budget, err = sizeOrNone(c, "budget"); err != nil {
		return err
	}
	if change == (catalog.SetRelay{}) {
		return fault.New(fault.Invalid, "nothing is said about what to set").WithFix("see wulf relay set --help")
	}
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	v, err := findRelay(cl, c.Args().First())
	if err != nil {
		return err
	}
	change.Name = v.Name
	diff := []string{"relay " + string(v.Name) + ":"}
	note := func(what, before, after string) {
		if before != after {
			diff = append(diff, fmt.Sprintf("  %s  %s → %s", what, or(before), or(after)))
		}
	}
	if change.Rack != nil {
		note("rack", v.Rack, *change.Rack)
	}
	if change.Zone != nil {
		note("zone", v.Zone, *change.Zone)
	}
	if change.Networks != nil {
		note("networks", words(v.Networks), words(*change.Networks))
	}
	if change.Slots != nil {
		note("slots", slotsText(v.Slots), slotsText(*change.Slots))
	}
	if change.Reserve != nil {
		note("reserve", strconv.Itoa(v.Reserved()), strconv.Itoa(int(*change.Reserve)))
	}
	if change.Follows != nil {
		note("follows", string(v.Follows), string(*change.Follows))
	}
	if change.Rate != nil {
		note("rate", rate(v.Rate), rate(*change.Rate))
	}
	if change.Budget != nil {
		note("budget", sizeOr(v.Budget), sizeOr(*change.Budget))
	}
	return p.perform(c, cl, mutation{change: change, diff: diff})
}

// unlessNone is what a flag says, where "none" takes something away.
func unlessNone(s string) string {
	if s == "none" {
		return ""
	}
	return s
}

// sizeOrNone reads a flag that is a size or none; nil if it is not given.
func sizeOrNone(c *cli.Context, flag string) (*int64, error) {
	s := said(c, flag)
	if s == nil {
		return nil, nil
	}
	n, err := parseSize(unlessNone(*s))
	return &n, err
}

// sizeOr is a size, and rate one a second; "" for none.
func sizeOr(n int64) string {
	if n == 0 {
		return ""
	}
	return size(n)
}

func rate(n int64) string {
	if n == 0 {
		return ""
	}
	return size(n) + "/s"
}

func (p *program) relayZone(c *cli.Context) error {
	bytes, err := sizeOrNone(c, "rate")
	if err != nil {
		return err
	}
	if bytes == nil {
		return fault.New(fault.Invalid, "nothing is said about what to set").WithFix("see wulf relay zone --help")
	}
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	list, err := fetch[api.RelayView](cl, api.PathRelays)
	if err != nil {
		return err
	}
	name, members, before := c.Args().First(), 0, int64(0)
	for _, v := range list.Items {
		if v.Zone == name {
			members, before = members+1, v.ZoneRate
		}
	}
	if members == 0 {
		return fault.New(fault.NotFound, "no relay stands in zone %q", name).WithFix("say where relays stand: wulf relay set RELAY --zone %s", name)
	}
	return p.perform(c, cl, mutation{
		change: catalog.SetZone{Name: name, Rate: *bytes},
		diff:   []string{fmt.Sprintf("zone %s (%d relays):", name, members), fmt.Sprintf("  rate  %s → %s", or(rate(before)), or(rate(*bytes)))},
	})
}

func (p *program) relayRemove(c *cli.Context) error {
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	v, err := findRelay(cl, c.Args().First())
	if err != nil {
		return err
	}
	return p.perform(c, cl, mutation{
		change: catalog.DeleteRelay{Name: v.Name},
		diff:   []string{"remove relay " + string(v.Name)},
		ask:    fmt.Sprintf("Admit relay %s no longer? It can come back only with a new token.", v.Name),
	})
}
