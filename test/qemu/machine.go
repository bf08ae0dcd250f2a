package qemu

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Program is QEMU, which the Debian package qemu-system-x86 brings.
const Program = "qemu-system-x86_64"

// initFile is the first program of a machine, and modulesFolder has what it
// loads, in the order of the names.
const (
	initFile      = "/init"
	modulesFolder = "/modules"
)

// Machine is a virtual machine of two processors.
type Machine struct {
	Kernel  *Kernel
	Modules []string          // that the kernel is to load, besides what they depend on
	Init    string            // file of the first program, which calls Main
	Args    []string          // its arguments: no spaces
	Files   map[string]string // what else it finds: the file there, and the one here
}

// Run boots the machine and returns when it has powered off. What it says on
// its console goes to a writer. It is an error if the context ends before, and
// none that the first program fails.
func (m *Machine) Run(ctx context.Context, console io.Writer) error {
	archive, err := os.CreateTemp("", "initramfs")
	if err != nil {
		return err
	}
	defer os.Remove(archive.Name())
	err = m.pack(archive)
	if closed := archive.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("making the initramfs: %w", err)
	}
	cmd := exec.CommandContext(ctx, Program,
		"-no-user-config", "-nodefaults", "-display", "none", "-no-reboot",
		"-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max,la57=off", "-smp", "2", "-m", "768",
		"-serial", "stdio", "-kernel", m.Kernel.Image, "-initrd", archive.Name(),
		"-append", "console=ttyS0 quiet panic=-1 random.trust_cpu=on rdinit="+initFile+" -- "+strings.Join(m.Args, " "))
	cmd.Stdout, cmd.Stderr = console, console
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return fmt.Errorf("running %s: %w", Program, err)
	}
	return nil
}

// pack writes the machine's files.
func (m *Machine) pack(w io.Writer) error {
	modules, err := m.Kernel.Modules(m.Modules...)
	if err != nil {
		return err
	}
	buffered := bufio.NewWriterSize(w, 1<<20)
	a := newInitramfs(buffered)
	for _, name := range []string{"/dev", "/proc", "/sys", "/etc", "/run", "/tmp", "/var/lib"} {
		a.dir(name)
	}
	a.file(initFile, m.Init)
	for i, file := range modules {
		a.file(path.Join(modulesFolder, fmt.Sprintf("%03d-%s", i, filepath.Base(file))), file)
	}
	for name, file := range m.Files {
		a.file(name, file)
	}
	if err := a.end(); err != nil {
		return err
	}
	return buffered.Flush()
}
