package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/api"
	"github.com/ipsecfw/ipsecfw/examples"
	"github.com/ipsecfw/ipsecfw/test/lab"
)

// demoTime is how long the whole demonstration may take.
const demoTime = time.Minute

// refusalTime is how long a connection must stay unanswered to count as
// refused: a packet that is dropped tells nobody.
const refusalTime = 3 * time.Second

const payroll = "31 people, all of them paid\n"

func demoCommand() *cli.Command {
	return &cli.Command{
		Name:  "demo",
		Usage: "show it all, in network namespaces that are gone afterwards; needs root",
		Action: noArguments(func(c *cli.Context) error {
			if os.Geteuid() != 0 {
				return errors.New("the demonstration makes network namespaces, which needs root: run it with sudo")
			}
			ctx, cancel := context.WithTimeout(c.Context, demoTime)
			defer cancel()
			err := runDemo(ctx, c.App.Writer)
			if err != nil && ctx.Err() != nil {
				return fmt.Errorf("the demonstration was cut short: %w", err)
			}
			return err
		}),
	}
}

const demoPicture = `
  workstation ────────┐                 ┌─────── server
  ` + workstationAddr + `           │                 │        ` + serverAddr + `, examples/payroll.yaml,
  with a certificate  │                 │        HTTP on port 8443
                      ├──── gateway ────┤
  stranger ───────────┘   watches the   └─────── lookup
  ` + strangerAddr + `               wire              ` + lookupAddr + `,
  without a key                                  DNS on port 53

`

// demo is the demonstration as it runs.
type demo struct {
	*demoNet
	out    io.Writer
	dir    string // of the daemons
	failed int    // things that were not as they should be

	serverDaemon, workstationDaemon *demoDaemon
}

func runDemo(ctx context.Context, out io.Writer) (err error) {
	undo := &undoing{}
	defer func() { err = errors.Join(err, undo.all()) }()

	d := &demo{out: out}
	if d.dir, err = os.MkdirTemp("", "ipsecfw-demo-"); err != nil {
		return err
	}
	undo.later(func() error { return os.RemoveAll(d.dir) })
	if d.demoNet, err = newDemoNet(); err != nil {
		return err
	}
	undo.later(d.net.Close)
	fmt.Fprint(out, demoPicture)
	if err := d.serve(undo); err != nil {
		return err
	}
	if err := d.secure(ctx, undo); err != nil {
		return err
	}
	err = d.show(ctx)
	if err != nil && ctx.Err() == nil {
		fmt.Fprintf(out, "\nThe log of the server's daemon:\n%s\nThe log of the workstation's daemon:\n%s", d.serverDaemon.log, d.workstationDaemon.log)
	}
	return err
}

// show takes the steps of the demonstration. Those that show something else
// than they should do not keep it from going on.
func (d *demo) show(ctx context.Context) error {
	whole, err := d.watch(d.server)
	if err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{
		d.showRequest, d.showStranger, d.showForeigner, d.showBlocked, d.showLookup, d.showFilters, d.showSAs,
		func(context.Context) error { return d.showWhole(whole) },
	} {
		if err := step(ctx); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	if d.failed > 0 {
		return fmt.Errorf("%d things were not as they should be", d.failed)
	}
	fmt.Fprintln(d.out, "\nAll of it was as it should be.")
	return nil
}

// undoing is what is to be done in the end, the last first.
type undoing []func() error

func (u *undoing) later(f func() error) { *u = append(*u, f) }

func (u *undoing) all() error {
	var errs []error
	for i := range *u {
		errs = append(errs, (*u)[len(*u)-1-i]())
	}
	return errors.Join(errs...)
}

// title begins a part of the demonstration.
func (d *demo) title(format string, args ...any) { fmt.Fprintf(d.out, format+"\n", args...) }

// expect prints what was seen, and counts it if it is not what should be.
func (d *demo) expect(good bool, format string, args ...any) {
	verdict := "   ok      "
	if !good {
		verdict = "   NOT SO  "
		d.failed++
	}
	fmt.Fprintf(d.out, verdict+strings.TrimSuffix(format, "\n")+"\n", args...)
}

// serve opens the application, a port that the policy blocks, and the name
// server. They are plain programs that know nothing of IPsec.
func (d *demo) serve(undo *undoing) error {
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, payroll) })
	for _, port := range []int{payrollPort, blockedPort} {
		l, err := d.server.Listen("tcp", fmt.Sprintf(":%d", port))
		if err != nil {
			return err
		}
		s := &http.Server{Handler: handler, ReadHeaderTimeout: demoTime}
		go s.Serve(l)
		undo.later(s.Close)
	}
	c, err := d.lookup.ListenPacket("udp", fmt.Sprintf(":%d", lookupPort))
	if err != nil {
		return err
	}
	go answerLookups(c, netip.MustParseAddr(workstationAddr))
	undo.later(c.Close)
	return nil
}

