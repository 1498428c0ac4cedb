// Package storm has the boot storms of real programs: controllers, relays and `wulf storm`, each in a network namespace of
// its own, on one computer. Sizes come from the environment; without any they are small. It needs root and the build tag
// e2e: make storm.
package storm
