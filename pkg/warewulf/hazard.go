package warewulf

import (
	"cmp"
	"fmt"
	"slices"
)

// Severity says what a Hazard asks of a person.
type Severity string

// The severities, from the mildest on.
const (
	Note    Severity = "note"    // nothing: it says what was done
	Warning Severity = "warning" // to look whether it is meant so
	Error   Severity = "error"   // to decide: it cannot be taken over as it is, or does harm
)

// Position is a place in a file, counted from 1. Zero is no place.
type Position struct {
	Line   int `json:"line,omitempty"`
	Column int `json:"column,omitempty"`
}

// HazardID names a kind of hazard. The names are stable: people filter by them.
type HazardID string

// Hazard is something in a configuration that a person should know before it moves.
type Hazard struct {
	ID       HazardID `json:"id"`
	Severity Severity `json:"severity"`
	File     string   `json:"file"`    // NodesFile, ConfigFile, or a template among the overlays
	Subject  string   `json:"subject"` // what it is about: the path of a key, such as nodes.n1.ipmi.write
	Position
	What string `json:"what"` // one line
	Fix  string `json:"fix"`  // one line
}

// The files that hazards are about.
const (
	NodesFile  = "nodes.conf"
	ConfigFile = "warewulf.conf"
)

// The hazards. Those of the first group are met while reading, those of the second by Check and Merged.
const (
	UnknownKey      HazardID = "unknown-key"
	DeprecatedKey   HazardID = "deprecated-key" // rewritten
	DroppedKey      HazardID = "dropped-key"    // obsolete, or overruled by its successor
	LiteralUndef    HazardID = "literal-undef"
	InvalidAddress  HazardID = "invalid-address"
	InvalidMAC      HazardID = "invalid-mac"
	MixedCaseMAC    HazardID = "mixed-case-mac"
	InvalidBoolean  HazardID = "invalid-boolean"
	InvalidNumber   HazardID = "invalid-number"
	SecondDocument  HazardID = "second-document"
	KernelOverride  HazardID = "kernel-override"
	MountFromConfig HazardID = "mount-from-config"
	OverlayReplaced HazardID = "overlay-replaced"
	DefaultAdded    HazardID = "default-added"

	UnknownProfile    HazardID = "unknown-profile"
	ProfileCycle      HazardID = "profile-cycle"
	NoProfiles        HazardID = "no-profiles"
	PrimaryMissing    HazardID = "primary-network-missing"
	DuplicateMAC      HazardID = "duplicate-mac"
	DuplicateAddress  HazardID = "duplicate-address"
	DuplicateIPMI     HazardID = "duplicate-ipmi-address"
	RangeInName       HazardID = "range-in-name"
	InvalidName       HazardID = "invalid-name"
	NoHwaddr          HazardID = "netdev-without-hwaddr"
	InvalidNetmask    HazardID = "invalid-netmask"
	IPMINoAddress     HazardID = "ipmi-without-address"
	IPMIWriteNothing  HazardID = "ipmi-write-without-address"
	CleartextPassword HazardID = "cleartext-ipmi-password"
	CustomTemplate    HazardID = "custom-ipxe-template"
	UnknownImage      HazardID = "unknown-image"
	UnknownOverlay    HazardID = "unknown-overlay"
	OverlayShadows    HazardID = "overlay-shadows-distribution"
	MonolithicOverlay HazardID = "monolithic-overlay"
	ResourceConflict  HazardID = "resource-conflict"
	PoolOverlap       HazardID = "overlapping-pool"
	InvalidPool       HazardID = "invalid-pool"
	NoCounterpart     HazardID = "setting-without-counterpart"
)

// HazardIDs are all hazards that there are, those of a conversion last.
func HazardIDs() []HazardID {
	return []HazardID{
		UnknownKey, DeprecatedKey, DroppedKey, LiteralUndef, InvalidAddress, InvalidMAC, MixedCaseMAC, InvalidBoolean, InvalidNumber,
		SecondDocument, KernelOverride, MountFromConfig, OverlayReplaced, DefaultAdded, UnknownProfile, ProfileCycle, NoProfiles,
		PrimaryMissing, DuplicateMAC, DuplicateAddress, DuplicateIPMI, RangeInName, InvalidName, NoHwaddr, InvalidNetmask,
		IPMINoAddress, IPMIWriteNothing, CleartextPassword, CustomTemplate, UnknownImage, UnknownOverlay, OverlayShadows,
		MonolithicOverlay, ResourceConflict, PoolOverlap, InvalidPool, NoCounterpart, RootDevice, RootInitramfs,
		OverlayGone, ValueLeftOut, NodeLeftOut, PoolLeftOut, AddressNoNet, PrivateSiteFile, SiteFileLeftOut, DynamicInclude, BrokenTemplate,
	}
}

// maxHazards bounds the hazards of one kind: forty thousand nodes with the same old key need not be told one by one.
// What comes after them is counted in one more.
const maxHazards = 1000

// hazards gathers, within the bound.
type hazards struct {
	file string
	all  []Hazard
	seen map[HazardID]int
}

func (h *hazards) add(id HazardID, s Severity, subject string, at Position, what, fix string) {
	if h.seen == nil {
		h.seen = make(map[HazardID]int)
	}
	if h.seen[id]++; h.seen[id] > maxHazards {
		return
	}
	h.all = append(h.all, Hazard{id, s, h.file, clipPath(subject), at, what, fix})
}

// found is all that was gathered, and a line for each kind of which there was more.
func (h *hazards) found() []Hazard {
	var more []Hazard
	for id, n := range h.seen {
		if n <= maxHazards {
			continue
		}
		i := slices.IndexFunc(h.all, func(x Hazard) bool { return x.ID == id })
		more = append(more, Hazard{ID: id, Severity: h.all[i].Severity, File: h.file, Subject: "…",
			What: fmt.Sprintf("there are %d more of this kind", n-maxHazards), Fix: h.all[i].Fix})
	}
	slices.SortFunc(more, func(a, b Hazard) int { return cmp.Compare(a.ID, b.ID) })
	return append(h.all, more...)
}