// secure gives the server and the workstation a daemon and keys that the
// other believes.
func (d *demo) secure(ctx context.Context, undo *undoing) error {
	keys, err := newAuthority("Payroll CA")
	if err != nil {
		return err
	}
	if d.serverDaemon, err = startDaemon(ctx, d.server, d.dir, keys, "payroll.yaml", examples.Payroll); err != nil {
		return err
	}
	undo.later(d.serverDaemon.stop)
	if d.workstationDaemon, err = startDaemon(ctx, d.workstation, d.dir, keys, "workstation.yaml", examples.Workstation); err != nil {
		return err
	}
	undo.later(d.workstationDaemon.stop)
	return nil
}

// get asks the server for a page over HTTP.
func (d *demo) get(ctx context.Context, from *lab.Host, port int) (string, error) {
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return from.Dial(ctx, network, addr)
		},
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s:%d/", serverAddr, port), nil)
	if err != nil {
		return "", err
	}
	resp, err := (&http.Client{Transport: transport}).Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

func (d *demo) showRequest(ctx context.Context) error {
	d.title("1. The workstation asks for http://%s:%d/, while the gateway watches", serverAddr, payrollPort)
	w, err := d.watch(d.server)
	if err != nil {
		return err
	}
	began := time.Now()
	within, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	body, err := d.get(within, d.workstation, payrollPort)
	took := time.Since(began).Round(time.Millisecond)
	if err := w.capture.Close(); err != nil {
		return err
	}
	d.expect(err == nil && body == payroll, "the answer after %v: %q%s", took, body, because(err))
	esp, clear := w.kind(lab.ESP), w.clear(workstationAddr, payrollPort)
	d.expect(esp > 0 && clear == 0, "on the wire: %d IKE packets, %d ESP packets, clear packets to %d: %d", w.kind(lab.IKE), esp, payrollPort, clear)
	return nil
}

// refused shows that a connection of a host gets no answer, and returns what
// passed on the server's cable meanwhile.
func (d *demo) refused(ctx context.Context, from *lab.Host, addr string, port int) (*wire, error) {
	w, err := d.watch(d.server)
	if err != nil {
		return nil, err
	}
	within, cancel := context.WithTimeout(ctx, refusalTime)
	defer cancel()
	body, err := d.get(within, from, port)
	if err := errors.Join(w.capture.Close(), ctx.Err()); err != nil {
		return nil, err // a connection that we gave up is not one that was refused
	}
	answers := w.count(func(c conversation) bool {
		return c.kind == lab.Clear && c.src.Addr() == netip.MustParseAddr(serverAddr) && c.dst.Addr() == netip.MustParseAddr(addr)
	})
	asked := w.clear(addr, uint16(port)) - answers
	outcome := fmt.Sprintf("refused: no connection in %v", refusalTime)
	if err == nil {
		outcome = fmt.Sprintf("answered %q", body)
	}
	d.expect(err != nil && answers == 0, "%s; %d packets asked in clear, and the server answered %d", outcome, asked, answers)
	return w, nil
}

func (d *demo) showStranger(ctx context.Context) error {
	d.title("2. The stranger asks for the same, in clear")
	_, err := d.refused(ctx, d.stranger, strangerAddr, payrollPort)
	return err
}

