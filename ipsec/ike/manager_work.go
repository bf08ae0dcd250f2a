package ike

import "context"

// work does what takes long on a goroutine of its own, and brings the machine
// the result.
func (m *Manager) work(e *entry, w Work) {
	ctx, cancel := context.WithCancel(context.Background())
	e.onClosed = append(e.onClosed, cancel)
	go func() {
		result := w.Do(ctx)
		m.inbox.putCall(func() {
			if _, alive := m.entries[e]; alive {
				m.feed(e, Done{ID: w.ID, Result: result})
			}
		})
	}()
}
