package cli

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// isTerminal tells whether somebody sits at the other end.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	if !ok || f == nil {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// width is how many columns a terminal has; 0 if the stream is none or does not say.
func width(stream any) int { return int(windowSize(stream).Col) }

// height is how many lines it has; 0 if the stream is none or does not say.
func height(stream any) int { return int(windowSize(stream).Row) }

func windowSize(stream any) unix.Winsize {
	f, ok := stream.(*os.File)
	if !ok || f == nil {
		return unix.Winsize{}
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return unix.Winsize{}
	}
	return *size
}

// isJournal tells whether what is written to the stream goes to systemd's journal: the environment names its device
// and inode, and is also inherited by those whose output goes elsewhere (systemd.exec(5), JOURNAL_STREAM).
func isJournal(stream any, env string) bool {
	f, ok := stream.(*os.File)
	if !ok || f == nil || env == "" {
		return false
	}
	var st unix.Stat_t
	return unix.Fstat(int(f.Fd()), &st) == nil && fmt.Sprintf("%d:%d", st.Dev, st.Ino) == env
}
