package api

import "time"

// MaxMessages is how many messages about boots and relays may arrive at one controller in a second, however many relays
// there are and however many nodes boot: LingerOf, ReportEvery and SpreadOf keep to it.
const MaxMessages = 500

// LingerOf is how long boot events wait on a relay for others to travel with them, and the pause between two batches to
// one controller, on the average: all relays together send no more than 250 a second.
func LingerOf(relays int) time.Duration {
	return max(200*time.Millisecond, time.Duration(relays)*time.Second/250)
}

// ReportEvery is how often a relay tells each controller how it is: all together not more than 100 times a second.
func ReportEvery(relays int) time.Duration {
	return max(5*time.Second, time.Duration(relays)*time.Second/100)
}

// SpreadOf is within what time all relays tell each controller that they serve a newer catalog, and how long each waits at
// least before it tells of another: no more than 250 a second. Few may tell at once.
func SpreadOf(relays int) time.Duration { return time.Duration(max(0, relays-50)) * time.Second / 200 }

// RelayAlive is how long a relay counts as alive after its last report.
func RelayAlive(relays int) time.Duration { return 4 * ReportEvery(relays) }
