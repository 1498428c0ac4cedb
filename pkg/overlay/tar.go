package overlay

import (
	"archive/tar"
	"fmt"
	"io"
)

// WriteTar writes rendered files as a tar archive. Equal files give equal bytes: no time is recorded.
func WriteTar(w io.Writer, files []Rendered) error {
	t := tar.NewWriter(w)
	for _, f := range files {
		h := &tar.Header{Name: f.Path, Mode: int64(f.Mode), Uid: f.UID, Gid: f.GID, Format: tar.FormatPAX}
		switch f.Type {
		case TypeDir:
			h.Typeflag, h.Name = tar.TypeDir, f.Path+"/"
		case TypeLink:
			h.Typeflag, h.Linkname = tar.TypeSymlink, f.Target
		default:
			h.Typeflag, h.Size = tar.TypeReg, int64(len(f.Content))
		}
		if err := t.WriteHeader(h); err != nil {
			return fmt.Errorf("writing overlay file %s: %w", f.Path, err)
		}
		if f.Type == TypeFile {
			if _, err := t.Write(f.Content); err != nil {
				return fmt.Errorf("writing overlay file %s: %w", f.Path, err)
			}
		}
	}
	return t.Close()
}
