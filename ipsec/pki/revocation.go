package pki

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Revocation is a policy about certificates that their issuers may have taken
// back.
type Revocation uint8

// The policies. The zero value is IfPresent.
const (
	IfPresent Revocation = iota // refuse what is known to be revoked, and take what nothing can be learnt of
	Strict                      // refuse what is not known to be good
	Off                         // ask nobody
)

// String returns the rule file's keyword.
func (r Revocation) String() string {
	switch r {
	case IfPresent:
		return "if-present"
	case Strict:
		return "strict"
	case Off:
		return "off"
	}
	return fmt.Sprintf("revocation %d", uint8(r))
}

// Covers reports whether what satisfied one policy satisfies the other too.
func (r Revocation) Covers(want Revocation) bool {
	return want == Off || r == Strict || r == want
}

// status is what is known about a certificate's revocation.
type status uint8

const (
	unknown status = iota
	good
	revoked
)

// finding is a status, with who says so or why it is not known.
type finding struct {
	status status
	why    error
}

// maxChains bounds the chains of which revocation is asked.
const maxChains = 4

// unrevoked returns the first chain that satisfies the revocation policy.
func (v *Verifier) unrevoked(ctx context.Context, chains [][]*x509.Certificate, ev Evidence, now time.Time) (Verified, error) {
	if v.Revocation == Off {
		return Verified{Chain: chains[0], Until: until(chains[0]), Revocation: Off}, nil
	}
	crls := append(parseCRLs(ev.CRLs), v.CRLs...)
	var found *Verified
	var refused error
	for _, chain := range chains[:min(len(chains), maxChains)] {
		level, unchecked, err := v.checkChain(ctx, chain, crls, ev.OCSP, now)
		var e *CertificateError
		switch {
		case err == nil && found == nil:
			found = &Verified{Chain: chain, Until: until(chain), Revocation: level, Unchecked: unchecked}
		case err == nil:
		case errors.As(err, &e) && e.Reason == Revoked && e.Serial == Serial(chain[0]):
			return Verified{}, err // however many other chains the peer has brought
		case refused == nil:
			refused = err
		}
	}
	if found == nil {
		return Verified{}, refused
	}
	return *found, nil
}

// checkChain asks about all certificates of a chain but the authority, whose
// revocation nobody could attest, at the same time. What is unchecked is for
// Verified.
func (v *Verifier) checkChain(ctx context.Context, chain []*x509.Certificate, crls []*CRL, staples [][]byte, now time.Time) (level Revocation, unchecked, err error) {
	findings := make([]finding, len(chain)-1)
	var asked sync.WaitGroup
	for i := range findings {
		asked.Go(func() {
			q := question{cert: chain[i], issuer: chain[i+1], now: now}
			if findings[i] = q.askWhatCame(crls, staples); findings[i].status == unknown && v.Fetcher != nil {
				findings[i] = q.askOthers(ctx, v.Fetcher, findings[i].why)
			}
		})
	}
	asked.Wait()
	level = Strict
	var all []error
	for i, f := range findings {
		switch {
		case f.status == revoked:
			return 0, nil, newError(chain[i], Revoked, now, f.why, "")
		case f.status == unknown && v.Revocation == Strict:
			return 0, nil, newError(chain[i], RevocationUnknown, now, f.why, "")
		case f.status == unknown && errors.Is(f.why, ErrNoStatus):
			level = IfPresent
		case f.status == unknown:
			level = IfPresent
			all = append(all, fmt.Errorf("revocation of %q could not be checked: %w", chain[i].Subject, cmp.Or(f.why, errNobodyAsked)))
		}
	}
	return level, inOneLine(all), nil
}

// errNobodyAsked says that no server was to be asked.
var errNobodyAsked = errors.New("no list and no OCSP response is there, and none is fetched")

// ErrNoStatus says that a certificate does not tell where its revocation could
// be learnt, so that a CRL has to be there already.
var ErrNoStatus = errors.New("it names neither a CRL nor an OCSP responder")

// question is about the revocation of one certificate.
type question struct {
	cert, issuer *x509.Certificate
	now          time.Time
}

// askWhatCame looks at what came with the certificate. One that says that it
// is revoked counts for more than others that do not.
func (q question) askWhatCame(crls []*CRL, staples [][]byte) finding {
	best := finding{}
	consider := func(f finding) {
		if f.status > best.status || best == (finding{}) {
			best = f
		}
	}
	for _, der := range staples {
		a, err := parseOCSP(der, q.cert, q.issuer, q.now)
		if err != nil {
			consider(finding{why: fmt.Errorf("the OCSP response that the peer sent: %w", err)})
			continue
		}
		consider(a.finding(q.now))
	}
	for _, list := range crls {
		if err := list.checkIssuer(q.issuer); err != nil {
			continue // it is another's
		}
		consider(list.finding(q))
	}
	return best
}

// Bounds of the servers that are asked about one certificate.
const (
	maxResponders = 2
	maxCRLs       = 4
)

// askOthers asks OCSP responders first, as their answers are small, and then
// for CRLs. So far is why nothing is known yet, or nil.
func (q question) askOthers(ctx context.Context, f Fetcher, soFar error) finding {
	why := []error{soFar}
	for _, url := range q.cert.OCSPServer[:min(len(q.cert.OCSPServer), maxResponders)] {
		a, err := fetchOCSP(ctx, f, url, q.cert, q.issuer, q.now)
		if err == nil {
			found := a.finding(q.now)
			if found.status != unknown {
				return found
			}
			err = found.why
		}
		why = append(why, fmt.Errorf("OCSP at %s: %w", url, err))
	}
	for _, url := range q.cert.CRLDistributionPoints[:min(len(q.cert.CRLDistributionPoints), maxCRLs)] {
		list, err := fetchCRL(ctx, f, url, q.issuer)
		if err == nil {
			found := list.finding(q)
			if found.status != unknown {
				return found
			}
			err = found.why
		}
		why = append(why, fmt.Errorf("CRL at %s: %w", url, err))
	}
	if err := errors.Join(why...); err != nil {
		return finding{why: inOneLine(why)}
	}
	return finding{why: ErrNoStatus}
}

// inOneLine joins errors of which some may be nil.
func inOneLine(errs []error) (all error) {
	for _, err := range errs {
		switch {
		case err == nil:
		case all == nil:
			all = err
		default:
			all = fmt.Errorf("%w; %w", all, err)
		}
	}
	return all
}

// maxSkew is by how much the clock of an issuer may be ahead of ours.
const maxSkew = 5 * time.Minute

// fresh checks the dates of a CRL or of an OCSP response.
func fresh(this, next, now time.Time) error {
	switch {
	case this.After(now.Add(maxSkew)):
		return fmt.Errorf("it is of %s, and our clock says %s", date(this), date(now))
	case now.After(next):
		return fmt.Errorf("it was good until %s, and our clock says %s", date(next), date(now))
	}
	return nil
}

// revokedOn describes a revocation, with the reason of RFC 5280 section 5.3.1.
func revokedOn(at time.Time, reason int, who string) error {
	names := map[int]string{
		1: "key compromise", 2: "compromise of the authority", 3: "affiliation changed", 4: "superseded",
		5: "cessation of operation", 6: "on hold", 9: "privilege withdrawn", 10: "compromise of the attribute authority",
	}
	name, ok := names[reason]
	if !ok {
		name = "no reason given"
	}
	return fmt.Errorf("on %s (%s), says %s", date(at), name, who)
}
