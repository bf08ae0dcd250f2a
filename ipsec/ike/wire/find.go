package wire

// Find returns the first payload of a kind, as in Find[*KE](ps). Use FindID
// and FindTS for the kinds that stand for two types.
func Find[T Payload](ps []Payload) (T, bool) {
	return find(ps, func(T) bool { return true })
}

// FindNotify returns the first Notify payload of a type.
func FindNotify(ps []Payload, t NotifyType) (*Notify, bool) {
	return find(ps, func(n *Notify) bool { return n.Kind == t })
}

// FindID returns the first IDr when responder is true, else the first IDi.
func FindID(ps []Payload, responder bool) (*ID, bool) {
	return find(ps, func(i *ID) bool { return i.Responder == responder })
}

// FindTS returns the first TSr when responder is true, else the first TSi.
func FindTS(ps []Payload, responder bool) (*TS, bool) {
	return find(ps, func(t *TS) bool { return t.Responder == responder })
}

func find[T Payload](ps []Payload, match func(T) bool) (T, bool) {
	for _, p := range ps {
		if t, ok := p.(T); ok && match(t) {
			return t, true
		}
	}
	var none T
	return none, false
}
