#!/bin/sh
# Installs what the tests of this folder need from Debian. Without root it
# does nothing, and the tests that need root skip themselves.
set -eu

packages="nftables iproute2 kmod user-mode-linux qemu-system-x86
	strongswan-charon strongswan-swanctl libstrongswan-standard-plugins
	libcharon-extra-plugins libstrongswan-extra-plugins openiked
	python3-scapy python3-cryptography tshark
	libnss3-tools libunbound8 libldns3 libcurl3-nss libevent-pthreads-2.1-7"

if [ "$(id -u)" -ne 0 ]; then
	echo "setup: not root, so nothing is installed and the tests that need root will skip" >&2
	exit 0
fi

missing=
for p in $packages; do
	if [ "$(dpkg-query -W -f='${db:Status-Status}' "$p" 2>/dev/null)" != installed ]; then
		missing="$missing $p"
	fi
done
# Debian's kernel for virtual machines is unpacked and not installed, because
# this machine is not to boot it. The package by that name brings the newest.
kernel=/var/cache/ipsecfw-test/kernel
# Libreswan conflicts with strongSwan; it is unpacked, and the libraries that it
# wants are among the packages.
libreswan=/var/cache/ipsecfw-test/libreswan
[ -n "$missing" ] || [ ! -d "$kernel" ] || [ ! -d "$libreswan" ] || exit 0
export DEBIAN_FRONTEND=noninteractive
apt-get update -q

# unpack PACKAGE FOLDER: everything in the package, below a folder.
unpack() {
	[ ! -d "$2" ] || return 0
	rm -rf "$2.new"
	mkdir -p "$2.new"
	cd "$2.new"
	apt-get download -q -o APT::Sandbox::User=root "$1"
	dpkg-deb -x "$1"_*.deb .
	rm "$1"_*.deb
	mv "$2.new" "$2"
}

unpack "$(apt-cache show --no-all-versions linux-image-cloud-amd64 |
	sed -n 's/^Depends: \(linux-image-[^ ,]*\).*/\1/p')" "$kernel"
unpack libreswan "$libreswan"
[ -n "$missing" ] || exit 0

# The tests start the daemons themselves; the packages must start none. A
# policy that somebody else put there stays.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	trap 'rm -f "$policy"' EXIT
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
fi
# shellcheck disable=SC2086 # a list of words
apt-get install -y -q --no-install-recommends $missing
