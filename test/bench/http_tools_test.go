//go:build bench

package bench

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// findNginx is the peer of the HTTP benchmark.
func findNginx(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"nginx", "/usr/sbin/nginx"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skip("nginx is missing: scripts/install-deps peers")
	return ""
}

// nginxServer is nginx as one sets it up to send large files: two workers, sendfile.
type nginxServer struct {
	addr   string
	master *exec.Cmd
}

// startNginx has nginx serve the files of a directory.
func startNginx(t *testing.T, program, dir string) *nginxServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &nginxServer{addr: l.Addr().String()}
	l.Close()
	conf := filepath.Join(dir, "nginx.conf")
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;"
	}
	text := fmt.Sprintf(`%[3]s
daemon off;
worker_processes 2;
pid %[1]s/nginx.pid;
error_log %[1]s/nginx.log;
events { worker_connections 16384; }
http {
	access_log off; sendfile on; tcp_nopush on; tcp_nodelay on; keepalive_requests 1000000; keepalive_timeout 60s; open_file_cache max=100;
	client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
	server { listen %[2]s backlog=8192; root %[1]s; }
}
`, dir, s.addr, user)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	s.master = exec.Command(program, "-p", dir, "-c", conf)
	s.master.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := s.master.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.master.Process.Signal(syscall.SIGTERM) // it ends its workers
		_ = s.master.Wait()
	})
	for range 100 {
		if c, err := net.Dial("tcp", s.addr); err == nil {
			c.Close()
			return s
		}
		time.Sleep(50 * time.Millisecond)
	}
	log, _ := os.ReadFile(filepath.Join(dir, "nginx.log"))
	t.Fatalf("nginx does not answer: %s", log)
	return nil
}

// workers are the processes that do its work.
func (s *nginxServer) workers(t *testing.T) []int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", s.master.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	var all []int
	for _, f := range strings.Fields(string(text)) {
		pid, err := strconv.Atoi(f)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, pid)
	}
	return all
}

// spent is the processor time that processes have had, of the system's part too.
func spent(t *testing.T, pids []int) time.Duration {
	t.Helper()
	const tick = 10 * time.Millisecond // of /proc, on every architecture that there is
	ticks := 0
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			t.Fatal(err)
		}
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		for _, f := range fields[11:13] {
			n, err := strconv.Atoi(f)
			if err != nil {
				t.Fatal(err)
			}
			ticks += n
		}
	}
	return time.Duration(ticks) * tick
}

// resident is the memory of processes.
func resident(t *testing.T, pids []int) int64 {
	t.Helper()
	var bytes int64
	for _, pid := range pids {
		kb, err := strconv.ParseInt(strings.TrimSuffix(field(fmt.Sprintf("/proc/%d/status", pid), "RssAnon"), " kB"), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		bytes += kb << 10
	}
	return bytes
}

// fetch is one request, and how many bytes the answer has.
type fetch struct {
	path         string
	verifies     bool
	from, length int64
}

// sent is what was measured of a server.
type sent struct {
	bytes     int64
	wall, cpu time.Duration
}

func (s sent) rate() float64 { return float64(s.bytes) / s.wall.Seconds() }
func (s sent) cost() float64 { return s.cpu.Seconds() / float64(s.bytes) }
func (s sent) String() string {
	return fmt.Sprintf("%.2f GB/s, %.3f CPU-s/GB", s.rate()/1e9, s.cost()*1e9)
}

func measure(t *testing.T, addr string, pids func() []int, clients, times int, plan func(client int) []fetch) sent {
	t.Helper()
	began, before := time.Now(), spent(t, pids())
	var s sent
	for range times {
		s.bytes += drain(t, addr, clients, plan)
	}
	s.wall, s.cpu = time.Since(began), spent(t, pids())-before
	return s
}

// drain has clients fetch what the plan says, each on a connection of its own, and returns how many bytes they got.
func drain(t *testing.T, addr string, clients int, plan func(client int) []fetch) int64 {
	t.Helper()
	var wg sync.WaitGroup
	var mu sync.Mutex
	var total int64
	for i := range clients {
		wg.Go(func() {
			n, err := drainOne(addr, plan(i))
			if err != nil {
				t.Errorf("client %d: %v", i, err)
			}
			mu.Lock()
			defer mu.Unlock()
			total += n
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return total
}

func drainOne(addr string, fetches []fetch) (total int64, err error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	for _, f := range fetches {
		request := fmt.Sprintf("GET %s HTTP/1.1\r\nHost: x\r\nRange: bytes=%d-%d\r\n", f.path, f.from, f.from+f.length-1)
		if f.verifies {
			request += "Wulf-Verifies: yes\r\n"
		}
		if _, err := conn.Write([]byte(request + "\r\n")); err != nil {
			return total, err
		}
		early, err := head(conn, f.length)
		if err != nil {
			return total, fmt.Errorf("%s: %w", f.path, err)
		}
		if err := discard(raw, f.length-early); err != nil {
			return total, fmt.Errorf("%s: %w", f.path, err)
		}
		total += f.length
	}
	return total, nil
}

// head reads the head of an answer, and returns how many bytes of the body came with it.
func head(conn net.Conn, length int64) (int64, error) {
	buf, n := make([]byte, 4096), 0
	for {
		k, err := conn.Read(buf[n:])
		if err != nil {
			return 0, err
		}
		n += k
		end := bytes.Index(buf[:n], []byte("\r\n\r\n"))
		if end < 0 {
			continue
		}
		a, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(buf[:end+4])), nil)
		if err != nil {
			return 0, err
		}
		if a.StatusCode != http.StatusPartialContent || a.ContentLength != length {
			return 0, fmt.Errorf("%s, %d bytes, not %d", a.Status, a.ContentLength, length)
		}
		return int64(n - end - 4), nil
	}
}

// discard has the kernel throw bytes away: a reader that does as little as possible (MSG_TRUNC of tcp(7)).
func discard(raw syscall.RawConn, left int64) error {
	buf := make([]byte, 1<<20)
	for left > 0 {
		var n int
		var failed error
		err := raw.Read(func(fd uintptr) bool {
			n, _, failed = syscall.Recvfrom(int(fd), buf[:min(int64(len(buf)), left)], syscall.MSG_TRUNC|syscall.MSG_DONTWAIT)
			return failed != syscall.EAGAIN
		})
		if err != nil {
			return err
		}
		if failed != nil {
			return failed
		}
		if n == 0 {
			return fmt.Errorf("it ends %d bytes early", left)
		}
		left -= int64(n)
	}
	return nil
}

// connect opens connections from many addresses of the loopback, sends a request on each, and reads nothing.
func connect(t *testing.T, addr string, n int, request string) []net.Conn {
	t.Helper()
	var all []net.Conn
	for i := range n {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 2, byte(1+i/100))}}
		conn, err := d.Dial("tcp", addr)
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		if _, err := conn.Write([]byte(request)); err != nil {
			t.Fatal(err)
		}
		all = append(all, conn)
	}
	return all
}
