package surroundings

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// parseDhclient reads dhclient.leases(5): leases are appended, so that the
// last of an interface is the one that counts. One that is not complete yet
// is not there, and leases of IPv6 (lease6) are passed over.
func parseDhclient(content []byte, _ time.Time) ([]lease, error) {
	newest := make(map[string]lease)
	var order []string
	s := scanner{rest: string(content)}
	for {
		words, end, err := s.statement()
		if err != nil || end == 0 {
			return inOrder(newest, order), err
		}
		switch {
		case end == ';':
			continue
		case end == '}':
			return nil, errors.New("a } without its {")
		case len(words) != 1 || words[0] != "lease":
			if ok, err := s.skipBlock(); err != nil || !ok {
				return inOrder(newest, order), err
			}
			continue
		}
		name, l, ok, err := s.lease()
		if err != nil {
			return nil, err
		}
		if !ok {
			return inOrder(newest, order), nil
		}
		if !slices.Contains(order, name) {
			order = append(order, name)
		}
		newest[name] = l
	}
}

// inOrder returns those leases that name their server.
func inOrder(newest map[string]lease, order []string) []lease {
	var leases []lease
	for _, name := range order {
		if l := newest[name]; l.server.IsValid() {
			leases = append(leases, l)
		}
	}
	return leases
}

// scanner reads statements of the language that dhclient and dhcpd share.
type scanner struct{ rest string }

// statement returns the words up to the next semicolon or brace, and which of
// them it is; 0 at the end of the file.
func (s *scanner) statement() (words []string, end byte, err error) {
	for {
		s.rest = strings.TrimLeft(s.rest, " \t\r\n")
		if s.rest == "" {
			return words, 0, nil
		}
		switch c := s.rest[0]; c {
		case ';', '{', '}':
			s.rest = s.rest[1:]
			return words, c, nil
		case '#':
			_, s.rest, _ = strings.Cut(s.rest, "\n")
		case '"':
			word, err := s.quoted()
			if err != nil {
				return nil, 0, err
			}
			words = append(words, word)
		default:
			n := strings.IndexAny(s.rest, " \t\r\n;{}#\"")
			if n < 0 {
				n = len(s.rest)
			}
			words = append(words, s.rest[:n])
			s.rest = s.rest[n:]
		}
	}
}

// quoted reads a string. Escapes stay as they are: no value that counts here
// has one, and an escaped quote does not end the string.
func (s *scanner) quoted() (string, error) {
	for i := 1; i < len(s.rest); i++ {
		switch s.rest[i] {
		case '\\':
			i++
		case '"':
			word := s.rest[1:i]
			s.rest = s.rest[i+1:]
			return word, nil
		}
	}
	return "", errors.New("a string without its end")
}

// skipBlock reads to the brace that closes the one before; ok is false if the
// file ends first.
func (s *scanner) skipBlock() (ok bool, err error) {
	for depth := 1; depth > 0; {
		_, end, err := s.statement()
		switch {
		case err != nil || end == 0:
			return false, err
		case end == '{':
			depth++
		case end == '}':
			depth--
		}
	}
	return true, nil
}

// lease reads what is in the braces of one; ok is false if the file ends
// first.
func (s *scanner) lease() (ifname string, l lease, ok bool, err error) {
	for {
		words, end, err := s.statement()
		switch {
		case err != nil || end == 0:
			return "", lease{}, false, err
		case end == '}':
			return ifname, l, true, nil
		case end == '{':
			if ok, err := s.skipBlock(); err != nil || !ok {
				return "", lease{}, false, err
			}
			continue
		}
		switch {
		case len(words) == 2 && words[0] == "interface":
			ifname = words[1]
		case len(words) == 3 && words[0] == "option" && words[1] == "dhcp-server-identifier":
			l.server, err = parseServer(words[2])
		case len(words) > 0 && words[0] == "expire":
			l.expiry, err = parseExpire(words[1:])
		}
		if err != nil {
			return "", lease{}, false, fmt.Errorf("%s: %w", strings.Join(words, " "), err)
		}
	}
}

// parseExpire reads one of: never; epoch SECONDS; WEEKDAY YEAR/MONTH/DAY
// HOUR:MINUTE:SECOND, in UTC.
func parseExpire(words []string) (time.Time, error) {
	switch {
	case len(words) == 1 && words[0] == "never":
		return time.Time{}, nil
	case len(words) == 2 && words[0] == "epoch":
		return parseEpoch(words[1])
	case len(words) == 3:
		return time.Parse("2006/1/2 15:04:05", words[1]+" "+words[2])
	}
	return time.Time{}, errors.New("not a time")
}
