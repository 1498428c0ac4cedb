// Package pki is the trust of a cluster: its certificate authority, the identities it certifies, the TLS
// configurations that check them, join tokens, and the keys, tickets and sessions derived from the mesh secret.
//
// # Identities
//
// A certificate carries exactly one identity, the URI wulf://<cluster>/<role>/<name>. Host names and subjects
// mean nothing between the cluster's own programs; declared addresses are added only for foreign clients such as
// curl. Every listener and every dial verifies, in this order: TLS 1.3, a chain to this cluster's CA and to
// nothing else, validity, the key's permitted use, the cluster's name, the role.
//
// # Threats, and what stops each
//
//   - A relay's certificate used on a port for controllers (as in CVE-2021-37219, where any certificate of the
//     right CA was enough for Raft): roles are part of every Access and of every dial; none is implied.
//   - A signing request that asks for another name (GHSA-255v-qv84-29p5): CA.Sign takes nothing from the request
//     but its public key. The subject comes from the caller, who has it from the token or the old certificate.
//   - A man in the middle at first contact: the join token carries the CA's SHA-256 and PinnedTLS accepts only a
//     server whose chain ends in that certificate.
//   - A thief of the catalog or of a log: tokens are stored as hashes; secrets have the type Secret, which prints,
//     logs and encodes as "[redacted]" and must be asked to Reveal.
//   - A thief of a disk image: keys are files of mode 0600; wider ones are refused when read.
//   - A relay that is overrun: it holds the keys of its own networks only (HKDF is one-way), so it can neither
//     forge tickets of other networks nor learn or certify other nodes' SSH host keys nor learn the mesh secret.
//   - A forged, altered or late boot ticket or session: both are MACed under separate keys and expire. Whoever
//     takes tickets must remember their nonces until they expire; the text alone cannot know that it was used.
//   - Resumed sessions that outlive a check: session tickets are off, every connection is verified afresh.
//   - Clocks: certificates begin Skew early and are honoured Skew beyond their end. A machine that lost its clock
//     is told apart by Trust.UnsetClock; all else about the peer is still verified.
//
// What it does not do: revocation is the catalog's matter. Access.Admit asks it at every handshake, and API
// handlers ask it at every request.
//
// Functions take the present instant as an argument; only the TLS callbacks read the clock. Nothing here starts a
// goroutine. Values are safe for concurrent use unless their comment says otherwise.
package pki
