package catalog

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"strings"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// Secret is a value that only its node may know, sealed by a controller under a key that controllers alone have (see
// pki.Vault). The catalog, the log, feeds and exports hold the sealed text; whoever formats a Secret sees Hidden.
//
// On its way from an operator to a controller a Secret is in clear: Sealed tells the two apart. Apply refuses a
// Secret that is not sealed, so that none can get into the log by mistake.
type Secret string

// SealedPrefix begins a sealed secret; the number is that of the form.
//
// History: 1 (2026-11) first: AES-256-GCM, a random nonce before the ciphertext, base64url without padding.
const SealedPrefix = "sealed:1:"

// Hidden stands for a secret wherever people or logs would see it.
const Hidden = "<secret>"

// MaxSecret bounds the bytes of a secret in clear: a key or a password, no file.
const MaxSecret = 32 << 10

// Sealed tells whether the secret has the form of a sealed one. Whether it can be opened, only a controller knows.
func (s Secret) Sealed() bool { return strings.HasPrefix(string(s), SealedPrefix) }

// String hides the secret from whatever formats it.
func (s Secret) String() string { return Hidden }

// Format hides it from fmt, whatever the verb: a wrong one would print what is there.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, Hidden) }

// tag is Hidden with a word that differs from one sealing to the next, so that people see that it was set anew.
func (s Secret) tag() string {
	if !s.Sealed() {
		return Hidden // a word that hangs on what is in clear would say something about it
	}
	sum := sha256.Sum256([]byte(s))
	return fmt.Sprintf("<secret %x>", sum[:2])
}

// LogValue hides it from logs.
func (s Secret) LogValue() slog.Value { return slog.StringValue(Hidden) }

// MarshalJSON writes the secret as it is held: sealed, but for the request that brings it to a controller.
func (s Secret) MarshalJSON() ([]byte, error) { return json.Marshal(string(s)) }

// SealSecrets returns the change with every secret in it replaced by what seal makes of it. The change that was given
// is not altered.
func SealSecrets(change Change, seal func(Secret) (Secret, error)) (Change, error) {
	if err := noComputedSecrets(change); err != nil {
		return nil, err
	}
	v, err := sealed(reflect.ValueOf(change), seal)
	if err != nil {
		return nil, err
	}
	return v.Interface().(Change), nil
}

// noComputedSecrets refuses formulas for secrets. They are text in the change, which nobody seals.
func noComputedSecrets(change Change) error {
	var compute map[string]string
	switch x := change.(type) {
	case AddNodes:
		compute = x.Compute
	case SetNodes:
		compute = x.Compute
	case Batch:
		for _, s := range x.Changes {
			if err := noComputedSecrets(s.Change); err != nil {
				return err
			}
		}
	}
	for _, path := range sortedKeys(compute) {
		if path == "bmc.password" || strings.HasPrefix(path, "secrets.") {
			return fault.New(fault.Invalid, "%s cannot be computed: a formula is no secret", clip(path)).WithFix("give each node its own")
		}
	}
	return nil
}

var secretType = reflect.TypeFor[Secret]()

// holdsSecrets tells whether values of a type can hold secrets; what cannot is not copied.
func holdsSecrets(t reflect.Type, seen map[reflect.Type]bool) bool {
	if t == secretType || t.Kind() == reflect.Interface {
		return true
	}
	if seen[t] {
		return false
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		return holdsSecrets(t.Elem(), seen)
	case reflect.Struct:
		for i := range t.NumField() {
			if t.Field(i).IsExported() && holdsSecrets(t.Field(i).Type, seen) {
				return true
			}
		}
	}
	return false
}

// sealed is v with its secrets sealed. It copies what it changes: a change may share its parts with others.
func sealed(v reflect.Value, seal func(Secret) (Secret, error)) (reflect.Value, error) {
	if v.IsZero() || !holdsSecrets(v.Type(), map[reflect.Type]bool{}) {
		return v, nil
	}
	if v.Type() == secretType {
		s, err := seal(v.Interface().(Secret))
		return reflect.ValueOf(s), err
	}
	out := reflect.New(v.Type()).Elem()
	switch v.Kind() {
	case reflect.Interface:
		inner, err := sealed(v.Elem(), seal)
		if err != nil {
			return v, err
		}
		out.Set(inner)
	case reflect.Pointer:
		inner, err := sealed(v.Elem(), seal)
		if err != nil {
			return v, err
		}
		out.Set(reflect.New(v.Type().Elem()))
		out.Elem().Set(inner)
	case reflect.Slice:
		out.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
		for i := range v.Len() {
			inner, err := sealed(v.Index(i), seal)
			if err != nil {
				return v, err
			}
			out.Index(i).Set(inner)
		}
	case reflect.Map:
		out.Set(reflect.MakeMapWithSize(v.Type(), v.Len()))
		for it := v.MapRange(); it.Next(); {
			inner, err := sealed(it.Value(), seal)
			if err != nil {
				return v, fault.Wrap(fault.KindOf(err), err, "%s", it.Key()) // the node, the name of the secret: where it is
			}
			out.SetMapIndex(it.Key(), inner)
		}
	case reflect.Struct:
		out.Set(v)
		for i := range v.NumField() {
			if !v.Type().Field(i).IsExported() {
				continue
			}
			inner, err := sealed(v.Field(i), seal)
			if err != nil {
				return v, err
			}
			out.Field(i).Set(inner)
		}
	default:
		return v, nil
	}
	return out, nil
}
