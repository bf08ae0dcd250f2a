//go:build race

package esp

// raceEnabled says whether the tests run under the race detector.
const raceEnabled = true
