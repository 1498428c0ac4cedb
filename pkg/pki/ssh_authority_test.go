package pki_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/wulfmesh/wulfmesh/pkg/fault"
	"github.com/wulfmesh/wulfmesh/pkg/pki"
)

// certified is the host key of node n1 with its certificate.
func certified(t *testing.T, keyType string, names ...string) (pki.SSHKey, *ssh.Certificate) {
	t.Helper()
	key, err := networkKey().SSHHostKey("n1", keyType)
	if err != nil {
		t.Fatal(err)
	}
	line, err := networkKey().SSHCertificate(key, "n1", names)
	if err != nil {
		t.Fatal(err)
	}
	public, comment, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
	cert, ok := public.(*ssh.Certificate)
	if err != nil || !ok || comment != "n1" {
		t.Fatalf("%T %q: %v", public, comment, err)
	}
	return key, cert
}

// checker takes certificates of the network's authority.
func checker(t *testing.T, authority string) *ssh.CertChecker {
	t.Helper()
	ca, _, _, _, err := ssh.ParseAuthorizedKey([]byte(authority))
	if err != nil {
		t.Fatal(err)
	}
	return &ssh.CertChecker{
		IsHostAuthority: func(k ssh.PublicKey, _ string) bool { return bytes.Equal(k.Marshal(), ca.Marshal()) },
		Clock:           func() time.Time { return time.Now().AddDate(150, 0, 0) },
	}
}

// Both lines are golden: if the first changed, every known_hosts file of every cluster would be wrong.
func TestTheSSHAuthorityNeverChanges(t *testing.T) {
	if want, got := "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICsb51v9Urw7XJrCx+BGJ2TnYzmEnQY65HiBByumQWlM", networkKey().SSHAuthority(); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	_, cert := certified(t, pki.SSHEd25519, "n1.lab.example", "n1", "10.1.0.1")
	if want, got := "492403c1db7c92fa", fmt.Sprintf("%x", cert.Serial); got != want {
		t.Errorf("got serial number %s, want %s", got, want)
	}
}

func TestCertificatesAreGoodForTheirNodesNamesOnly(t *testing.T) {
	for _, keyType := range []string{pki.SSHEd25519, pki.SSHECDSA} {
		key, cert := certified(t, keyType, "n1.lab.example", "n1", "10.1.0.1", "fd00::1")
		_, again := certified(t, keyType, "n1.lab.example", "n1", "10.1.0.1", "fd00::1")
		if !bytes.Equal(cert.Marshal(), again.Marshal()) {
			t.Errorf("%s: not the same bytes twice", keyType)
		}
		public, _, _, _, err := ssh.ParseAuthorizedKey([]byte(key.Public))
		if err != nil || !bytes.Equal(public.Marshal(), cert.Key.Marshal()) || cert.KeyId != "n1" || cert.CertType != ssh.HostCert {
			t.Errorf("%s: of another key: %+v, %v", keyType, cert, err)
		}
		check := checker(t, networkKey().SSHAuthority())
		for name, good := range map[string]bool{"n1": true, "n1.lab.example": true, "10.1.0.1": true, "fd00::1": true, "n2": false, "lab.example": false, "": false} {
			if err := check.CheckHostKey(net.JoinHostPort(name, "22"), nil, cert); (err == nil) != good {
				t.Errorf("%s for %q: %v", keyType, name, err)
			}
		}
		if err := checker(t, pki.NewMeshSecret().NetworkKey("rack").SSHAuthority()).CheckHostKey("n1:22", nil, cert); err == nil {
			t.Errorf("%s: another network's authority takes it", keyType)
		}
	}
}

func TestCertificatesOfOtherNamesAreOthers(t *testing.T) {
	_, a := certified(t, pki.SSHEd25519, "n1", "10.1.0.1")
	_, b := certified(t, pki.SSHEd25519, "n1", "10.1.0.2")
	if a.Serial == b.Serial || bytes.Equal(a.Nonce, b.Nonce) || len(a.Nonce) != 32 {
		t.Errorf("serial numbers %x and %x, nonces %x and %x", a.Serial, b.Serial, a.Nonce, b.Nonce)
	}
}

func TestCertificatesHoldAsManyNamesAsOpenSSHReads(t *testing.T) {
	many := make([]string, 1000)
	for i := range many {
		many[i] = fmt.Sprint("n", i)
	}
	if _, cert := certified(t, pki.SSHEd25519, many...); len(cert.ValidPrincipals) != pki.MaxSSHNames || cert.ValidPrincipals[0] != "n0" {
		t.Errorf("%d names, first %s", len(cert.ValidPrincipals), cert.ValidPrincipals[0])
	}
	key, _ := certified(t, pki.SSHEd25519, "n1")
	if _, err := networkKey().SSHCertificate(key, "n1", nil); !errors.Is(err, fault.Invalid) {
		t.Errorf("a certificate for every host: %v", err)
	}
}

func TestOpenSSHReadsCertificates(t *testing.T) {
	keygen, err := exec.LookPath("ssh-keygen")
	if err != nil {
		t.Skip("there is no ssh-keygen here: scripts/install-deps programs")
	}
	for _, keyType := range []string{pki.SSHEd25519, pki.SSHECDSA} {
		key, _ := certified(t, keyType, "n1")
		line, err := networkKey().SSHCertificate(key, "n1", []string{"n1.lab.example", "n1", "10.1.0.1"})
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "key-cert.pub")
		if err := os.WriteFile(file, []byte(line+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(keygen, "-L", "-f", file).CombinedOutput()
		for _, want := range []string{keyType + "-cert-v01@openssh.com host certificate", `Key ID: "n1"`, "Valid: forever", "n1.lab.example\n", "10.1.0.1\n", "Critical Options: (none)"} {
			if err != nil || !strings.Contains(string(out), want) {
				t.Errorf("%v; no %q in\n%s", err, want, out)
			}
		}
	}
}
