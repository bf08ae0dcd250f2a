//go:build !race

package xform

// raceEnabled says whether the tests run under the race detector.
const raceEnabled = false
