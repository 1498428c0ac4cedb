package catalog

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/nodeset"
)

// Bounds of what is decided about unknown machines.
const (
	MaxRules    = 256
	MaxIgnored  = 10_000
	MaxRuleLife = 366 * 24 * time.Hour
	maxOrder    = 1_000_000
)

func (x ClaimNode) apply(c *Catalog, e *Entry) error {
	hw, err := ParseHardwareAddr(string(x.Hardware))
	if err != nil {
		return err
	}
	old, ok := c.Node(x.Node)
	if !ok {
		return c.noNode(x.Node)
	}
	other, is := c.NodeByHardware(hw)
	if is && other.Name == x.Node {
		return nil // it is so already
	}
	device := cmp.Or(x.Device, c.bootDevice(old))
	if has := old.Settings.Nets[device].Hardware; has != nil && !is && !x.Replace {
		return fault.New(fault.Conflict, "node %s has the machine %s already", x.Node, *has).
			WithFix("if this one takes its place: wulf discover claim %s %s --replace", hw, x.Node)
	}
	if err := c.useRule(x, hw, e); err != nil {
		return err
	}
	facts := x.Facts.Clean()
	n := *old
	set := Settings{Nets: map[string]NetDev{device: {Hardware: &hw}}, Tags: map[string]string{}}
	for tag, value := range map[string]string{TagSerial: facts.Serial, TagPort: facts.Place()} {
		if _, own := old.Settings.Tags[tag]; value != "" && (!own || x.Replace) {
			set.Tags[tag] = value
		}
	}
	if err := n.Settings.Patch(set, nil); err != nil {
		return err
	}
	edit := c.editNodes()
	edit.unindex(old)
	if err := edit.claim(&n); err != nil {
		return err
	}
	if err := c.checkNode(&n); err != nil {
		return err
	}
	edit.nodes.put(string(n.Name), &n)
	edit.commit()
	c.touch([]*Node{&n})
	if _, ok := c.IgnoredMachine(hw); ok {
		c.unignore(hw)
	}
	return nil
}

// Machineless tells whether a node has no machine yet: nothing says the hardware address of the device that it boots from.
func (c *Catalog) Machineless(n *Node) bool {
	some := false
	for _, d := range n.Settings.Nets {
		some = some || d.Hardware != nil
	}
	return !some || n.Settings.Nets[c.bootDevice(n)].Hardware == nil
}

// bootDevice is the device by which a node boots, also of one that has none yet.
func (c *Catalog) bootDevice(n *Node) string {
	r := c.resolve(n)
	named := func(d ResolvedNet) bool { return d.Name == DefaultNet }
	switch {
	case r.Settings.Primary != nil:
		return *r.Settings.Primary
	case len(r.Nets) == 1 && !slices.ContainsFunc(r.Nets, named):
		return r.Nets[0].Name
	}
	return DefaultNet
}

// useRule counts a claim of a rule, or refuses it: the rule may have ended since the claim was thought of, or somebody
// may have decided otherwise.
func (c *Catalog) useRule(x ClaimNode, hw HardwareAddr, e *Entry) error {
	if x.Rule == "" {
		return nil
	}
	old, ok := c.DiscoverRule(x.Rule)
	switch {
	case !ok:
		return c.noRule(x.Rule)
	case old.Ends(e.At) != "":
		return fault.New(fault.Conflict, "discover rule %s is %s", x.Rule, old.Ends(e.At))
	case x.Replace:
		return fault.New(fault.Invalid, "a rule gives no node another machine")
	case !slices.Contains(old.Nodes, x.Node):
		return fault.New(fault.Conflict, "discover rule %s is not about node %s", x.Rule, x.Node)
	}
	if _, is := c.IgnoredMachine(hw); is {
		return fault.New(fault.Conflict, "machine %s is ignored", hw)
	}
	r := *old
	r.Claimed++
	c.putRule(&r)
	return nil
}

func (x IgnoreMachines) apply(c *Catalog, e *Entry) error {
	machines, err := hardwareOf(x.Machines)
	if err != nil {
		return err
	}
	if err := checkLine("why", &x.Why); err != nil {
		return err
	}
	for _, hw := range machines {
		if n, ok := c.NodeByHardware(hw); ok {
			return fault.New(fault.Conflict, "machine %s is node %s", hw, n.Name)
		}
		c.ignore(&Ignored{Hardware: hw, Why: x.Why, By: e.By, At: e.At})
	}
	if c.ignored.len() > MaxIgnored {
		return fault.New(fault.Full, "%d machines would be ignored, more than %d", c.ignored.len(), MaxIgnored).
			WithFix("let some go: wulf discover ignore --undo ADDRESS…; a network without a pool leaves unknown machines in peace, too")
	}
	return nil
}

func (x UnignoreMachines) apply(c *Catalog, _ *Entry) error {
	machines, err := hardwareOf(x.Machines)
	if err != nil {
		return err
	}
	for _, hw := range machines {
		if _, ok := c.IgnoredMachine(hw); !ok {
			return fault.New(fault.NotFound, "machine %s is not ignored", hw).WithFix("see wulf discover list --all")
		}
		c.unignore(hw)
	}
	return nil
}

