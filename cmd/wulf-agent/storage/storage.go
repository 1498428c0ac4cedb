// Package storage makes a node's disks hold what is declared of them, before the node has a root: partitions, file systems,
// swap, and the file systems' places below the root. What is to be done says pkg/disks; this package does it.
//
// It destroys nothing without a declared permission, and what is as declared already it does not touch.
package storage

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/wulfmesh/wulfmesh/pkg/api"
	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/disks"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// How long things take at most. Controllers look for their disks one after the other, and a disk that fails is asked
// again and again by the kernel, half a minute each time.
const (
	appearTime = 40 * time.Second
	answerTime = 5 * time.Minute
	makeTime   = 20 * time.Minute
)

// Programs runs the programs that make file systems.
type Programs interface {
	Run(ctx context.Context, f disks.Format, argv []string) error
}

// Config says what is to be done, and by what.
type Config struct {
	Declared api.Storage
	Programs Programs
	Probe    func()                // loads the drivers of devices that have turned up
	Load     func(names ...string) // loads modules by name
	Mark     string                // UUID of file systems that are made for the root
	Sys, Dev string                // where the kernel shows its devices; "": /sys and /dev
	Log      *slog.Logger
}

// Storage is the work on one node's disks. Its methods are called in the order in which they stand here.
type Storage struct {
	*Host
	cfg     Config
	root    *filesystem
	systems []*filesystem // the root first, then by their paths
	until   time.Time     // when all devices should have appeared
	without []string
	done    []string
}

// Host is the machine, as its kernel shows it.
type Host struct{ sys, dev string }

// filesystem is a declared file system on its way.
type filesystem struct {
	name     string // as declared
	declared catalog.Filesystem
	mount    disks.Mount
	device   device
	format   string // that is there, when it is ready
	ready    bool
}

// New makes a Storage, which does nothing yet.
func New(cfg Config) *Storage {
	return &Storage{Host: &Host{cmp.Or(cfg.Sys, "/sys"), cmp.Or(cfg.Dev, "/dev")}, cfg: cfg}
}

// Prepare partitions disks, makes file systems and switches swap on. A file system that is not to be had is an error,
// unless its mount options say nofail; nothing that it needs is touched further then.
func (s *Storage) Prepare(ctx context.Context) error {
	if err := s.read(); err != nil {
		return err
	}
	s.until = time.Now().Add(appearTime)
	broken := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(s.cfg.Declared.Disks)) {
		if err := s.disk(ctx, name); err != nil {
			err = within("disk "+name, err)
			if !s.optional(name) {
				return err
			}
			s.lack(err)
			broken[name] = true
		}
	}
	for _, f := range s.systems {
		wrong := slices.ContainsFunc(slices.Sorted(maps.Keys(broken)), func(disk string) bool { return s.on(f.name, disk) })
		if err := s.prepare(ctx, f, wrong); err != nil {
			err = within("file system "+f.name, err)
			if !f.mount.NoFail || f == s.root {
				return err
			}
			s.lack(err)
		}
	}
	return s.swaps()
}

// within says what an error is about and keeps its fix.
func within(what string, err error) error {
	e := fault.Wrap(fault.KindOf(err), err, "%s", what)
	if fix := fault.Fix(err); fix != "" {
		return e.WithFix("%s", fix)
	}
	return e
}

// Steps is what was done to the disks, for people.
func (s *Storage) Steps() []string { return s.done }

// Without is what the node goes on without.
func (s *Storage) Without() []string { return s.without }

func (s *Storage) lack(err error) {
	text := err.Error()
	if fix := fault.Fix(err); fix != "" {
		text += " (" + fix + ")"
	}
	s.without = append(s.without, text)
	s.cfg.Log.Warn("goes on without: " + text)
}

func (s *Storage) did(name string, steps ...string) {
	for _, step := range steps {
		s.done = append(s.done, name+": "+step)
		s.cfg.Log.Info(name + ": " + step)
	}
}

// read puts the declared file systems into order.
func (s *Storage) read() error {
	d := s.cfg.Declared
	if _, ok := d.Filesystems[d.Root]; !ok && d.Root != "" {
		s.systems = append(s.systems, &filesystem{name: d.Root, declared: catalog.Filesystem{Path: new("/")}})
	}
	for name, fs := range d.Filesystems {
		if name == d.Root {
			fs.Path = new("/")
		}
		s.systems = append(s.systems, &filesystem{name: name, declared: fs})
	}
	for _, f := range s.systems {
		f.mount = disks.MountOf(f.declared)
		if f.declared.Format == nil && f.declared.Path != nil && *f.declared.Path == "swap" {
			f.declared.Format = new(disks.Swap) // as in fstab
		}
		switch {
		case f.name == d.Root && f.declared.Format == nil:
			f.declared.Format = new(disks.Ext4)
			s.root = f
		case f.name == d.Root:
			s.root = f
		case f.mount.Path == "/":
			return fault.New(fault.Invalid, "both %s and %s would be the root", d.Root, f.name).WithFix("let one file system have the path /")
		}
	}
	slices.SortFunc(s.systems, func(a, b *filesystem) int {
		if (a == s.root) != (b == s.root) {
			return map[bool]int{true: -1, false: 1}[a == s.root]
		}
		return cmp.Or(strings.Compare(a.mount.Path, b.mount.Path), strings.Compare(a.name, b.name))
	})
	return nil
}

