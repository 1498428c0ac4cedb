// Package guard is what servers have in common that whoever is on a link may ask, as DHCP's and DHCPv6's: who asks too often
// is dropped (Limiter), what is remembered of machines has a bound (Recent), the same is not told of one again and again
// (Teller), and a person is told what goes wrong for as long as it does (Trouble).
//
// All of it may be used by any number of goroutines, and none of it blocks.
package guard
