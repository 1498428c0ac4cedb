package cli

import (
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/wulfmesh/wulfmesh/pkg/durable"
	"github.com/wulfmesh/wulfmesh/pkg/fault"
)

// docs is for those who make packages: it needs no controller, and help does not show it.
func (p *program) docs() *cli.Command {
	c := noun("docs", "write the manual",
		verb{
			name: "man", usage: "write the manual pages into DIR/man1, DIR/man5 and DIR/man7", args: "DIR", least: 1, most: 1,
			about:    "The pages bear the day of SOURCE_DATE_EPOCH, or none, so that the same sources give the same pages.",
			examples: []string{"wulf docs man ./man", "SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) wulf docs man ./man"}, run: p.docsMan,
		},
		verb{
			name: "markdown", usage: "print the manual as one Markdown document", examples: []string{"wulf docs markdown > manual.md"},
			run: func(*cli.Context) error {
				_, err := io.WriteString(p.out, markdown(p.manual()))
				return err
			},
		},
	)
	c.Hidden = true
	return c
}

func (p *program) docsMan(c *cli.Context) error {
	date, err := p.sourceDate()
	if err != nil {
		return err
	}
	pages := p.manual()
	for _, pg := range pages {
		dir := filepath.Join(c.Args().First(), fmt.Sprintf("man%d", pg.section))
		if err := durable.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		file := filepath.Join(dir, fmt.Sprintf("%s.%d", pg.name, pg.section))
		if err := durable.WriteFile(file, []byte(pg.roff(date, p.env.Version)), 0o644); err != nil {
			return err
		}
	}
	fmt.Fprintf(p.err, "%d pages in %s\n", len(pages), c.Args().First())
	return nil
}

// sourceDate is the day of the sources, as those who build packages reproducibly tell it
// (https://reproducible-builds.org/specs/source-date-epoch/).
func (p *program) sourceDate() (string, error) {
	s := p.env.Getenv("SOURCE_DATE_EPOCH")
	if s == "" {
		return "", nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return "", fault.New(fault.Invalid, "SOURCE_DATE_EPOCH=%s is not a number of seconds", s)
	}
	return time.Unix(n, 0).UTC().Format(time.DateOnly), nil
}