// on tells whether a declared device is known to be on a disk, by its name alone.
func (s *Storage) on(name, disk string) bool {
	if label, ok := strings.CutPrefix(name, "/dev/disk/by-partlabel/"); ok {
		_, ok := s.cfg.Declared.Disks[disk].Partitions[label]
		return ok
	}
	rest, ok := strings.CutPrefix(name, disk)
	rest = strings.TrimPrefix(strings.TrimPrefix(rest, "-part"), "p")
	return ok && strings.Trim(rest, "0123456789") == ""
}

// optional tells whether a node boots without a disk: each of the file systems on it says so, and there is one.
func (s *Storage) optional(disk string) bool {
	any := false
	for _, f := range s.systems {
		if !s.on(f.name, disk) {
			continue
		}
		if any = true; !f.mount.NoFail || f == s.root {
			return false
		}
	}
	return any
}

// appear waits until a device is there.
func (s *Storage) appear(ctx context.Context, name string, until time.Time) (device, error) {
	waiting, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	for {
		s.cfg.Probe()
		d, err := bounded(ctx, func(context.Context) (device, error) { return s.find(name) }) // which may read all of them
		if !errors.Is(err, fault.NotFound) {
			return d, err
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-waiting.Done():
			return d, err
		}
	}
}

// bounded gives what a disk does a time. A call to a disk that does not answer cannot be taken back: it stays behind.
func bounded[T any](ctx context.Context, do func(context.Context) (T, error)) (T, error) {
	type answer struct {
		v   T
		err error
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	answers := make(chan answer, 1)
	go func() {
		v, err := do(ctx)
		answers <- answer{v, err}
	}()
	select {
	case a := <-answers:
		return a.v, a.err
	case <-ctx.Done():
		var none T
		return none, fault.New(fault.Timeout, "the disk has not answered for %s", answerTime).WithFix("look at the kernel's messages on the console: the disk or its controller fails")
	}
}

// disk makes a disk hold its partitions.
func (s *Storage) disk(ctx context.Context, name string) error {
	declared := s.cfg.Declared.Disks[name]
	d, err := s.appear(ctx, name, s.until)
	if err != nil {
		return err
	}
	if d.number > 0 && len(declared.Partitions) > 0 {
		return fault.New(fault.Invalid, "it is a partition and cannot have partitions")
	}
	steps, err := bounded(ctx, func(ctx context.Context) ([]string, error) { return s.partition(ctx, d, declared) })
	s.did(name, steps...)
	return err
}

// prepare makes a file system ready to be mounted. On a disk that is wrong, because it is not as declared, one that is there
// is taken, and none is made or waited for.
func (s *Storage) prepare(ctx context.Context, f *filesystem, wrong bool) error {
	until := s.until
	if wrong {
		until = time.Now()
	}
	if f.mount.Path == "" && f.declared.Format == nil {
		return nil // for programs of the node's own
	}
	var err error
	if f.device, err = s.appear(ctx, f.name, until); err != nil {
		return err
	}
	type state struct {
		content    disks.Content
		unfinished bool
		all        []device
	}
	is, err := bounded(ctx, func(context.Context) (x state, err error) {
		if x.all, err = s.devices(); err != nil {
			return x, err
		}
		if e := s.entry(f.device, x.all); e != nil {
			x.unfinished = e.Attributes&disks.Making != 0
		}
		x.content, err = s.probe(f.device)
		return x, err
	})
	if err != nil {
		return err
	}
	decide := func() (disks.Decision, error) { return disks.Decide(f.declared, is.content, is.unfinished) }
	if f == s.root {
		decide = func() (disks.Decision, error) {
			return disks.DecideRoot(f.declared, is.content, is.unfinished, s.cfg.Mark)
		}
	}
	what, err := decide()
	if err != nil {
		return err
	}
	if what.Make && wrong {
		return fault.New(fault.Conflict, "it is not made, for its disk is not as declared")
	}
	if f.format = is.content.Format; what.Make {
		f.format = *f.declared.Format
		if err := s.make(ctx, f, is.content, is.all); err != nil {
			return err
		}
		s.did(f.name, f.format+" "+what.Why)
	}
	f.ready = true
	return nil
}

// make makes a file system, and notes while it does so that what is there is not whole.
func (s *Storage) make(ctx context.Context, f *filesystem, present disks.Content, all []device) (err error) {
	format, err := disks.FormatOf(f.format)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, makeTime)
	defer cancel()
	if err := s.making(f.device, all, true); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.making(f.device, all, false)) }()
	file, size, _, err := s.open(f.device, true)
	if err != nil {
		return err
	}
	defer file.Close()
	if !present.Blank { // what is at the ends, another program might still know
		for _, r := range disks.Ends(0, size) {
			if err := blank(file, r); err != nil {
				return err
			}
		}
	}
	id := ""
	if f.declared.UUID != nil {
		id = *f.declared.UUID
	} else if f == s.root {
		id = s.cfg.Mark
	}
	if f.device.number == 0 {
		if err := reread(ctx, file); err != nil { // there may have been partitions
			return err
		}
	}
	if format.Program != "" {
		file.Close() // the program wants it for itself
		return s.cfg.Programs.Run(ctx, format, format.Command(f.declared, id, f.device.path))
	}
	label := ""
	if f.declared.Label != nil {
		label = *f.declared.Label
	}
	page, err := disks.SwapHeader(size, os.Getpagesize(), label, id, rand.Reader)
	if err != nil {
		return err
	}
	return write(file, []disks.Write{{Data: page}})
}

// Mark is the UUID by which the file systems are known that a node's boots make for its root. It is of the kind that each
// may make up by rules of its own (RFC 9562, version 8).
func Mark(cluster string, node catalog.NodeName) string {
	b := sum(cluster, string(node))
	copy(b[:], "wulf")
	b[6], b[8] = b[6]&0x0f|0x80, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16])
}
