package cli

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/capacity"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

func (p *program) planCapacity() *cli.Command {
	return verb{
		name: "capacity", usage: "say how long a boot storm will take, before there is one",
		about: "It plays the storm in virtual time, with the trees by which relays fetch and the admission with which they serve, and asks no cluster, but for the sizes of an image that is named. " +
			"Of several --nodes and --relay-link it says each with each. What it takes for granted it says on standard error; flags say it otherwise.",
		examples: []string{
			"wulf plan capacity --nodes 40000 --image rocky --relay-link 25",
			"wulf plan capacity --nodes 1000,10000,40000,100000 --relay-link 10,25,100 --image 1GB --cold",
			"wulf plan capacity --nodes 5000 --relays 40 --image 2GB --node-link 1 --zones 4 --zone-link 40 -o json",
		},
		flags: listFlags(
			text("nodes", "so many machines are switched on: `N,…` (default 1000)"),
			number("relays", "`N` relays serve them (default: one for 64)"),
			number("zones", "the relays stand in `N` zones (default 1)"),
			number("controllers", "`N` controllers (default 3)"),
			text("image", "the image: its `NAME`, or its size as served, as 1GB (default)"),
			text("unpacked", "the `SIZE` of its files (default: two and a half times the image)"),
			text("kernel", "the `SIZE` of kernel and stage one together (default 60MB)"),
			text("node-link", "a node's card: `GBIT` a second (default 10)"),
			text("relay-link", "a relay's card: `GBIT` a second, … (default 25)"),
			text("controller-link", "a controller's card: `GBIT` a second (default 10)"),
			text("zone-link", "the link into each zone: `GBIT` a second (default: none narrower)"),
			toggle("cold", "relays have nothing of the image when the first machine asks"),
			duration("spread", 0, "the machines are switched on one after the other, within `TIME`"),
			number("slots", "a relay sends to `N` machines at once (default: as it finds out)"),
			number("cores", "a relay has `N` processors (default 8)"),
			duration("firmware", 0, "machines take `TIME` from power to their first packet (default 1m0s)"),
			duration("firmware-spread", 0, "the slowest takes `TIME` longer than the quickest (default 20s)"),
			duration("init", 0, "and `TIME` from their own init to up (default 15s)"),
		), run: p.runPlanCapacity,
	}.command()
}

func (p *program) runPlanCapacity(c *cli.Context) error {
	site, err := p.siteOf(c)
	if err != nil {
		return err
	}
	nodes, err := numbersOf(c, "nodes", "1000")
	if err != nil {
		return err
	}
	links, err := numbersOf(c, "relay-link", "25")
	if err != nil {
		return err
	}
	list := api.List[capacity.Forecast]{Items: []capacity.Forecast{}}
	for _, n := range nodes {
		for _, l := range links {
			if n < 1 || l <= 0 {
				return fault.New(fault.Invalid, "a storm wants a machine and a link at least, and %g nodes with %g Gbit/s were given", n, l)
			}
			s := site
			s.Nodes, s.RelayLink = int(n), capacity.Link(l)
			f, err := capacity.Predict(s)
			if err != nil {
				return err
			}
			list.Items = append(list.Items, f)
		}
	}
	if err := printList(p, c, listing[capacity.Forecast]{list: list, name: forecastName, columns: forecastColumns()}); err != nil {
		return err
	}
	for _, line := range assumptions(list.Items[0].Site) {
		p.say("assumed: %s", line)
	}
	return nil
}

// siteOf is the site that the flags describe, but for what there may be several of.
func (p *program) siteOf(c *cli.Context) (capacity.Site, error) {
	s := capacity.Site{
		Relays: c.Int("relays"), Zones: c.Int("zones"), Controllers: c.Int("controllers"), Cold: c.Bool("cold"), Over: c.Duration("spread"), Slots: c.Int("slots"),
	}
	s.Costs.Cores = float64(c.Int("cores"))
	s.Machine.Firmware, s.Machine.Spread, s.Machine.Init = c.Duration("firmware"), c.Duration("firmware-spread"), c.Duration("init")
	for flag, to := range map[string]*float64{"node-link": &s.NodeLink, "controller-link": &s.ControllerLink, "zone-link": &s.ZoneLink} {
		all, err := numbersOf(c, flag, "0")
		if err != nil {
			return s, err
		}
		if len(all) > 1 {
			return s, fault.New(fault.Invalid, "--%s takes one number", flag)
		}
		*to = capacity.Link(all[0])
	}
	for flag, to := range map[string]*int64{"unpacked": &s.Unpacked, "kernel": &s.Boot} {
		var err error
		if *to, err = parseSize(c.String(flag)); err != nil {
			return s, err
		}
	}
	return s, p.imageOf(c, &s)
}

// imageOf takes in an image: its size, or that of one of the cluster by its name.
func (p *program) imageOf(c *cli.Context, s *capacity.Site) error {
	name := c.String("image")
	if name == "" {
		return nil
	}
	size, err := parseSize(name)
	if err == nil {
		s.Image = size
		return nil
	}
	if name[0] >= '0' && name[0] <= '9' {
		return err
	}
	cl, err := p.connect(c)
	if err != nil {
		return err
	}
	defer cl.done()
	image, tag, _ := strings.Cut(name, ":")
	list, err := fetch[catalog.Image](cl, api.PathImages)
	if err != nil {
		return err
	}
	for _, i := range list.Items {
		if string(i.Name) != image {
			continue
		}
		v, ok := i.Version(cmp.Or(tag, "latest"))
		if !ok {
			return fault.New(fault.NotFound, "image %s has no version %q", image, tag).WithFix("see its versions with: wulf image history %s", image)
		}
		s.Image, s.Chunk = v.Size, v.Size/int64(max(1, v.Segments))
		s.Unpacked = cmp.Or(s.Unpacked, v.Unpacked)
		if s.Boot == 0 && len(v.Kernels) > 0 {
			k := v.Kernels[len(v.Kernels)-1]
			s.Boot = k.Kernel.Size + k.StageOne.Size
		}
		return nil
	}
	return fault.New(fault.NotFound, "no image is called %q", image).WithFix("see all with: wulf image list")
}

