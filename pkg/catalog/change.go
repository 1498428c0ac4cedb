package catalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/chunk"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// EntryFormat is the version of Entry's encoding that this program writes; it reads no later one.
//
// History: 1 (2026-11) first. 2 (2026-11) the whole model of nodes; sets of nodes folded, values computed from names,
// messages, batches, reverts. 3 (2026-11) overlays in two parts. 4 (2026-11) what is decided about unknown machines.
// Formats 1 to 3 are still read.
const EntryFormat = 4

// MaxEntry bounds the bytes of an encoded Entry.
const MaxEntry = 8 << 20

// Entry is a change as it stands in the log: what, by whom, when, and under which condition. By and At are
// stamped by the controller that accepts the change, before the log, so that Apply needs no clock.
type Entry struct {
	Request string    // the client's name for this write; a second entry of that name is answered like the first, and not applied
	By      string    // who asked for it
	At      time.Time // when it was accepted
	If      Revision  // 0, or: reject unless nothing has changed since this revision
	Message string    // why, in the words of whom it was; may be empty
	Change  Change
}

// MaxMessage bounds the bytes of an Entry's message.
const MaxMessage = 1 << 10

// Change is one of the things that can be written; the set is closed. All of a change happens, or nothing.
type Change interface {
	// apply changes the draft, a copy that is dropped when it fails. It must be deterministic.
	apply(draft *Catalog, e *Entry) error
}

// The changes. A name ends up in the log and in feeds: never rename one.
var kinds = map[string]reflect.Type{
	"batch":             reflect.TypeFor[Batch](),
	"revert":            reflect.TypeFor[Revert](),
	"cluster.init":      reflect.TypeFor[InitCluster](),
	"node.add":          reflect.TypeFor[AddNodes](),
	"node.set":          reflect.TypeFor[SetNodes](),
	"node.delete":       reflect.TypeFor[DeleteNodes](),
	"node.sync":         reflect.TypeFor[SyncNodes](),
	"profile.add":       reflect.TypeFor[AddProfile](),
	"profile.set":       reflect.TypeFor[SetProfiles](),
	"profile.delete":    reflect.TypeFor[DeleteProfile](),
	"network.add":       reflect.TypeFor[AddNetwork](),
	"network.set":       reflect.TypeFor[SetNetwork](),
	"network.delete":    reflect.TypeFor[DeleteNetwork](),
	"image.put":         reflect.TypeFor[PutImage](),
	"image.tag":         reflect.TypeFor[TagImage](),
	"image.untag":       reflect.TypeFor[UntagImage](),
	"image.copy":        reflect.TypeFor[CopyImage](),
	"image.rename":      reflect.TypeFor[RenameImage](),
	"image.delete":      reflect.TypeFor[DeleteImage](),
	"overlay.put":       reflect.TypeFor[PutOverlay](),
	"overlay.ship":      reflect.TypeFor[ShipOverlay](),
	"overlay.delete":    reflect.TypeFor[DeleteOverlay](),
	"file.put":          reflect.TypeFor[PutSiteFile](),
	"file.link":         reflect.TypeFor[LinkSiteFile](),
	"file.rename":       reflect.TypeFor[RenameSiteFile](),
	"file.delete":       reflect.TypeFor[DeleteSiteFile](),
	"token.add":         reflect.TypeFor[AddToken](),
	"token.delete":      reflect.TypeFor[DeleteToken](),
	"relay.admit":       reflect.TypeFor[AdmitRelay](),
	"relay.set":         reflect.TypeFor[SetRelay](),
	"relay.delete":      reflect.TypeFor[DeleteRelay](),
	"zone.set":          reflect.TypeFor[SetZone](),
	"controller.admit":  reflect.TypeFor[AdmitController](),
	"controller.delete": reflect.TypeFor[DeleteController](),

	"discover.claim":       reflect.TypeFor[ClaimNode](),
	"discover.ignore":      reflect.TypeFor[IgnoreMachines](),
	"discover.unignore":    reflect.TypeFor[UnignoreMachines](),
	"discover.rule.put":    reflect.TypeFor[PutDiscoverRule](),
	"discover.rule.delete": reflect.TypeFor[DeleteDiscoverRule](),
}

