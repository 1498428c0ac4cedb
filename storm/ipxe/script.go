// Package ipxe runs iPXE scripts as iPXE does, for simulated machines: it knows the commands that pkg/boot writes, and what
// is fetched is the caller's affair. It opens no socket.
package ipxe

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Script runs an iPXE script as iPXE does: lines of commands joined by ||, && and ;, settings expanded word by word, a
// line that fails ends the script. It knows the commands that pkg/boot writes and fails loudly at any other.
type Script struct {
	Fetch    func(ctx context.Context, url string, progress time.Duration) ([]byte, error) // gives up after so long without a byte; 0: never
	Screen   func(format string, args ...any)                                              // what the machine shows
	Settings map[string]string
	Images   []*Image // fetched, in order
	Selected *Image   // the kernel; nil for none

	base  *url.URL // of the present script: what other URLs are relative to
	lines []string
	at    int // the next line
}

// Image is a file that iPXE holds.
type Image struct {
	Name, URL, Args string
	Data            []byte
}

// How a script ends other than by its last line or a failure.
var (
	ErrBoot   = errors.New("the kernel is started")
	ErrReboot = errors.New("the script restarts the machine")
	ErrExit   = errors.New("the script has ended")
	errGoto   = errors.New("the rest of the line does not count") // after goto
)

// maxCommands bounds a script that goes round and round: some weeks of retries.
const maxCommands = 1 << 20

// Run runs the script text that came from a URL until it boots (ErrBoot), restarts the machine (ErrReboot) or ends.
func (s *Script) Run(ctx context.Context, base string, text []byte) error {
	var err error
	if s.base, err = url.Parse(base); err != nil {
		return err
	}
	if err := s.load(text); err != nil {
		return err
	}
	for range maxCommands {
		if s.at >= len(s.lines) {
			return ErrExit
		}
		line := s.lines[s.at]
		s.at++
		if err := s.line(ctx, line); err != nil {
			if err == ErrBoot || err == ErrReboot || err == ErrExit || ctx.Err() != nil {
				return err
			}
			return fmt.Errorf("script line %d, %q: %w", s.at, line, err)
		}
	}
	return errors.New("the script does not end")
}

// load makes a text the present script.
func (s *Script) load(text []byte) error {
	if !strings.HasPrefix(string(text), "#!ipxe\n") {
		return fmt.Errorf("this is no script: %.40q", text)
	}
	s.lines, s.at = strings.Split(strings.TrimSuffix(string(text), "\n"), "\n"), 0
	return nil
}

// line runs one line.
func (s *Script) line(ctx context.Context, line string) error {
	words := strings.Fields(line)
	if len(words) > 0 && strings.HasPrefix(words[0], ":") {
		words = words[1:]
	}
	var last error
	process := true
	for {
		n := slices.IndexFunc(words, func(w string) bool { return w == "||" || w == "&&" || w == ";" || w[0] == '#' })
		command := words
		if n >= 0 {
			command = words[:n]
		}
		if process {
			if last = s.command(ctx, command); last == errGoto {
				return nil
			}
			if last == ErrBoot || last == ErrReboot || last == ErrExit || ctx.Err() != nil {
				return last
			}
		}
		if n < 0 || words[n][0] == '#' {
			return last
		}
		process = words[n] == ";" || (words[n] == "||") == (last != nil)
		words = words[n+1:]
	}
}

// command runs one command; an empty one does nothing, successfully.
func (s *Script) command(ctx context.Context, words []string) error {
	if len(words) == 0 {
		return nil
	}
	args := make([]string, len(words))
	for i, w := range words {
		args[i] = s.expand(w)
	}
	name, args := args[0], args[1:]
	switch name {
	case "echo":
		s.Screen("shows: %s", strings.Join(args, " "))
		return nil
	case "set", "inc", "iseq", "isset":
		return s.setting(name, args)
	case "goto":
		return s.jump(args)
	case "sleep":
		if len(args) != 1 {
			return errors.New("sleep takes a number of seconds")
		}
		n, err := strconv.ParseUint(args[0], 10, 32)
		if err != nil {
			return err
		}
		return sleep(ctx, time.Duration(n)*time.Second)
	case "reboot":
		return ErrReboot
	case "exit":
		return ErrExit
	case "imgfree":
		s.Images, s.Selected = nil, nil
		return nil
	case "kernel", "initrd", "imgfetch", "chain", "boot":
		return s.image(ctx, name, args)
	}
	return fmt.Errorf("%s: command not found", name)
}

