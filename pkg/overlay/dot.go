package overlay

import (
	"fmt"
	"io"
	"strconv"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Dot is what templates see as the dot, and as the nodes of AllNodes. All that a template can read of a node it reads
// through one of these methods, which note it: so what was made can be used again for as long as that stays the same.
type Dot struct {
	run   *execution
	node  *Node // nil for one of AllNodes
	at    int   // its place among these
	other bool  // one of AllNodes: what is read of one counts as read of all
}

func (d *Dot) read(field string) *Node {
	if d.other {
		d.run.reads(Input{ScopeAll, field, ""})
	} else {
		d.run.reads(Input{ScopeNode, field, ""})
	}
	return d.known()
}

// known is the node. Of all nodes only the one that was asked last is kept: 40 000 of them would take a relay's memory.
func (d *Dot) known() *Node {
	if !d.other {
		return d.node
	}
	if x := d.run; x.last == nil || x.lastAt != d.at {
		x.last, x.lastAt = x.view.World.Fleet.Node(d.at), d.at
	}
	return d.run.last
}

// Format is for templates that print the whole dot: whatever the verb, they get its name.
func (d *Dot) Format(f fmt.State, _ rune) { io.WriteString(f, d.Id()) }

// MarshalJSON refuses: a template that writes all that there is would be rendered anew with every change.
func (d *Dot) MarshalJSON() ([]byte, error) {
	return nil, fault.New(fault.Invalid, "a whole node cannot be written as JSON").WithFix("name the fields that are wanted")
}

// What Warewulf's templates know of a node, in its words.

func (d *Dot) Id() string                    { return d.read("Name").Name }
func (d *Dot) Hostname() string              { return d.read("Name").Name }
func (d *Dot) Discoverable() Bool            { return d.read("Discoverable").Discoverable }
func (d *Dot) AssetKey() string              { return d.read("AssetKey").AssetKey }
func (d *Dot) Profiles() []string            { return d.read("Profiles").Profiles }
func (d *Dot) Comment() string               { return d.read("Comment").Comment }
func (d *Dot) ClusterName() string           { return d.read("ClusterName").ClusterName }
func (d *Dot) ImageName() string             { return d.read("ImageName").ImageName }
func (d *Dot) ContainerName() string         { return d.read("ImageName").ImageName }
func (d *Dot) Container() string             { return d.read("ImageName").ImageName }
func (d *Dot) Image() string                 { return d.read("ImageName").ImageName }
func (d *Dot) Ipxe() string                  { return d.read("Ipxe").Ipxe }
func (d *Dot) RuntimeOverlay() []string      { return d.read("RuntimeOverlay").RuntimeOverlay }
func (d *Dot) SystemOverlay() []string       { return d.read("SystemOverlay").SystemOverlay }
func (d *Dot) Kernel() *Kernel               { return &d.read("Kernel").Kernel }
func (d *Dot) Init() string                  { return d.read("Init").Init }
func (d *Dot) Root() string                  { return d.read("Root").Root }
func (d *Dot) NetDevs() map[string]*NetDev   { return d.read("NetDevs").NetDevs }
func (d *Dot) PrimaryNetDev() string         { return d.read("PrimaryNetDev").PrimaryNetDev }
func (d *Dot) Disks() map[string]*Disk       { return d.read("Disks").Disks }
func (d *Dot) DiskList() []*Disk             { return sorted(d.read("Disks").Disks) }
func (d *Dot) FileSystemList() []*FileSystem { return sorted(d.read("FileSystems").FileSystems) }
func (d *Dot) Valid() bool                   { return true }
func (d *Dot) FileSystems() map[string]*FileSystem {
	return d.read("FileSystems").FileSystems
}

// Tags are the node's tags; those that the template can ask for, where its text says which these are.
func (d *Dot) Tags() map[string]string { return keyed(d, "Tags", d.known().Tags, d.run.of.tags) }

// Resources are the node's resources, likewise.
func (d *Dot) Resources() map[string]any {
	return keyed(d, "Resources", d.known().Resources, d.run.of.resources)
}

// keyed is a map of a node, or of it the keys that the template's text names.
func keyed[V any](d *Dot, field string, all map[string]V, keys []string) map[string]V {
	if keys == nil {
		d.read(field)
		return all
	}
	scope := ScopeNode
	if d.other {
		scope = ScopeAll
	}
	some := make(map[string]V, len(keys))
	for _, k := range keys {
		d.run.reads(Input{scope, field, k})
		if v, ok := all[k]; ok {
			some[k] = v
		}
	}
	return some
}

// Ipmi is the node's BMC. Its password is asked for by itself.
func (d *Dot) Ipmi() *Ipmi {
	i := d.read("Ipmi").Ipmi
	if i.open = d.run.password; d.other {
		i.open = func(Ipmi) (string, error) { return "", errOthers }
	}
	return &i
}

// ThisNode is the node itself: templates of Warewulf ask it for lists.
func (d *Dot) ThisNode() *Dot { return d }

// AllNodes are all nodes, by cluster, then by name.
func (d *Dot) AllNodes() []*Dot { return d.run.allNodes() }

// What Warewulf does not have.

func (d *Dot) Fqdn() string      { return d.read("Fqdn").Fqdn }
func (d *Dot) Groups() []string  { return d.read("Groups").Groups }
func (d *Dot) Roles() []string   { return d.read("Roles").Roles }
func (d *Dot) Rack() string      { return d.read("Rack").Rack }
func (d *Dot) Position() string  { return d.read("Position").Position }
func (d *Dot) Zone() string      { return d.read("Zone").Zone }
func (d *Dot) UUID() string      { return d.read("UUID").UUID }
func (d *Dot) Domain() string    { return d.read("Domain").Domain }
func (d *Dot) Dns() []string     { return d.read("Dns").Dns }
func (d *Dot) Ntp() []string     { return d.read("Ntp").Ntp }
func (d *Dot) SshKeys() []string { return d.read("SshKeys").SshKeys }
func (d *Dot) Primary() string   { return d.read("PrimaryNetDev").PrimaryNetDev }

// MeshName is the cluster's own name.
func (d *Dot) MeshName() string {
	d.run.reads(Input{ScopeWorld, "Mesh", ""})
	return d.run.view.World.Mesh
}

// Revision is the catalog's. A template that asks for it is rendered anew with every change.
func (d *Dot) Revision() uint64 {
	d.run.reads(Input{ScopeWorld, "Revision", ""})
	return d.run.view.World.Revision
}

// Overlay is the name of the overlay that the template is of.
func (d *Dot) Overlay() string {
	d.run.reads(Input{ScopeLayer, "Name", ""})
	return d.run.layer.Name
}

// BuildHost is who renders: the cluster, for a rendering is the same wherever it is made.
func (d *Dot) BuildHost() string {
	d.run.reads(Input{ScopeLayer, "Place", ""})
	return d.run.layer.host(d.run.view.World)
}

// BuildTime is when the overlay changed last, in Warewulf's form.
func (d *Dot) BuildTime() string {
	d.run.reads(Input{ScopeLayer, "Changed", ""})
	return d.run.layer.Changed.Format("01-02-2006 15:04:05 MST")
}

// BuildTimeUnix is the same in seconds since 1970.
func (d *Dot) BuildTimeUnix() string {
	d.run.reads(Input{ScopeLayer, "Changed", ""})
	return strconv.FormatInt(d.run.layer.Changed.Unix(), 10)
}

// BuildSource is the path of the template.
func (d *Dot) BuildSource() string {
	d.run.reads(Input{ScopeLayer, "Place", ""})
	return d.run.layer.source(d.run.of.file)
}

// Secret gives the value of one of the node's secrets. Where it may not be held, the template's file is not made; a
// name that the node has no secret of is an error.
func (d *Dot) Secret(name string) (string, error) {
	if d.other {
		return "", errOthers
	}
	s, ok := d.node.secrets[name]
	if !ok {
		return "", fault.New(fault.NotFound, "node %s has no secret %.80q", d.node.Name, name).WithFix("give it one: wulf node set %s --secret NAME=VALUE", d.node.Name)
	}
	return d.run.secret(s)
}

// SshHostKeys gives the node's SSH host keys; none, where they may not be held here.
func (d *Dot) SshHostKeys() ([]HostKey, error) {
	if d.other {
		return nil, errOthers
	}
	return d.run.hostKeys(), nil
}

func (x *execution) password(i Ipmi) (string, error) {
	if i.password != nil {
		return x.secret(*i.password)
	}
	if i.plain != "" {
		x.secretive()
	}
	return i.plain, nil
}

func (x *execution) secret(s catalog.Secret) (string, error) {
	x.secretive()
	if open := x.view.Secrets.Open; open != nil {
		if v, ok := open(s); ok {
			return v, nil
		}
	}
	x.withheld = true
	return "", errWithheld
}

func (x *execution) hostKeys() []HostKey {
	x.secretive()
	x.withheld = x.withheld || len(x.view.Secrets.SSHHostKeys) == 0
	return x.view.Secrets.SSHHostKeys
}