type (
	// InitCluster makes the cluster with its first controller and default profile; it must be the first change.
	InitCluster struct {
		Cluster    Cluster    `json:"cluster"`
		Controller Controller `json:"controller"`
	}

	// Batch makes several changes as one: what apply and import do. It holds no batch, and no change that has a path of
	// its own in the API.
	Batch struct {
		Changes []Step `json:"changes"`
	}
	// Revert takes back what happened after a revision, as far as it is remembered (see History): settings of nodes,
	// profiles, networks, tags of images, the site's files of overlays, site files, what is decided about unknown machines.
	Revert struct {
		To Revision `json:"to"`
	}

	// AddNodes makes nodes that do not exist: Nodes as they are, and those that Names lists, alike but for what Compute
	// and Each say.
	AddNodes struct {
		Nodes    []Node                `json:"nodes,omitempty"`
		Names    NodeSet               `json:"names,omitempty"`
		Profiles *[]ProfileName        `json:"profiles,omitempty"`
		Set      Settings              `json:"set,omitzero"`
		Compute  map[string]string     `json:"compute,omitempty"` // see SetNodes
		Each     map[NodeName]Settings `json:"each,omitempty"`    // of some of Names
	}
	// SetNodes changes nodes alike: settings as Settings.Patch does, and the list of profiles if there is one. What
	// differs from node to node is in Compute and in Each, which wins over Compute, which wins over Set. However many
	// nodes it is about, it holds the change and not the nodes.
	SetNodes struct {
		Nodes    NodeSet        `json:"nodes"`
		Profiles *[]ProfileName `json:"profiles,omitempty"`
		Set      Settings       `json:"set,omitzero"`
		Unset    []string       `json:"unset,omitempty"`
		// Compute gives the setting at a path by a formula of the node's name, such as 10.1.{n1}.{n2}, or an address by
		// Auto: the first free one of the device's network.
		Compute map[string]string     `json:"compute,omitempty"`
		Each    map[NodeName]Settings `json:"each,omitempty"` // of some of Nodes
	}
	DeleteNodes struct {
		Nodes NodeSet `json:"nodes"`
	}
	// SyncNodes asks running nodes to look at once whether the files of their runtime overlays are as declared, and to try
	// again what they could not do. It decides nothing about them.
	SyncNodes struct {
		Nodes NodeSet `json:"nodes"`
	}

	AddProfile struct {
		Profile Profile `json:"profile"`
	}
	// SetProfiles changes profiles alike, as SetNodes does nodes.
	SetProfiles struct {
		Names    []ProfileName  `json:"names"`
		Profiles *[]ProfileName `json:"profiles,omitempty"`
		Set      Settings       `json:"set,omitzero"`
		Unset    []string       `json:"unset,omitempty"`
	}
	DeleteProfile struct {
		Name ProfileName `json:"name"`
	}

	AddNetwork struct {
		Network Network `json:"network"`
	}
	// SetNetwork replaces a network as a whole.
	SetNetwork struct {
		Network Network `json:"network"`
	}
	DeleteNetwork struct {
		Name NetworkName `json:"name"`
	}

	// PutImage adds a version to an image, which it makes if need be, and moves TagLatest and Tags to it.
	// The version's chunks must be durable on a majority of the controllers before. Base is the version that was the
	// latest when the work began; if another one is by now, the new version is kept, and no tag moves.
	PutImage struct {
		Name    ImageName    `json:"name"`
		Version ImageVersion `json:"version"`
		Tags    []string     `json:"tags,omitempty"`
		Base    chunk.ID     `json:"base,omitzero"`
	}
	// TagImage moves a tag to a version: a roll-back is that, too.
	TagImage struct {
		Name    ImageName `json:"name"`
		Tag     string    `json:"tag"`
		Version chunk.ID  `json:"version"`
	}
	// UntagImage removes a tag. TagLatest stays, and a tag that nodes or profiles name.
	UntagImage struct {
		Name ImageName `json:"name"`
		Tag  string    `json:"tag"`
	}
	// CopyImage makes an image To of one version of another, the latest if none is said.
	CopyImage struct {
		Name    ImageName `json:"name"`
		Version chunk.ID  `json:"version,omitzero"`
		To      ImageName `json:"to"`
	}
	// RenameImage gives an image another name; nodes and profiles that name it follow.
	RenameImage struct {
		Name ImageName `json:"name"`
		To   ImageName `json:"to"`
	}
	// DeleteImage removes an image, or only one version of it. It is refused while nodes or profiles use it.
	DeleteImage struct {
		Name    ImageName `json:"name"`
		Version chunk.ID  `json:"version,omitzero"`
	}

	// PutOverlay makes an overlay, or gives one new files of the site's: Content, Laid and Files count. Without Content, the
	// site's files go, and what comes with wulfmesh stays. With Has, it is refused unless that is the content now; zero
	// stands for none.
	PutOverlay struct {
		Overlay Overlay   `json:"overlay"`
		Has     *chunk.ID `json:"has,omitempty"`
	}
	// ShipOverlay sets what comes with wulfmesh of an overlay, and leaves the site's part alone.
	ShipOverlay struct {
		Name  OverlayName `json:"name"`
		Base  chunk.Ref   `json:"base"`
		Files int         `json:"files"`
	}
	// DeleteOverlay removes an overlay that nothing uses. Of one that comes with wulfmesh, it takes the site's part away.
	DeleteOverlay struct {
		Name OverlayName `json:"name"`
	}

	// PutSiteFile makes a site file, or gives one new content, which must be durable on a majority of the controllers
	// before. Changed and By are those of the entry. If Base is said, the file must have that content: the new one was made
	// from it.
	PutSiteFile struct {
		File SiteFile `json:"file"`
		Base chunk.ID `json:"base,omitzero"`
	}
	// LinkSiteFile makes a site file that is a symbolic link, or makes one of a file.
	LinkSiteFile struct {
		Path   string `json:"path"`
		Target string `json:"target"`
	}
	// RenameSiteFile gives a site file another path, at which there must be none.
	RenameSiteFile struct {
		Path string `json:"path"`
		To   string `json:"to"`
	}
	DeleteSiteFile struct {
		Path string `json:"path"`
	}

	AddToken struct {
		Token Token `json:"token"`
	}
	DeleteToken struct {
		ID string `json:"id"`
	}

	// AdmitRelay uses a token up by one and admits the relay under what the token says of name, place and networks.
	AdmitRelay struct {
		Token string `json:"token"`
		Hash  []byte `json:"hash"` // SHA-256 of the secret that was shown
		Relay Relay  `json:"relay"`
	}
	// SetRelay changes where a relay stands, what it serves, to how many at once, and what it may take.
	SetRelay struct {
		Name     RelayName      `json:"name"`
		Rack     *string        `json:"rack,omitempty"`
		Zone     *string        `json:"zone,omitempty"`
		Networks *[]NetworkName `json:"networks,omitempty"`
		Slots    *uint16        `json:"slots,omitempty"`
		Reserve  *uint16        `json:"reserve,omitempty"`
		Follows  *RelayName     `json:"follows,omitempty"` // empty: nobody
		Rate     *int64         `json:"rate,omitempty"`    // bytes a second; 0: any
		Budget   *int64         `json:"budget,omitempty"`  // bytes; 0: as its program was told
	}
	// SetZone says how many bytes a second the relays of a zone fetch from outside of it; 0: any.
	SetZone struct {
		Name string `json:"name"`
		Rate int64  `json:"rate"`
	}
	// DeleteRelay takes the admission of a relay back.
	DeleteRelay struct {
		Name RelayName `json:"name"`
	}

	// AdmitController uses a token up by one and records the controller.
	AdmitController struct {
		Token      string     `json:"token"`
		Hash       []byte     `json:"hash"`
		Controller Controller `json:"controller"`
	}
	DeleteController struct {
		Name ControllerName `json:"name"`
	}

	// ClaimNode makes an unknown machine a node: the node's device gets the hardware address. The log decides between two
	// who claim at once. It is refused if the node has another machine already, unless Replace is said, and if the machine
	// is another node's. With a Rule it is the rule's claim, and refused if that does not allow it any more.
	ClaimNode struct {
		Node     NodeName     `json:"node"`
		Hardware HardwareAddr `json:"hardware"`
		Device   string       `json:"device,omitempty"` // none: the one that the node boots from
		Replace  bool         `json:"replace,omitempty"`
		Rule     RuleName     `json:"rule,omitempty"`
		Facts    Facts        `json:"facts,omitzero"` // of them the node keeps serial and port as tags, where it has none yet
	}
	// IgnoreMachines leaves unknown machines out of the inbox, and to no rule.
	IgnoreMachines struct {
		Machines []HardwareAddr `json:"machines"`
		Why      string         `json:"why,omitempty"`
	}
	UnignoreMachines struct {
		Machines []HardwareAddr `json:"machines"`
	}
	// PutDiscoverRule makes a rule, or replaces one; what it has claimed before is not counted any more.
	PutDiscoverRule struct {
		Rule DiscoverRule `json:"rule"`
	}
	DeleteDiscoverRule struct {
		Name RuleName `json:"name"`
	}
)