func hardwareOf(machines []HardwareAddr) ([]HardwareAddr, error) {
	if len(machines) == 0 || len(machines) > MaxIgnored {
		return nil, fault.New(fault.Invalid, "%d machines are named", len(machines)).WithFix("name 1 to %d", MaxIgnored)
	}
	out := make([]HardwareAddr, len(machines))
	for i, hw := range machines {
		var err error
		if out[i], err = ParseHardwareAddr(string(hw)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (x PutDiscoverRule) apply(c *Catalog, e *Entry) error {
	r := x.Rule
	if err := c.checkRule(&r, e.At); err != nil {
		return err
	}
	old, is := c.DiscoverRule(r.Name)
	if !is && c.rules.len() >= MaxRules {
		return fault.New(fault.Full, "there are %d discover rules already", MaxRules).WithFix("delete those that are over: wulf discover rule list")
	}
	r.Claimed, r.Created, r.By = 0, e.At, e.By
	if is {
		r.Created = old.Created
	}
	r.Nodes = NodeSetOf(r.Nodes...)
	c.putRule(&r)
	return nil
}

func (c *Catalog) checkRule(r *DiscoverRule, at time.Time) error {
	if _, err := ParseName[RuleName]("discover rule", string(r.Name)); err != nil {
		return err
	}
	what := "discover rule " + string(r.Name)
	if err := oneOf("match", &r.Match, MatchFirst, MatchSerial, MatchUUID, MatchPort); err != nil {
		return within(what, err)
	}
	switch {
	case len(r.Nodes) == 0:
		return fault.New(fault.Invalid, "%s names no node to fill", what).WithFix("say which: --nodes 'n[1-48]'")
	case r.Limit < 1 || r.Limit > MaxNodes:
		return fault.New(fault.Invalid, "%s may not claim %d machines", what, r.Limit).WithFix("allow 1 to %d: --limit", MaxNodes)
	case !r.Expires.After(at):
		return fault.New(fault.Invalid, "%s would have expired already", what)
	case r.Expires.After(at.Add(MaxRuleLife)):
		return fault.New(fault.Invalid, "%s would hold for more than a year", what).WithFix("a rule that is forgotten hands out nodes: let it end sooner, --for 24h")
	case r.Order < -maxOrder || r.Order > maxOrder:
		return fault.New(fault.Invalid, "%s: order %d is not between %d and %d", what, r.Order, -maxOrder, maxOrder)
	case r.Port != "" && r.Match != MatchPort:
		return fault.New(fault.Invalid, "%s has a port and does not go by it", what).WithFix("--match port")
	}
	for _, name := range r.Nodes {
		if _, ok := c.Node(name); !ok {
			return within(what, c.noNode(name))
		}
	}
	if r.Network != "" {
		if _, ok := c.Network(r.Network); !ok {
			return within(what, c.noNetwork(r.Network))
		}
	}
	if err := checkLine("rack", &r.Rack); err != nil {
		return within(what, err)
	}
	if err := checkLine("port", &r.Port); err != nil {
		return within(what, err)
	}
	f, err := nodeset.ParseFormula(r.Port)
	if err != nil {
		return within(what+", port", err)
	}
	if r.Port != "" {
		if _, err := f.Eval(string(r.Nodes[0])); err != nil {
			return within(what+", port", err)
		}
	}
	return nil
}

func (x DeleteDiscoverRule) apply(c *Catalog, _ *Entry) error {
	if _, ok := c.DiscoverRule(x.Name); !ok {
		return c.noRule(x.Name)
	}
	c.rules.delete(string(x.Name))
	c.touched.rule(x.Name)
	return nil
}

func (c *Catalog) putRule(r *DiscoverRule) {
	c.rules.put(string(r.Name), r)
	c.touched.rule(r.Name)
}

func (c *Catalog) ignore(i *Ignored) {
	c.ignored.put(string(i.Hardware), i)
	c.touched.machine(i.Hardware)
}

func (c *Catalog) unignore(hw HardwareAddr) {
	c.ignored.delete(string(hw))
	c.touched.machine(hw)
}

func (c *Catalog) noRule(name RuleName) error {
	return notFound("discover rule", string(name), func(yield func(string) bool) {
		for r := range c.DiscoverRules() {
			if !yield(string(r.Name)) {
				return
			}
		}
	})
}

func flatRule(r *DiscoverRule) map[string]string {
	if r == nil {
		return nil
	}
	out := map[string]string{
		"match": r.Match, "nodes": r.Nodes.String(), "limit": fmt.Sprint(r.Limit), "expires": r.Expires.UTC().Format(time.RFC3339),
	}
	for k, v := range map[string]string{"network": string(r.Network), "rack": r.Rack, "port": r.Port} {
		if v != "" {
			out[k] = v
		}
	}
	if r.Order != 0 {
		out["order"] = fmt.Sprint(r.Order)
	}
	if r.Claimed != 0 {
		out["claimed"] = fmt.Sprint(r.Claimed)
	}
	return out
}

func flatIgnored(i *Ignored) map[string]string {
	switch {
	case i == nil:
		return nil
	case i.Why == "":
		return map[string]string{}
	}
	return map[string]string{"why": strings.TrimSpace(i.Why)}
}
