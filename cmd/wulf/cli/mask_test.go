package cli_test

import "regexp"

// mask replaces what differs from run to run, so that the rest can be compared.
func mask(s string) string {
	for _, m := range []struct{ pattern, with string }{
		{`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`, "TIME"},
		{`\b[0-9a-f]{64}\b`, "DIGEST"},
		{`\b[0-9a-f]{12}\b`, "ID"},
		{`ssh-ed25519 \S+`, "ssh-ed25519 KEY"},
		{`127\.0\.0\.1:\d+`, "ADDRESS"},
		{`[0-9hms.]+ ago`, "AGO"},
		{`("?revision"?:?\s+)\d+`, "${1}N"},
	} {
		s = regexp.MustCompile(m.pattern).ReplaceAllString(s, m.with)
	}
	return s
}
