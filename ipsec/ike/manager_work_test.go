package ike

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// worker is a machine that is told of Work that is done.
type worker struct {
	closer
	done []any
}

func (w *worker) Handle(now time.Time, ev Event) ([]Effect, error) {
	if d, ok := ev.(Done); ok {
		w.done = append(w.done, d.Result)
	}
	return w.closer.Handle(now, ev)
}

// worker makes an entry whose machine is a worker. A stranger has begun
// itself.
func (f *flooded) worker(i int, stranger bool) (*entry, *worker) {
	w := &worker{}
	e := f.newEntry(here, peer(i), Policy{})
	e.machine = w
	if stranger {
		e.init = initKey{netip.AddrPortFrom(peer(i), 500), uint64(i + 1)}
	}
	f.Manager.count(e, 1)
	return e, w
}

// settle lets all works come to their ends.
func (f *flooded) settle() {
	synctest.Wait()
	f.empty()
	synctest.Wait()
	f.empty()
}

func TestManagerWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFlooded()
		release, running := make(chan struct{}), 0
		slow := func(ctx context.Context) any {
			select {
			case <-release:
				return "done"
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		// Strangers ask for much: each gets four, all of them a part.
		var strangers []*worker
		for i := range 200 {
			e, w := f.worker(i, true)
			strangers = append(strangers, w)
			for id := range 10 {
				f.work(e, Work{ID: uint64(id), Do: slow})
			}
		}
		if f.works.busy != maxForeign || len(f.works.foreign) != maxForeign {
			t.Errorf("%d workers for strangers, want %d", f.works.busy, maxForeign)
		}
		// Others still get workers, at once.
		var own []*worker
		for i := range 20 {
			e, w := f.worker(1000+i, false)
			own = append(own, w)
			f.work(e, Work{ID: 1, Do: slow})
		}
		if f.works.busy != maxWorkers {
			t.Errorf("%d workers, want %d", f.works.busy, maxWorkers)
		}
		running = len(f.works.known) + len(f.works.unproven) + f.works.busy
		if want := 20 + maxForeign + maxWaiting; running != want {
			t.Errorf("%d works under way or waiting, want %d", running, want)
		}
		close(release)
		for len(f.works.known)+len(f.works.unproven)+f.works.busy > 0 {
			f.settle()
		}
		done, dropped := 0, 0
		for _, w := range append(strangers, own...) {
			for _, r := range w.done {
				switch err, _ := r.(error); {
				case r == "done":
					done++
				case errors.Is(err, ErrDropped) && errors.Is(err, ErrBusy):
					dropped++
				default:
					t.Fatalf("result %v", r)
				}
			}
		}
		if done != running || done+dropped != 2020 {
			t.Errorf("%d done and %d dropped, want %d and the rest of 2020", done, dropped, running)
		}
		if f.works.busy+len(f.works.foreign) != 0 {
			t.Errorf("workers that never rest: %+v", f.works)
		}
		for e := range f.entries {
			if e.cancel != nil || e.works != 0 {
				t.Fatal("an entry keeps what its works needed")
			}
		}
	})
}

// A stranger has one worker at a time, however many IKE SAs it begins, and
// others need not wait for it.
func TestManagerWorkOfOnePeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFlooded()
		release := make(chan struct{})
		running, most, order := 0, 0, []int{}
		slow := func(peer int) func(context.Context) any {
			return func(context.Context) any {
				if peer == 1 {
					running++
					most = max(most, running)
				}
				order = append(order, peer)
				<-release
				if peer == 1 {
					running--
				}
				return nil
			}
		}
		for range 3 {
			e, _ := f.worker(1, true)
			for id := range maxOfForeign {
				f.work(e, Work{ID: uint64(id), Do: slow(1)})
			}
		}
		synctest.Wait()
		e, _ := f.worker(2, true)
		f.work(e, Work{ID: 1, Do: slow(2)})
		synctest.Wait()
		if !slices.Equal(order, []int{1, 2}) {
			t.Errorf("begun for the peers %v, want one for each of 1 and 2", order)
		}
		close(release)
		for f.works.busy > 0 {
			f.settle()
		}
		if len(order) != 3*maxOfForeign+1 || most != 1 {
			t.Errorf("%d done, %d of one peer at a time", len(order), most)
		}
	})
}

// What is done for an IKE SA ends with it, and its machine hears no more of it.
func TestManagerWorkEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFlooded()
		e, w := f.worker(1, false)
		ended := 0
		wait := func(ctx context.Context) any {
			<-ctx.Done()
			ended++
			return nil
		}
		f.work(e, Work{ID: 1, Do: wait})
		f.close(e, Close{Reason: "over"})
		f.settle()
		if ended != 1 || len(w.done) != 0 || f.works.busy != 0 || len(f.entries) != 0 {
			t.Errorf("ended %d, heard %v, busy %d", ended, w.done, f.works.busy)
		}
	})
}
