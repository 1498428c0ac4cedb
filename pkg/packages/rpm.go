package packages

import (
	"bytes"
	"encoding/binary"
	"io/fs"
	"strconv"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// blobs hands out every header of an rpm database. What it hands out may be used until the next one.
type blobs func(db, log []byte, each func(blob []byte) error) error

// rpm reads the database of rpm, in whichever of its formats it is: SQLite (Red Hat since 9, Fedora since 33), ndb (SUSE
// since 15 SP2), a Berkeley DB hash (before).
func rpm(tree fs.FS) ([]Package, error) {
	for _, dir := range []string{"var/lib/rpm/", "usr/lib/sysimage/rpm/", "usr/share/rpm/"} {
		for _, db := range []struct {
			file string
			read blobs
		}{{"rpmdb.sqlite", sqliteBlobs}, {"Packages.db", ndbBlobs}, {"Packages", bdbBlobs}} {
			name := dir + db.file
			b, err := readFile(tree, name, maxDatabase)
			if absent(err) || err == nil && len(b) == 0 {
				continue
			}
			if err != nil {
				return nil, err
			}
			log, err := readFile(tree, name+"-wal", maxDatabase)
			if err != nil && !absent(err) {
				return nil, err
			}
			var all []Package
			err = db.read(b, log, func(blob []byte) error {
				p, err := rpmHeader(blob)
				if err != nil {
					return err
				}
				if all = append(all, p); len(all) > maxPackages {
					return tooMany("rpm")
				}
				return nil
			})
			if err != nil {
				return nil, fault.Wrap(fault.Invalid, err, "the image's /%s cannot be read", name).WithFix("see whether rpm -qa works in the image; rpm --rebuilddb there may mend it")
			}
			return all, nil
		}
	}
	return nil, nil
}

// Tags of an rpm header that are looked at, and types of their values.
const (
	tagName     = 1000
	tagVersion  = 1001
	tagRelease  = 1002
	tagEpoch    = 1003
	tagSize     = 1009
	tagArch     = 1022
	tagLongSize = 5009

	typeInt32  = 4
	typeInt64  = 5
	typeString = 6
)

// maxTags is what rpm itself allows in a header.
const maxTags = 65535

// damaged is a part of a database that is not what it must be.
func damaged(format string, args ...any) error { return fault.New(fault.Invalid, format, args...) }

// rpmHeader reads a header as the databases hold it: the number of tags, the length of the data, four numbers for each
// tag, the data; all big-endian.
func rpmHeader(b []byte) (Package, error) {
	if len(b) < 8 {
		return Package{}, damaged("a header has %d bytes", len(b))
	}
	tags, size := int64(binary.BigEndian.Uint32(b)), int64(binary.BigEndian.Uint32(b[4:]))
	if tags > maxTags || 8+16*tags+size > int64(len(b)) {
		return Package{}, damaged("a header of %d bytes claims %d tags and %d bytes of data", len(b), tags, size)
	}
	index, data := b[8:8+16*tags], b[8+16*tags:][:size]
	var p Package
	var release, epoch string
	for ; len(index) > 0; index = index[16:] {
		tag, kind := binary.BigEndian.Uint32(index), binary.BigEndian.Uint32(index[4:])
		at := int64(binary.BigEndian.Uint32(index[8:]))
		if at > size {
			return Package{}, damaged("a header's tag %d lies behind its end", tag)
		}
		value := data[at:]
		switch {
		case tag == tagName && kind == typeString:
			p.Name = cstring(value)
		case tag == tagVersion && kind == typeString:
			p.Version = cstring(value)
		case tag == tagRelease && kind == typeString:
			release = cstring(value)
		case tag == tagArch && kind == typeString:
			p.Arch = cstring(value)
		case tag == tagEpoch && kind == typeInt32 && len(value) >= 4:
			epoch = strconv.FormatUint(uint64(binary.BigEndian.Uint32(value)), 10) + ":"
		case tag == tagSize && kind == typeInt32 && len(value) >= 4:
			p.Size = int64(binary.BigEndian.Uint32(value))
		case tag == tagLongSize && kind == typeInt64 && len(value) >= 8:
			p.Size = int64(binary.BigEndian.Uint64(value) & (1<<63 - 1))
		}
	}
	p.Version = epoch + p.Version
	if release != "" {
		p.Version += "-" + release
	}
	return p, nil
}

// cstring reads up to a NUL, and no more than is of any use.
func cstring(b []byte) string {
	b = b[:min(len(b), maxText+1)]
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}
