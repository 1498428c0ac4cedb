package journal

// Rewrite writes the file anew, as happens when it has grown large.
func (j *Journal) Rewrite() error { return j.rewrite() }
