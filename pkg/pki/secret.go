package pki

import (
	"bytes"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/wulfmesh/wulfmesh/pkg/durable"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

const redacted = "[redacted]"

// Secret is bytes that must not be seen by accident: it prints, logs and encodes as "[redacted]" whatever the verb
// or the format. Whoever needs the bytes says so by Reveal. The zero Secret is empty.
type Secret struct {
	// A function, because package fmt prints unexported fields without asking their methods, through pointers too,
	// but of a function it can show only the address. It also makes == an error; see Equal.
	reveal func() []byte
}

// conceal makes b, which nobody else holds, a secret.
func conceal(b []byte) Secret { return Secret{func() []byte { return b }} }

// NewSecret holds a copy of b.
func NewSecret(b []byte) Secret { return conceal(bytes.Clone(b)) }

// randomSecret returns n random bytes. crypto/rand never fails (Go 1.24); it stops the program instead.
func randomSecret(n int) Secret {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return conceal(b)
}

// Reveal returns the bytes. The caller must not change them.
func (s Secret) Reveal() []byte {
	if s.reveal == nil {
		return nil
	}
	return s.reveal()
}

// Equal compares in constant time for secrets of equal length.
func (s Secret) Equal(o Secret) bool { return subtle.ConstantTimeCompare(s.Reveal(), o.Reveal()) == 1 }

// String does not give the secret away.
func (s Secret) String() string { return redacted }

// Format answers every verb of package fmt, also those that would show the raw value of a plain Stringer (%d, %x).
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText keeps the secret out of JSON, YAML and everything else that encodes through text.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue keeps the secret out of logs.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// SaveSecret writes s durably as one line of base64, readable by its owner only.
func SaveSecret(path string, s Secret) error {
	line := base64.StdEncoding.AppendEncode(nil, s.Reveal())
	return durable.WriteFile(path, append(line, '\n'), 0o600)
}

// LoadSecret reads what SaveSecret wrote: fault.NotFound if there is no file, fault.Denied if others than its owner
// may read it, fault.Corrupt if it is not one line of base64 of size bytes.
func LoadSecret(path string, size int) (Secret, error) {
	b, err := readPrivate(path)
	if err != nil {
		return Secret{}, err
	}
	b, err = base64.StdEncoding.Strict().AppendDecode(nil, bytes.TrimSuffix(b, []byte("\n")))
	if err != nil || len(b) != size {
		return Secret{}, fault.New(fault.Corrupt, "%s does not hold a secret of %d bytes", path, size)
	}
	return conceal(b), nil
}

// maxFile bounds what is read of a key file; a credentials file with a few CA certificates has under 8 KiB.
const maxFile = 1 << 20

// readPrivate reads a file that holds a key, unless somebody else could have read it too.
func readPrivate(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fault.Wrap(fault.NotFound, err, "reading key file")
	}
	if err != nil {
		return nil, fmt.Errorf("reading key file: %w", err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("reading key file: %w", err)
	}
	if fi.Mode().Perm()&0o077 != 0 {
		return nil, fault.New(fault.Denied, "key file %s can be read by others (mode %04o)", path, fi.Mode().Perm()).
			WithFix("chmod 600 %s, and replace the key if others may have read it", path)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return nil, fmt.Errorf("reading key file: %w", err)
	}
	return b, nil
}
