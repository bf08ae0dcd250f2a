//go:build race

package ah

// raceEnabled says whether the tests run under the race detector.
const raceEnabled = true
