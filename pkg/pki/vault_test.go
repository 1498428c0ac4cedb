package pki_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/wulfmesh/wulfmesh/pkg/catalog"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
)

func TestSealedSecretsAreReadByTheirOwnClusterOnly(t *testing.T) {
	mesh := pki.NewMeshSecret()
	vault := mesh.Vault()
	sealed, err := vault.Seal("open sesame")
	if err != nil || !sealed.Sealed() || strings.Contains(string(sealed), "sesame") {
		t.Fatalf("sealed as %q, %v", string(sealed), err)
	}
	if again, _ := vault.Seal("open sesame"); again == sealed {
		t.Error("the same secret is sealed alike twice, which tells that it is the same")
	}
	if kept, err := mesh.Vault().Seal(sealed); err != nil || kept != sealed {
		t.Errorf("a sealed secret of the cluster is sealed again: %v", err)
	}
	if b, err := mesh.Vault().Open(sealed); err != nil || string(b.Reveal()) != "open sesame" {
		t.Errorf("opened as %q, %v", b.Reveal(), err)
	}
	altered := []byte(sealed)
	altered[len(altered)-5] ^= 1
	for name, s := range map[string]catalog.Secret{
		"of another cluster": mustSeal(t, pki.NewMeshSecret().Vault()),
		"altered":            catalog.Secret(altered),
		"cut off":            sealed[:len(sealed)-4],
		"empty":              catalog.SealedPrefix,
	} {
		if _, err := vault.Seal(s); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: taken as it is: %v", name, err)
		}
		if _, err := vault.Open(s); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: opened: %v", name, err)
		}
	}
	if _, err := vault.Seal(catalog.Secret(strings.Repeat("x", catalog.MaxSecret+1))); !errors.Is(err, fault.Invalid) {
		t.Errorf("too large: %v", err)
	}
}

func mustSeal(t *testing.T, v pki.Vault) catalog.Secret {
	t.Helper()
	s, err := v.Seal("x")
	if err != nil {
		t.Fatal(err)
	}
	return s
}
