package overlay

import (
	"fmt"
	"maps"
	"path"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig/v3"
)

// impure are beginnings of the names of sprig's functions that would make the output depend on anything but the
// data: the environment, the network, the clock, chance, the renderer's operating system. For some there are others, see
// dates.
var impure = []string{
	"env", "expandenv", "getHostByName", "gen", "buildCustomCert", "bcrypt", "htpasswd", "derivePassword", "encryptAES",
	"now", "date", "mustDate", "must_date", "ago", "toDate", "mustToDate", "htmlDate", "rand", "uuidv4", "shuffle",
}

// textFuncs are sprig's functions without the impure ones, and with bounds on those that make as much as they are
// asked for in a single call, where counting steps does not help.
func textFuncs() template.FuncMap {
	all := sprig.TxtFuncMap()
	for name := range all {
		for _, begin := range impure {
			if strings.HasPrefix(name, begin) {
				delete(all, name)
			}
		}
	}
	maps.Copy(all, dates())
	all["repeat"] = func(n int, s string) (string, error) {
		if err := within(n, len(s)); err != nil {
			return "", err
		}
		return strings.Repeat(s, n), nil
	}
	indent := func(n int, s string) (string, error) {
		if err := within(n, 1+strings.Count(s, "\n")); err != nil {
			return "", err
		}
		pad := strings.Repeat(" ", n)
		return pad + strings.ReplaceAll(s, "\n", "\n"+pad), nil
	}
	all["indent"] = indent
	all["nindent"] = func(n int, s string) (string, error) {
		s, err := indent(n, s)
		return "\n" + s, err
	}
	all["untilStep"] = func(start, stop, step int) ([]int, error) {
		if step == 0 || step > 0 && stop <= start || step < 0 && stop >= start {
			return nil, nil
		}
		if err := within((stop-start)/step, 8); err != nil {
			return nil, err
		}
		var list []int
		for i := start; step > 0 && i < stop || step < 0 && i > stop; i += step {
			list = append(list, i)
		}
		return list, nil
	}
	all["until"] = func(n int) ([]int, error) {
		if err := within(max(n, -n), 8); err != nil {
			return nil, err
		}
		list := []int{}
		for i := range max(n, -n) {
			if n < 0 {
				i = -i
			}
			list = append(list, i)
		}
		return list, nil
	}
	bounded(all)
	maps.Copy(all, template.FuncMap{
		"basename": path.Base, "inc": func(i int) int { return i + 1 }, "dec": func(i int) int { return i - 1 },
		"UniqueField": uniqueField, "SystemdEscape": systemdEscape, "SystemdEscapePath": systemdEscapePath,
	})
	return all
}

// within refuses to make n things of size bytes each, if that is more than an output may hold.
func within(n, size int) error {
	if n < 0 || size > 0 && n > MaxOutput/size {
		return fmt.Errorf("%d times %d bytes is more than the %d that it may make", n, size, MaxOutput)
	}
	return nil
}
