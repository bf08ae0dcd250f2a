#!/bin/sh
# Installs what the tests of this folder need from Debian. Without root it
# does nothing, and the tests that need root skip themselves.
set -eu

packages="nftables iproute2 kmod user-mode-linux qemu-system-x86
	strongswan-charon strongswan-swanctl libstrongswan-standard-plugins
	libcharon-extra-plugins"

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
[ -n "$missing" ] || [ ! -d "$kernel" ] || exit 0
export DEBIAN_FRONTEND=noninteractive
apt-get update -q

if [ ! -d "$kernel" ]; then
	rm -rf "$kernel.new"
	mkdir -p "$kernel.new"
	cd "$kernel.new"
	image=$(apt-cache show --no-all-versions linux-image-cloud-amd64 |
		sed -n 's/^Depends: \(linux-image-[^ ,]*\).*/\1/p')
	apt-get download -q -o APT::Sandbox::User=root "$image"
	dpkg-deb -x "$image"_*.deb .
	rm "$image"_*.deb
	mv "$kernel.new" "$kernel"
fi
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