// expand replaces ${name} by the setting; one that is not set is empty.
func (s *Script) expand(w string) string {
	for {
		head, rest, ok := strings.Cut(w, "${")
		if !ok {
			return w
		}
		name, tail, ok := strings.Cut(rest, "}")
		if !ok {
			return w
		}
		name, _, _ = strings.Cut(name, ":")
		w = head + s.Settings[name] + tail
	}
}

func (s *Script) setting(command string, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("%s: too few arguments", command)
	}
	name, _, _ := strings.Cut(args[0], ":") // the type decides only how it is kept
	switch {
	case command == "set":
		s.Settings[name] = strings.Join(args[1:], " ")
	case command == "inc":
		n, err := strconv.Atoi(s.Settings[name])
		if err != nil {
			return err
		}
		s.Settings[name] = strconv.Itoa(n + 1)
	case command == "isset" && args[0] == "":
		return errors.New("it is not set")
	case command == "iseq" && (len(args) != 2 || args[0] != args[1]):
		return errors.New("they differ")
	}
	return nil
}

func (s *Script) jump(args []string) error {
	if len(args) != 1 {
		return errors.New("goto takes a label")
	}
	for i, line := range s.lines {
		if f := strings.Fields(line); len(f) > 0 && f[0] == ":"+args[0] {
			s.at = i
			return errGoto
		}
	}
	return fmt.Errorf("there is no label %s", args[0])
}

// image runs the commands that fetch and start files.
func (s *Script) image(ctx context.Context, command string, args []string) error {
	var name string
	var progress time.Duration
	replace := false
	for len(args) > 0 && strings.HasPrefix(args[0], "--") {
		switch {
		case args[0] == "--replace":
			replace = true
			args = args[1:]
			continue
		case args[0] == "--name" && len(args) > 1:
			name = args[1]
		case args[0] == "--timeout" && len(args) > 1:
			ms, err := strconv.ParseUint(args[1], 10, 32)
			if err != nil {
				return err
			}
			progress = time.Duration(ms) * time.Millisecond
		default:
			return fmt.Errorf("%s: unknown option %s", command, args[0])
		}
		args = args[2:]
	}
	if command == "boot" && len(args) == 0 {
		if s.Selected == nil {
			return errors.New("no image is selected")
		}
		return ErrBoot
	}
	if len(args) == 0 || command == "boot" {
		return fmt.Errorf("%s: what?", command)
	}
	i, err := s.download(ctx, args[0], progress)
	if err != nil {
		return err
	}
	i.Args = strings.Join(args[1:], " ")
	if name != "" {
		i.Name = name
	}
	if command == "chain" {
		if !replace {
			return errors.New("this machine knows only chain --replace")
		}
		s.Screen("runs the script of %s", args[0])
		s.base, err = url.Parse(i.URL)
		if err == nil {
			err = s.load(i.Data)
		}
		if err != nil {
			return err
		}
		return errGoto
	}
	s.Images = append(s.Images, i)
	if command == "kernel" {
		s.Selected = i
	}
	return nil
}

// download fetches a file and notes how that went.
func (s *Script) download(ctx context.Context, raw string, progress time.Duration) (*Image, error) {
	u, err := s.base.Parse(raw)
	if err != nil || u.Scheme != "http" {
		return nil, fmt.Errorf("cannot fetch %q", raw)
	}
	began := time.Now()
	b, err := s.Fetch(ctx, u.String(), progress)
	if err != nil {
		s.Screen("cannot fetch %s after %s: %v", short(u), time.Since(began).Round(time.Millisecond), err)
		return nil, err
	}
	s.Screen("fetched %s from %s, %d bytes in %s", short(u), u.Host, len(b), time.Since(began).Round(time.Millisecond))
	return &Image{Name: u.Path[strings.LastIndexByte(u.Path, '/')+1:], URL: u.String(), Data: b}, nil
}

// short is a path with its digest cut to what people tell apart.
func short(u *url.URL) string {
	p := u.Path
	if i := strings.LastIndexByte(p, '/'); len(p)-i-1 == 64 {
		p = p[:i+13]
	}
	return p
}

// sleep waits, or ends early with the error of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
