// Package bench measures the real programs with a large cluster's declared state: three controllers and two relays on
// this machine's loopback, told what to do through the command line alone, as an operator would. Its tests are compiled
// with the build tag bench; make bench-scale runs them, make bench-image the one that builds images beside cpio and
// zstd, make bench-http the one that sends them beside nginx, make bench-overload the one with too many nodes, and
// make bench-dhcp, bench-tftp, bench-fill and bench-hostile what their names say. They print figures beside what is
// promised, and the machine they were measured on, and fail only where something does not work: whether a figure is good
// enough depends on the machine.
package bench
