package journal

import (
	"strings"
	"testing"
)

func TestMessagesThatDifferInNumbersAddressesAndDigestsAreOne(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "no space left on device": "no space left on device",
		"connection to 10.1.0.17:4481 was reset after 1337 bytes":                                   "connection to # was reset after # bytes",
		"chunk 62c66a7a5dd70c3146618063c344e531e6d4b59e379808443ce962b3abd63c5a is corrupt":         "chunk # is corrupt",
		"lease of 52:54:00:00:00:01, fe80::5054:ff:fe00:1 and 18dd6f5e-3cb4-4c35-9a51-6d3a1a8ba0e2": "lease of #, # and #",
		"relay r117 and node r003n07: exit status 7":                                                "relay r# and node r#n#: exit status #",
		"wulf-agent: /dev/sda1: bad face, dead beef at 0x7fff":                                      "wulf-agent: /dev/sda#: bad face, dead beef at #x#fff",
		"No space left on device (ipxe.org/34182006)":                                               "No space left on device (ipxe.org/#)",
		"bitte 3 Äpfel": "bitte # Äpfel",
	} {
		if got := masked(text); got != want {
			t.Errorf("%q\nis  %q\nnot %q", text, got, want)
		}
	}
}

// Messages come from nodes: whatever they say, what stands for them is no longer, has no digits, and stands for itself.
func FuzzMasked(f *testing.F) {
	f.Add("connection to 10.1.0.17:4481 was reset")
	f.Add("-:.0:-")
	f.Fuzz(func(t *testing.T, text string) {
		got := masked(text)
		if len(got) > len(text) || strings.ContainsAny(got, "0123456789") || masked(got) != got {
			t.Errorf("%q becomes %q", text, got)
		}
	})
}
