package ike

import (
	"container/heap"
	"time"
)

// clock knows which machine wants the next Tick.
type clock struct{ alarms alarms }

// alarm is an entry's place in the clock.
type alarm struct {
	at    time.Time
	index int // in the heap, plus one; 0 for none
}

// alarms is a heap of entries, the earliest first.
type alarms []*entry

func (a alarms) Len() int           { return len(a) }
func (a alarms) Less(i, j int) bool { return a[i].alarm.at.Before(a[j].alarm.at) }
func (a alarms) Swap(i, j int) {
	a[i], a[j] = a[j], a[i]
	a[i].alarm.index, a[j].alarm.index = i+1, j+1
}

// Push implements heap.Interface.
func (a *alarms) Push(x any) {
	e := x.(*entry)
	*a = append(*a, e)
	e.alarm.index = len(*a)
}

// Pop implements heap.Interface.
func (a *alarms) Pop() any {
	last := len(*a) - 1
	e := (*a)[last]
	(*a)[last] = nil
	*a = (*a)[:last]
	e.alarm.index = 0
	return e
}

// set takes over the deadline of an entry's machine, or that of its renewal.
func (c *clock) set(e *entry) {
	at, ok := e.machine.Deadline()
	if next, renewed := e.renewal.deadline(); renewed && !e.closing && (!ok || next.Before(at)) {
		at, ok = next, true
	}
	switch {
	case !ok:
		c.drop(e)
	case e.alarm.index == 0:
		e.alarm.at = at
		heap.Push(&c.alarms, e)
	default:
		e.alarm.at = at
		heap.Fix(&c.alarms, e.alarm.index-1)
	}
}

func (c *clock) drop(e *entry) {
	if e.alarm.index != 0 {
		heap.Remove(&c.alarms, e.alarm.index-1)
	}
}

// due returns an entry whose deadline has passed and takes it out, or nil.
func (c *clock) due(now time.Time) *entry {
	if len(c.alarms) == 0 || c.alarms[0].alarm.at.After(now) {
		return nil
	}
	return heap.Pop(&c.alarms).(*entry)
}

// wait returns the time until the next deadline.
func (c *clock) wait(now time.Time) time.Duration {
	if len(c.alarms) == 0 {
		return time.Hour
	}
	return max(0, c.alarms[0].alarm.at.Sub(now))
}
