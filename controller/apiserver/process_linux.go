package apiserver

import (
	"context"
	"net"
	"os"
	"syscall"
)

// process is who is at the other end of a unix socket.
type process struct{ uid int }

type processKey struct{}

// withProcess notes the credentials that the kernel vouches for (unix(7), SO_PEERCRED): those of the process when
// it connected.
func withProcess(ctx context.Context, c net.Conn) context.Context {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return ctx
	}
	var cred *syscall.Ucred
	if cerr := raw.Control(func(fd uintptr) {
		cred, err = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); cerr != nil || err != nil {
		return ctx
	}
	return context.WithValue(ctx, processKey{}, process{int(cred.Uid)})
}

func processOf(ctx context.Context) (process, bool) {
	p, ok := ctx.Value(processKey{}).(process)
	return p, ok
}

func ownUID() int { return os.Geteuid() }
