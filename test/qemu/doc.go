// Package qemu boots a Linux kernel of Debian in a virtual machine of QEMU,
// with one program as the whole user space. It is for tests that want of a
// kernel what the one beneath them may lack. It needs neither KVM nor a disk
// nor root: the kernel and its modules are files of a package that test/setup.sh
// has unpacked, and the initramfs is made here.
package qemu
