// Package e2e tests the product with real processes, real networks and real firmware: its tests build a machine room
// with test/rig and boot QEMU machines in it. They are compiled with the build tag e2e, need root and QEMU, and say
// loudly when they cannot run; make e2e runs them.
package e2e
