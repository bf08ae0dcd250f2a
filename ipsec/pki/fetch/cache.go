package fetch

import (
	"container/list"
	"time"
)

// entry is the outcome of a request.
type entry struct {
	key   string
	value any
	err   error
	size  int       // of what the value was made of, in bytes
	fresh time.Time // when it is to be asked for again
	until time.Time // when it is of no use any more
}

// cache keeps the entries that were used last, within bounds. It is not safe
// for concurrent use.
type cache struct {
	entries, bytes int        // the most
	size           int        // bytes of all
	order          *list.List // of *entry, the last used first
	byKey          map[string]*list.Element
}

func newCache(entries, bytes int) *cache {
	return &cache{entries: entries, bytes: bytes, order: list.New(), byKey: make(map[string]*list.Element)}
}

// get returns an entry, which may be of no use any more, or nil.
func (c *cache) get(key string) *entry {
	el, ok := c.byKey[key]
	if !ok {
		return nil
	}
	c.order.MoveToFront(el)
	return el.Value.(*entry)
}

// put adds or replaces an entry and makes room for it.
func (c *cache) put(e *entry) {
	if el, ok := c.byKey[e.key]; ok {
		c.remove(el)
	}
	c.byKey[e.key] = c.order.PushFront(e)
	c.size += e.cost()
	for len(c.byKey) > c.entries || c.size > c.bytes {
		c.remove(c.order.Back())
	}
}

func (c *cache) remove(el *list.Element) {
	e := c.order.Remove(el).(*entry)
	delete(c.byKey, e.key)
	c.size -= e.cost()
}

func (e *entry) cost() int { return e.size + len(e.key) }
