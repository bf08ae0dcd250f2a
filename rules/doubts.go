package rules

import (
	"fmt"
	"slices"
	"time"
)

// With shorter lifetimes than these hosts do little but negotiate.
const (
	shortLifetime = time.Minute
	shortReauth   = 5 * time.Minute
)

// Doubtful returns what a file says for the key exchange and of lifetimes that
// is hardly meant, in the order of the file. Rules that are not enabled count
// too.
func (f *File) Doubtful() []Warning {
	var out doubts
	k := &f.KeyExchange
	out.exchange(&k.Exchange, "", k.places)
	out.short(k.Lifetime, shortLifetime, k.places["lifetime"], "lifetime", "IKE SAs get new keys", "8h")
	for i := range f.Actions {
		a := &f.Actions[i]
		out.short(a.Negotiate.Lifetime, shortLifetime, a.places["negotiate/lifetime"], "lifetime", "SAs get new keys", "1h")
		for j, m := range a.Negotiate.Methods {
			out.short(m.Lifetime, shortLifetime, a.places[fmt.Sprintf("negotiate/methods/%d/lifetime", j)], "lifetime", "SAs get new keys", "1h")
		}
	}
	for i := range f.Rules {
		out.exchange(&f.Rules[i].Exchange, "key-exchange/", f.Rules[i].places)
	}
	if f.Response != nil {
		out.exchange(&f.Response.Exchange, "key-exchange/", f.Response.places)
	}
	return out.warnings(f.Path)
}

// doubt is a Warning that has a place in a file.
type doubt struct {
	at         Position
	text, hint string
}

type doubts []doubt

// exchange looks at what one place says of the key exchange.
func (d *doubts) exchange(x *Exchange, within string, places map[string]Position) {
	if x.Suite != "" && x.Proposals != nil {
		*d = append(*d, doubt{places[within+"suite"],
			fmt.Sprintf("suite %q beside %q promises nothing for IKE, which uses the proposals alone: it gives the methods of actions that name none", x.Suite, "proposals"),
			`remove "proposals" for the whole suite, or "suite", and write methods in the actions`})
	}
	d.short(x.Reauth, shortReauth, places[within+"reauthentication"], "reauthentication", "both ends authenticate anew", "24h")
}

// short warns of a time that is set and shorter than another.
func (d *doubts) short(t, least time.Duration, at Position, key, what, write string) {
	if t > 0 && t < least && at != (Position{}) {
		*d = append(*d, doubt{at, fmt.Sprintf("%s %s is very short: %s all the time", key, printDuration(t), what),
			fmt.Sprintf("write %s or more, as in %s: %s", printDuration(least), key, write)})
	}
}

// warnings returns the doubts in the order of the file.
func (d doubts) warnings(path string) []Warning {
	slices.SortStableFunc(d, func(a, b doubt) int { return a.at.compare(b.at) })
	at := placeIn(path)
	out := make([]Warning, len(d))
	for i, x := range d {
		out[i] = Warning{at.at(x.at), x.text, x.hint}
	}
	return out
}