// entryWire is an Entry's one encoding, for the log and for feeds.
type entryWire struct {
	Format  int             `json:"format"`
	Request string          `json:"request,omitempty"`
	By      string          `json:"by,omitempty"`
	At      time.Time       `json:"at"`
	If      Revision        `json:"if,omitempty"`
	Message string          `json:"message,omitempty"`
	Kind    string          `json:"kind"`
	Change  json.RawMessage `json:"change"`
}

// KindOf returns the name of a change's kind, such as "node.set".
func KindOf(c Change) string {
	t := reflect.TypeOf(c)
	for name, k := range kinds {
		if k == t {
			return name
		}
	}
	return fmt.Sprintf("%T", c)
}

// Encode writes the entry for the log. Over MaxEntry it is fault.Invalid.
func (e Entry) Encode() ([]byte, error) {
	body, err := json.Marshal(e.Change)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "encoding change")
	}
	b, err := json.Marshal(entryWire{Format: EntryFormat, Request: e.Request, By: e.By, At: e.At.UTC(), If: e.If, Message: e.Message, Kind: KindOf(e.Change), Change: body})
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "encoding entry")
	}
	if len(b) > MaxEntry {
		return nil, fault.New(fault.Invalid, "the change takes %d bytes, more than %d", len(b), MaxEntry).WithFix("split it into smaller ones")
	}
	return b, nil
}