func (d *demo) showForeigner(ctx context.Context) error {
	d.title("3. The stranger gets a daemon, the workstation's policy and a certificate of its own making")
	keys, err := newAuthority("Anybody's CA")
	if err != nil {
		return err
	}
	daemon, err := startDaemon(ctx, d.stranger, d.dir, keys, "workstation.yaml", examples.Workstation)
	if err != nil {
		return err
	}
	return errors.Join(d.refuseForeigner(ctx), daemon.stop())
}

func (d *demo) refuseForeigner(ctx context.Context) error {
	w, err := d.refused(ctx, d.stranger, strangerAddr, payrollPort)
	if err != nil {
		return err
	}
	peers, err := api.Dial(d.serverDaemon.socket).Peers(ctx)
	if err != nil {
		return err
	}
	known := 0
	for _, p := range peers {
		if strings.HasPrefix(p.Remote, strangerAddr+":") {
			known++
		}
	}
	tried := w.kind(lab.IKE)
	d.expect(tried > 0 && known == 0, "it took %d IKE packets to find out; peers of the server: %d, the stranger among them: %d", tried, len(peers), known)
	return nil
}

func (d *demo) showBlocked(ctx context.Context) error {
	d.title("4. The workstation tries port %d, which is open on the server but blocked by the rule \"rest\"", blockedPort)
	_, err := d.refused(ctx, d.workstation, workstationAddr, blockedPort)
	return err
}

func (d *demo) showLookup(ctx context.Context) error {
	d.title("5. The server looks up a name, which the rule \"dns\" permits")
	w, err := d.watch(d.lookup)
	if err != nil {
		return err
	}
	within, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	addrs, err := resolver(d.server).LookupNetIP(within, "ip4", "workstation.example.")
	if err := w.capture.Close(); err != nil {
		return err
	}
	clear, esp := w.clear(lookupAddr, lookupPort), w.kind(lab.ESP)
	d.expect(err == nil && clear >= 2 && esp == 0, "workstation.example is %v; on the wire: %d packets in clear, %d ESP packets%s", addrs, clear, esp, because(err))
	return nil
}

func (d *demo) showFilters(ctx context.Context) error {
	d.title("6. The server's filters: ipsecfw list filters")
	if err := d.print(ctx, "list", "filters"); err != nil {
		return err
	}
	filters, err := api.Dial(d.serverDaemon.socket).Filters(ctx)
	if err != nil {
		return err
	}
	d.expect(len(filters) == 3, "%d filters, those of the rule file", len(filters))
	return nil
}

func (d *demo) showSAs(ctx context.Context) error {
	d.title("7. The server's SAs: ipsecfw list sas")
	if err := d.print(ctx, "list", "sas"); err != nil {
		return err
	}
	sas, err := api.Dial(d.serverDaemon.socket).SAs(ctx)
	if err != nil {
		return err
	}
	used, others := 0, 0
	for _, s := range sas {
		switch remote, _, _ := strings.Cut(s.Remote, ":"); {
		case remote != workstationAddr:
			others++
		case s.Rule == "staff" && s.InBytes > 0 && s.OutBytes > 0:
			used++
		}
	}
	d.expect(used > 0 && others == 0, "%d with the workstation has carried the request, %d with anybody else", used, others)
	return nil
}

// showWhole shows what the wire saw from the first step on, the end of each
// connection included.
func (d *demo) showWhole(w *wire) error {
	d.title("8. In all that time, on the wire between the workstation and the server")
	if err := w.capture.Close(); err != nil {
		return err
	}
	esp, clear := w.kind(lab.ESP), w.clear(workstationAddr, payrollPort)
	d.expect(esp > 0 && clear == 0, "%d ESP packets, clear packets to %d: %d", esp, payrollPort, clear)
	return nil
}

// print shows what a command says to the server's administrator.
func (d *demo) print(ctx context.Context, args ...string) error {
	out, err := d.serverDaemon.ask(ctx, args...)
	if err != nil {
		return err
	}
	for line := range strings.Lines(out) {
		fmt.Fprint(d.out, "   ", line)
	}
	return nil
}

// because adds an error to what was seen, if there was one.
func because(err error) string {
	if err == nil {
		return ""
	}
	return fmt.Sprintf(" (%v)", err)
}
