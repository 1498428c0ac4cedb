package cluster

import (
	"context"
	"errors"
	"net"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/wulfmesh/wulfmesh/test/rig"
)

// HostKey asks the SSH server of a node for its host key, from a host of the room, and returns it as it stands in a
// known_hosts file: algorithm and key.
func HostKey(ctx context.Context, from *rig.Host, address string) (string, error) {
	var conn net.Conn
	if err := from.Do(func() (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(address, "22"))
		return err
	}); err != nil {
		return "", err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	var key string
	seen := errors.New("the host key is all that was wanted")
	_, _, _, err := ssh.NewClientConn(conn, address, &ssh.ClientConfig{
		User: "root",
		HostKeyCallback: func(_ string, _ net.Addr, k ssh.PublicKey) error {
			key = strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k)))
			return seen
		},
		HostKeyAlgorithms: []string{ssh.KeyAlgoED25519},
	})
	if key == "" {
		return "", err
	}
	return key, nil
}
