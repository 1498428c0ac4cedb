package cli

import (
	"slices"
	"strings"
	"testing"
)

func TestTextsAreShownByWhatDiffers(t *testing.T) {
	long := strings.Repeat("x", 500)
	for _, c := range []struct {
		name, a, b string
		most       int
		want       []string
	}{
		{"a line among others", "1\n2\n3\n4\n5\n6\n", "1\n2\n3\nfour\n5\n6\n", 9, []string{" 2", " 3", "-4", "+four", " 5", " 6"}},
		{"one more", "a\nb\n", "a\nnew\nb\n", 9, []string{" a", "+new", " b"}},
		{"something common between", "a\nc\nb\n", "x\nc\ny\n", 9, []string{"-a", "+x", " c", "-b", "+y"}},
		{"no line end", "a\n", "a", 9, []string{"-a", "+a (without a line end)"}},
		{"nothing before", "", "a\n", 9, []string{"+a"}},
		{"more than is asked for", "1\n2\n3\n4\n", "a\nb\nc\nd\n", 3, []string{"-1", "-2", "-3", "… 5 more"}},
		{"no text", "a\x00", "b", 9, []string{"not text: 2 bytes, 1 bytes"}},
		{"a long line", long, "", 9, []string{"-" + long[:160] + "…"}},
	} {
		if got := unified([]byte(c.a), []byte(c.b), c.most); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestLargeTextsAreShownWithoutLookingForWhatIsCommon(t *testing.T) {
	a, b := strings.Repeat("a\nb\n", 10_000), strings.Repeat("c\nb\nd\n", 10_000)
	if got := unified([]byte(a), []byte("x\n"+b+"y\n"), 5); len(got) != 6 || got[0] != "-a" {
		t.Errorf("it is %q", got)
	}
}
