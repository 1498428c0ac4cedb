// Package bench measures the real programs with a large cluster's declared state: three controllers and two relays on
// this machine's loopback, told what to do through the command line alone, as an operator would. Its tests are compiled
// with the build tag bench; make bench-scale runs them, and make bench-image the one that builds images beside cpio and
// zstd. They print figures beside what is promised, and the machine they were measured on, and fail only where something
// does not work: whether a figure is good enough depends on the machine.
package bench
