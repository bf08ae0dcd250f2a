package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/api"
)

func listCommand() *cli.Command {
	return &cli.Command{
		Name:   "list",
		Usage:  "show what is in force",
		Action: group,
		Subcommands: []*cli.Command{
			listFiltersCommand(),
			listing("sas", "the pairs of SAs, and the peers that are spoken to in clear", (*api.Client).SAs, saTable),
			listing("peers", "the IKE SAs", (*api.Client).Peers, peerTable),
		},
	}
}

func listFiltersCommand() *cli.Command {
	return &cli.Command{
		Name:  "filters",
		Usage: "the filters, in the order in which they decide",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "specific", Usage: "spell out lists and names, address by address"},
			outputFlag(),
		},
		Action: noArguments(func(c *cli.Context) error {
			get := (*api.Client).Filters
			if c.Bool("specific") {
				get = (*api.Client).SpecificFilters
			}
			if err := show(c, get, filterTable); err != nil {
				return err
			}
			d, err := client(c)
			if err != nil {
				return err
			}
			warnings, err := d.Warnings(c.Context)
			for _, w := range warnings {
				fmt.Fprintf(c.App.ErrWriter, "warning: %s\n", w)
			}
			return err
		}),
	}
}

// listing makes a command that gets a list from the daemon and prints it.
func listing[T any](name, usage string, get func(*api.Client, context.Context) ([]T, error), rows func([]T) table) *cli.Command {
	return &cli.Command{
		Name:  name,
		Usage: usage,
		Flags: []cli.Flag{outputFlag()},
		Action: noArguments(func(c *cli.Context) error {
			return show(c, get, rows)
		}),
	}
}

func outputFlag() cli.Flag {
	return &cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "`FORMAT`: table or json", Value: "table"}
}

// checkFormat refuses an output format that there is not.
func checkFormat(c *cli.Context) error {
	if format := c.String("output"); format != "table" && format != "json" {
		return usageError{fmt.Errorf("the output format is %q, not table or json", format)}
	}
	return nil
}

// show asks the daemon and prints the answer in the format that the command
// line chose.
func show[T any](c *cli.Context, get func(*api.Client, context.Context) (T, error), rows func(T) table) error {
	if err := checkFormat(c); err != nil {
		return err
	}
	d, err := client(c)
	if err != nil {
		return err
	}
	v, err := get(d, c.Context)
	if err != nil {
		return err
	}
	if c.String("output") == "json" {
		return printJSON(c, v)
	}
	return rows(v).print(c.App.Writer)
}

func printJSON(c *cli.Context, v any) error {
	e := json.NewEncoder(c.App.Writer)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// table is rows of cells, the first one the heads of the columns.
type table [][]string

func (t table) print(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range t {
		// No tab behind the last cell: no blanks at the end of a line.
		if _, err := fmt.Fprintln(tw, strings.Join(row, "\t")); err != nil {
			return err
		}
	}
	return tw.Flush()
}

func filterTable(filters []api.Filter) table {
	t := table{{"ORDER", "RULE", "LIST", "ACTION", "OPTIONS", "FROM", "FROM-PORT", "TO", "TO-PORT", "PROTOCOL", "ICMP", "CONNECTION", "PATH", "MIRRORED", "WEIGHT", "PACKETS", "BYTES", "POSITION"}}
	for _, f := range filters {
		connection := f.Connection
		if connection == "" {
			connection = "all"
		}
		t = append(t, []string{
			strconv.Itoa(f.Order), f.Rule, fmt.Sprintf("%s[%d]", f.List, f.Index), f.Action, orDash(strings.Join(f.Options, ", ")),
			f.From, f.FromPort, f.To, f.ToPort, f.Protocol, orDash(f.ICMP), connection, f.Path, yesNo(f.Mirrored),
			strconv.FormatUint(uint64(f.Weight), 10), strconv.FormatUint(f.Packets, 10), strconv.FormatUint(f.Bytes, 10), f.Position,
		})
	}
	return t
}

// orDash writes what is not there.
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func saTable(sas []api.SA) table {
	t := table{{"RULE", "MODE", "PROTOCOL", "LOCAL", "REMOTE", "IN-SPI", "OUT-SPI", "ENCRYPTION", "IN-BYTES", "IN-PACKETS", "OUT-BYTES", "OUT-PACKETS", "REPLAYED", "FORGED", "MALFORMED", "MISMATCHED", "AGE", "SOFT", "LOCAL-SELECTORS", "REMOTE-SELECTORS"}}
	for _, s := range sas {
		protocol := s.Protocol
		if s.UDPEncap {
			protocol += "/UDP"
		}
		if s.Nested {
			protocol += "/AH"
		}
		encryption := s.Encryption
		if s.Integrity != "" && s.Integrity != s.Encryption {
			encryption += " " + s.Integrity
		}
		if s.ESN {
			encryption += " esn"
		}
		soft := "no"
		if s.Soft {
			soft = "for " + age(s.SoftSeconds)
		}
		t = append(t, []string{
			s.Rule, s.Mode, protocol, orDash(s.Local), s.Remote, orDash(s.InSPI), orDash(s.OutSPI), encryption,
			strconv.FormatUint(s.InBytes, 10), strconv.FormatUint(s.InPackets, 10),
			strconv.FormatUint(s.OutBytes, 10), strconv.FormatUint(s.OutPackets, 10),
			strconv.FormatUint(s.ReplayDrops, 10), strconv.FormatUint(s.IntegrityFailures, 10),
			strconv.FormatUint(s.Malformed, 10), strconv.FormatUint(s.SelectorMismatch, 10), age(s.AgeSeconds), soft,
			orDash(strings.Join(s.LocalSelectors, ", ")), orDash(strings.Join(s.RemoteSelectors, ", ")),
		})
	}
	return t
}

func peerTable(peers []api.Peer) table {
	t := table{{"VERSION", "LOCAL", "REMOTE", "ROLE", "LOCAL-ID", "REMOTE-ID", "AUTHENTICATION", "REVOCATION", "PROPOSAL", "PPK", "FRAGMENTATION", "NAT", "CHILDREN", "AGE", "SPI-I", "SPI-R"}}
	for _, p := range peers {
		role := "responder"
		if p.Initiator {
			role = "initiator"
		}
		t = append(t, []string{
			fmt.Sprintf("IKEv%d", p.Version), p.Local, p.Remote, role, p.LocalID, p.RemoteID, p.Authentication, orDash(p.Revocation), p.Proposal,
			orDash(p.PPK), yesNo(p.Fragmentation), nat(p), strconv.Itoa(p.Children), age(p.AgeSeconds), p.SPIi, p.SPIr,
		})
	}
	return t
}

func nat(p api.Peer) string {
	switch {
	case p.NATLocal && p.NATRemote:
		return "both"
	case p.NATLocal:
		return "local"
	case p.NATRemote:
		return "remote"
	}
	return "none"
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func age(seconds int64) string { return (time.Duration(seconds) * time.Second).String() }