// numbersOf are the numbers of a flag, which commas part.
func numbersOf(c *cli.Context, flag, usual string) ([]float64, error) {
	var all []float64
	for word := range strings.SplitSeq(cmp.Or(c.String(flag), usual), ",") {
		n, err := strconv.ParseFloat(strings.TrimSpace(word), 64)
		if err != nil || !(n >= 0 && n <= 1e9) { // "nan" is none either
			return nil, fault.New(fault.Invalid, "--%s: %q is not a number", flag, word)
		}
		all = append(all, n)
	}
	return all, nil
}

func forecastName(f capacity.Forecast) string {
	return fmt.Sprintf("%d/%s", f.Site.Nodes, gigabits(f.Site.RelayLink))
}

// gigabits is a rate as capacity.Link was told it.
func gigabits(rate float64) string {
	return strconv.FormatFloat(rate/capacity.Link(1), 'g', 3, 64)
}

func forecastColumns() []column[capacity.Forecast] {
	type f = capacity.Forecast
	took := func(d time.Duration) string { return d.Round(10 * time.Millisecond).String() }
	whole := func(d time.Duration) string { return d.Round(time.Second).String() }
	columns := []column[f]{
		{name: "NODES", cell: func(f f) string { return strconv.Itoa(f.Site.Nodes) }},
		{name: "RELAYS", cell: func(f f) string { return strconv.Itoa(f.Site.Relays) }},
		{name: "CARD", cell: func(f f) string { return gigabits(f.Site.NodeLink) }},
		{name: "LINK", cell: func(f f) string { return gigabits(f.Site.RelayLink) }},
		{name: "IMAGE", cell: func(f f) string { return size(f.Site.Image) }},
		{name: "UP50", cell: func(f f) string { return whole(f.Up.P50) }},
		{name: "UP99", cell: func(f f) string { return whole(f.Up.P99) }},
		{name: "LAST", cell: func(f f) string { return whole(f.Up.Max) }},
		{name: "IMAGE50", cell: func(f f) string { return took(f.Image.P50) }},
		{name: "IMAGELAST", cell: func(f f) string { return took(f.Image.Max) }},
		{name: "FLOOR", cell: func(f f) string { return took(f.Floor) }},
		{name: "FILL", cell: func(f f) string { return or(took(f.Fill.Took)) }},
		{name: "BOUND", cell: func(f f) string { return f.Bound }},
		{name: "COPIES", wide: true, cell: func(f f) string { return fmt.Sprintf("%.2f", f.Fill.Copies) }},
		{name: "SLOTS", wide: true, cell: func(f f) string { return strconv.Itoa(f.Slots) }},
		{name: "QUEUE", wide: true, cell: func(f f) string { return strconv.Itoa(f.Queue) }},
		{name: "EGRESS", wide: true, cell: func(f f) string { return size(int64(f.Egress)) }},
		{name: "BUSY", wide: true, cell: func(f f) string { return fmt.Sprintf("%.0f%%", 100*f.Busy) }},
		{name: "MESSAGES", wide: true, cell: func(f f) string { return fmt.Sprintf("%.0f/s", f.Control) }},
	}
	for i, name := range capacity.Steps() {
		columns = append(columns, column[f]{name: strings.ToUpper(strings.ReplaceAll(name, "-", "")) + "50", wide: true, cell: func(f f) string { return took(f.Phases[i].P50) }})
	}
	return columns
}

// assumptions are what a forecast takes for granted, a line for each kind.
func assumptions(s capacity.Site) []string {
	m, k := s.Machine, s.Costs
	return []string{
		fmt.Sprintf("image %s, %s of files, segments of %s; kernel and stage one %s, boot program %s, overlays %s", size(s.Image), size(s.Unpacked), size(s.Chunk), size(s.Boot), size(s.Loader), size(s.Overlay)),
		fmt.Sprintf("cards in Gbit/s: nodes %s, controllers %s (%d of them); of each, what headers leave is used; %d zones", gigabits(s.NodeLink), gigabits(s.ControllerLink), s.Controllers, s.Zones),
		fmt.Sprintf("machines: %s to %s from power to the first packet, DHCP %s, TFTP %s/s, iPXE and DHCP again %s, kernel %s, unpacking %s/s, init %s; switched on within %s",
			m.Firmware, m.Firmware+m.Spread, m.DHCP, size(int64(m.TFTP)), m.Chain, m.Kernel, size(int64(m.Unpack)), m.Init, s.Over),
		fmt.Sprintf("relays: %g processors, of which DHCP takes %s, a script %s, a ticket %s, overlays %s, and a gigabyte %s for agents and %s for firmware", k.Cores, k.DHCP, k.Script, k.Claim, k.Overlay, k.Chunks, k.Plain),
		"nothing else uses the links, nothing is lost, and nobody dies",
	}
}