// DecodeEntry reads what Encode wrote. Unknown fields and kinds are errors, fault.Corrupt: a controller that
// does not understand all of an entry must not guess, or it would hold another catalog than its peers.
func DecodeEntry(b []byte) (Entry, error) {
	var w entryWire
	if err := strict(b, &w); err != nil {
		return Entry{}, fault.Wrap(fault.Corrupt, err, "log entry cannot be decoded")
	}
	if w.Format > EntryFormat {
		return Entry{}, fault.New(fault.Corrupt, "log entry has format %d; this program reads up to %d", w.Format, EntryFormat).WithFix("upgrade this controller or relay")
	}
	change, err := DecodeChange(w.Kind, w.Change)
	if err != nil {
		return Entry{}, fault.Wrap(fault.Corrupt, err, "log entry cannot be decoded")
	}
	return Entry{Request: w.Request, By: w.By, At: w.At, If: w.If, Message: w.Message, Change: change}, nil
}

// DecodeChange reads a change of the kind from its JSON; unknown kinds and fields are fault.Invalid.
func DecodeChange(kind string, b []byte) (Change, error) {
	t, ok := kinds[kind]
	if !ok {
		return nil, fault.New(fault.Invalid, "no change is called %q", clip(kind))
	}
	v := reflect.New(t)
	if err := strict(b, v.Interface()); err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "change %s cannot be decoded", kind)
	}
	return v.Elem().Interface().(Change), nil
}

func strict(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("something follows the value")
	}
	return nil
}
