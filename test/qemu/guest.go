package qemu

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Ended is what a machine's console shows last, with the status of its first
// program.
const Ended = "machine ended with status"

// Inside reports whether this process is the first one of a Machine.
func Inside() bool { return os.Getpid() == 1 && os.Args[0] == initFile }

// Main makes a system of the machine that this process is the first one of,
// calls f, and powers off. The console tells what f returned.
func Main(f func() (status int)) {
	status := 1
	if err := prepare(); err != nil {
		fmt.Println(err)
	} else {
		status = f()
	}
	fmt.Println(Ended, status)
	unix.Sync()
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// prepare mounts what the kernel has for programs, and loads the modules.
func prepare() error {
	for target, kind := range map[string]string{"/proc": "proc", "/sys": "sysfs", "/dev": "devtmpfs"} {
		if err := unix.Mount(kind, target, kind, 0, ""); err != nil {
			return fmt.Errorf("mounting %s: %w", target, err)
		}
	}
	modules, err := filepath.Glob(filepath.Join(modulesFolder, "*"))
	if err != nil {
		return err
	}
	for _, file := range modules { // they come in order
		if err := load(file); err != nil {
			return fmt.Errorf("loading %s: %w", file, err)
		}
	}
	return os.Setenv("PATH", "/")
}

// load loads a kernel module, unless another has brought it.
func load(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); !errors.Is(err, unix.EEXIST) {
		return err
	}
	return nil
}
