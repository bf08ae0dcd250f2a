package rules

import (
	"fmt"
	"strings"
)

// didYouMean returns a hint for an unknown word: the known word that it was
// probably meant to be, or else what the choice is.
func didYouMean(word string, known []string, otherwise string) string {
	if n := nearest(word, known); n != "" {
		return fmt.Sprintf("did you mean %q?", n)
	}
	return otherwise
}

// nearest returns the known word that is the fewest slips of the pen away
// from word, or "" when none is near.
func nearest(word string, known []string) string {
	best, limit := "", min(2, len(word)/2)
	lower := strings.ToLower(word)
	for _, k := range known {
		if d := distance(lower, strings.ToLower(k)); d <= limit {
			best, limit = k, d-1
		}
	}
	return best
}

// distance counts the slips that turn a into b: a letter left out, added,
// changed, or exchanged with its neighbour. Words of very different lengths
// are not compared letter by letter.
func distance(a, b string) int {
	if d := len(a) - len(b); d > 2 || d < -2 {
		return max(len(a), len(b))
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			changed := last[j-1]
			if a[i-1] != b[j-1] {
				changed++
			}
			row[j] = min(last[j]+1, row[j-1]+1, changed)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}

// article puts "a" or "an" before words.
func article(words string) string {
	if strings.ContainsRune("aeiou", rune(words[0])) {
		return "an " + words
	}
	return "a " + words
}

// oneOf writes words as a choice: `"a", "b" or "c"`.
func oneOf(words []string) string { return join(words, "or") }

// allOf writes words as a list: `"a", "b" and "c"`.
func allOf(words []string) string { return join(words, "and") }

func join(words []string, last string) string {
	var b strings.Builder
	for i, w := range words {
		switch {
		case i > 0 && i == len(words)-1:
			b.WriteString(" " + last + " ")
		case i > 0:
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%q", w)
	}
	return b.String()
}
