#!/bin/sh
# Installs what the tests of this folder need from Debian. Without root it
# does nothing, and the tests that need root skip themselves.
set -eu

packages="nftables iproute2 kmod user-mode-linux
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
[ -n "$missing" ] || exit 0

# The tests start the daemons themselves; the packages must start none. A
# policy that somebody else put there stays.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	trap 'rm -f "$policy"' EXIT
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
# shellcheck disable=SC2086 # a list of words
apt-get install -y -q --no-install-recommends $missing
