package cli

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// The documentation names every command and every exit code, and none that is not there.
func TestTheDocumentationNamesEveryCommand(t *testing.T) {
	b, err := os.ReadFile("../../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(b)
	for _, noun := range testProgram().tree().Commands {
		if noun.Hidden {
			continue
		}
		if len(noun.Subcommands) == 0 {
			if !strings.Contains(doc, "`"+noun.Name+"`") {
				t.Errorf("%s is not documented", noun.Name)
			}
			continue
		}
		row := fmt.Sprintf("| `%s` |", noun.Name)
		for _, verb := range noun.Subcommands {
			row += " `" + verb.Name + "`"
		}
		if !strings.Contains(doc, row+" |\n") {
			t.Errorf("this line is missing: %s |", row)
		}
	}
	for code := exitOK; code <= exitDenied; code++ {
		if !strings.Contains(doc, fmt.Sprintf("\n| %d | ", code)) {
			t.Errorf("exit code %d is not documented", code)
		}
	}
}
