package surroundings

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// Why a name has no addresses, by the word of its servers.
var (
	ErrNoSuchName = errors.New("no such name")            // NXDOMAIN (RFC 1035 section 4.1.1)
	ErrNoAddress  = errors.New("the name has no address") // it has other records, or none of a unicast address
)

// Why an answer is not one.
var (
	errForeign   = errors.New("not an answer to this question")
	errTruncated = errors.New("the answer is truncated")          // ask by TCP (RFC 7766)
	errCase      = errors.New("the question came back respelled") // forged or mangled: ask by TCP
)

// maxAliases bounds a chain of CNAME records.
const maxAliases = 16

// question is one question as it is put: to one server, once.
type question struct {
	id   uint16
	name dnsmessage.Name // its letters in random case
	kind dnsmessage.Type // A or AAAA
}

// newQuestion puts a question about an absolute name. Random has as many
// bytes as the name and three more. An off-path attacker has to guess the
// identifier (RFC 5452), and the case of every letter besides
// (draft-vixie-dnsext-dns0x20).
func newQuestion(name string, kind dnsmessage.Type, random []byte) (question, error) {
	spelled := []byte(canonical(name) + ".")
	for i, c := range spelled {
		if 'a' <= c && c <= 'z' && random[2+i]&1 != 0 {
			spelled[i] = c - ('a' - 'A')
		}
	}
	n, err := dnsmessage.NewName(string(spelled))
	return question{id: uint16(random[0])<<8 | uint16(random[1]), name: n, kind: kind}, err
}

// pack writes the question as a message that asks for recursion.
func (q question) pack() ([]byte, error) {
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: q.id, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: q.name, Type: q.kind, Class: dnsmessage.ClassINET}},
	}
	return m.Pack()
}

// answer is what is known about the addresses of one family.
type answer struct {
	addrs []netip.Addr
	ttl   time.Duration // smallest of all records on the way; a day where no record says
	err   error         // then there is no answer
}

// parse reads an answer to q. By UDP its spelling must be ours, and what is
// not meant for q at all is errForeign: the right answer may still come. The
// error of a name that does not exist is ErrNoSuchName.
func (q question) parse(msg []byte, byTCP bool) (answer, error) {
	var p dnsmessage.Parser
	h, err := p.Start(msg)
	if err != nil || h.ID != q.id || !h.Response || h.OpCode != 0 {
		return answer{}, errForeign
	}
	asked, err := p.Question()
	if err != nil || asked.Type != q.kind || asked.Class != dnsmessage.ClassINET ||
		canonical(asked.Name.String()) != canonical(q.name.String()) {
		return answer{}, errForeign
	}
	if _, err := p.Question(); err != dnsmessage.ErrSectionDone {
		return answer{}, errForeign
	}
	switch {
	case !byTCP && asked.Name.String() != q.name.String():
		return answer{}, errCase
	case h.Truncated:
		return answer{}, errTruncated
	case h.RCode == dnsmessage.RCodeNameError:
		return answer{}, ErrNoSuchName
	case h.RCode != dnsmessage.RCodeSuccess:
		return answer{}, fmt.Errorf("the server answers %v", h.RCode)
	}
	return q.records(&p)
}

// records follows the aliases of the name in the answer section to its
// addresses. An answer without any is valid.
func (q question) records(p *dnsmessage.Parser) (answer, error) {
	type alias struct {
		to  string
		ttl time.Duration
	}
	aliases := make(map[string]alias)
	found := make(map[string][]netip.Addr)
	ttls := make(map[string]time.Duration)
	for {
		h, err := p.AnswerHeader()
		if err == dnsmessage.ErrSectionDone {
			break
		}
		if err != nil {
			return answer{}, fmt.Errorf("the answer is malformed: %w", err)
		}
		owner, ttl := canonical(h.Name.String()), seconds(h.TTL)
		var a netip.Addr
		switch {
		case h.Class == dnsmessage.ClassINET && h.Type == dnsmessage.TypeCNAME:
			var r dnsmessage.CNAMEResource
			if r, err = p.CNAMEResource(); err == nil {
				aliases[owner] = alias{canonical(r.CNAME.String()), ttl}
			}
		case h.Class == dnsmessage.ClassINET && h.Type == q.kind && q.kind == dnsmessage.TypeA:
			var r dnsmessage.AResource
			r, err = p.AResource()
			a = netip.AddrFrom4(r.A)
		case h.Class == dnsmessage.ClassINET && h.Type == q.kind && q.kind == dnsmessage.TypeAAAA:
			var r dnsmessage.AAAAResource
			r, err = p.AAAAResource()
			a = netip.AddrFrom16(r.AAAA)
		default:
			err = p.SkipAnswer()
		}
		if err != nil {
			return answer{}, fmt.Errorf("the answer is malformed: %w", err)
		}
		if a.IsValid() {
			if least, ok := ttls[owner]; !ok || ttl < least {
				ttls[owner] = ttl
			}
			found[owner] = append(found[owner], a)
		}
	}

	got := answer{ttl: 24 * time.Hour}
	owner := canonical(q.name.String())
	for range maxAliases {
		if addrs := found[owner]; addrs != nil {
			got.ttl = min(got.ttl, ttls[owner])
			got.addrs = set(addrs)
			return got, nil
		}
		next, ok := aliases[owner]
		if !ok {
			return got, nil
		}
		got.ttl = min(got.ttl, next.ttl)
		owner = next.to
	}
	return answer{}, fmt.Errorf("the answer has more than %d aliases", maxAliases)
}

// seconds is a TTL; one with its first bit set is none (RFC 2181 section 8).
func seconds(ttl uint32) time.Duration {
	if ttl > 1<<31-1 {
		return 0
	}
	return time.Duration(ttl) * time.Second
}
