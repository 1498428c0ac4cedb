// Package disks says what lies on a disk, and what is to be done so that it holds what is declared: partitions, file
// systems, swap. It reads through an io.ReaderAt and writes nothing: whoever has the disk does what a plan says.
//
// A plan destroys nothing without a declared permission. What nobody knows is taken for somebody's data; free is
// only what a table calls so, and what was never written.
package disks
