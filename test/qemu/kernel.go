package qemu

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
)

// kernels is where test/setup.sh unpacks the kernel's package.
const kernels = "/var/cache/ipsecfw-test/kernel"

// Kernel is a kernel and the modules that it can load.
type Kernel struct {
	Image   string            // file of the compressed kernel
	modules map[string]string // the file of each by its name, in which - is _
}

// FindKernel returns the kernel that test/setup.sh has unpacked.
func FindKernel() (*Kernel, error) {
	images, err := filepath.Glob(filepath.Join(kernels, "boot", "vmlinuz-*"))
	if err != nil {
		return nil, err
	}
	if len(images) != 1 {
		return nil, fmt.Errorf("%d kernels below %s, want one: run test/setup.sh as root", len(images), kernels)
	}
	k := &Kernel{Image: images[0], modules: map[string]string{}}
	err = filepath.WalkDir(filepath.Join(kernels, "lib", "modules"), func(path string, _ fs.DirEntry, err error) error {
		if name, ok := strings.CutSuffix(filepath.Base(path), ".ko"); ok {
			k.modules[moduleName(name)] = path
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("looking for kernel modules: %w", err)
	}
	return k, nil
}

func moduleName(s string) string { return strings.ReplaceAll(s, "-", "_") }

// Modules returns the files of modules and of those that they depend on, in an
// order in which they can be loaded. Names keep their order as far as that
// allows it.
func (k *Kernel) Modules(names ...string) ([]string, error) {
	var files []string
	seen := map[string]bool{}
	var add func(name string) error
	add = func(name string) error {
		name = moduleName(name)
		if seen[name] {
			return nil
		}
		seen[name] = true
		file, ok := k.modules[name]
		if !ok {
			return fmt.Errorf("the kernel %s has no module %s", k.Image, name)
		}
		depends, err := dependencies(file)
		if err != nil {
			return fmt.Errorf("module %s: %w", file, err)
		}
		for _, d := range depends {
			if err := add(d); err != nil {
				return err
			}
		}
		files = append(files, file)
		return nil
	}
	for _, name := range names {
		if err := add(name); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// dependencies returns what modules a module says that it needs.
func dependencies(file string) ([]string, error) {
	f, err := elf.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	section := f.Section(".modinfo")
	if section == nil {
		return nil, errors.New("no section .modinfo")
	}
	info, err := section.Data()
	if err != nil {
		return nil, err
	}
	return parseDepends(string(info)), nil
}

// parseDepends finds the dependencies in a module's words about itself, each
// of which ends in a zero.
func parseDepends(info string) []string {
	for entry := range strings.SplitSeq(info, "\x00") {
		if list, ok := strings.CutPrefix(entry, "depends="); ok && list != "" {
			return strings.Split(list, ",")
		}
	}
	return nil
}
