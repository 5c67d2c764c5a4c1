#!/bin/sh
# Installs, upgrades, removes and purges the packages in a Debian of its own that a real systemd runs, and sends files
# there. Needs root, debootstrap and rpm. Nothing outside bin/ is changed.
#
# ROOT is the Debian to start from, with systemd in it; it is only read. The default is made with debootstrap once and
# kept in bin/packages-root; "/" is that of this machine.
set -eu
cd "$(dirname "$0")/.."
say() { echo "packages-test: $*"; }
fail() {
	say "FAILED: $*" >&2
	exit 1
}

if [ "${WAYBILL_PACKAGES_TEST:-}" != inside ]; then
	[ "$(id -u)" = 0 ] || fail "this needs root: it mounts, and starts a systemd"
	for p in debootstrap rpm unshare nsenter; do
		command -v "$p" >/dev/null || fail "$p is missing; install it"
	done
	root=${1:-bin/packages-root}
	if [ ! -d "$root" ]; then
		say "makes a Debian in $root"
		mirror=$(awk '/^URIs:/ { print $2; exit } /^deb / { for (i = 2; i <= NF; i++) if ($i ~ /:\/\//) { print $i; exit } }' \
			/etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null || true)
		rm -rf "$root.new"
		debootstrap --variant=minbase --include=systemd,dbus bookworm "$root.new" ${mirror:+"$mirror"} >bin/debootstrap.log
		mv "$root.new" "$root"
	fi
	WAYBILL_PACKAGES_TEST=inside exec unshare --mount --propagation private sh "$0" "$root"
fi

# From here on every mount ends with this process.
lower=$(cd "$1" && pwd)
work=$(mktemp -d)
init=
cgroup=$(findmnt -t cgroup2 -n -o TARGET | head -1)/waybill-packages-test-$$
cleanup() {
	if [ -n "$init" ]; then
		kill -9 "$init" 2>/dev/null || true # the first process of its own space: with it all others end
		wait 2>/dev/null || true
	fi
	find "$cgroup" -depth -type d -exec rmdir {} \; 2>/dev/null || true
	umount -R "$work/root" "$work/top" 2>/dev/null || true
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

arch=$(go env GOARCH)
say "makes packages of two versions, and of one of them again"
for v in v0.1.0 v0.2.0; do
	VERSION=$v ARCHS=$arch sh scripts/packages.sh "$work/$v" >/dev/null
done
VERSION=v0.2.0 ARCHS=$arch sh scripts/packages.sh "$work/again" >/dev/null
for f in "$work/v0.2.0"/*; do
	cmp "$f" "$work/again/$(basename "$f")" || fail "the same version was packaged differently"
done

say "starts systemd in a copy of $1"
mkdir "$work/top" "$work/root"
mount -t tmpfs tmpfs "$work/top"
mkdir "$work/top/upper" "$work/top/work"
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$work/top/upper,workdir=$work/top/work" "$work/root"
root=$work/root
mkdir -p "$root/packages"
cp -r "$work/v0.1.0" "$work/v0.2.0" "$root/packages/"
cat >"$work/init" <<'INIT'
set -eu
cd "$1"
mount -t proc proc proc
mount --bind -o ro proc/sys proc/sys # it is the kernel of everybody
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mount -t tmpfs tmpfs dev
for d in null zero full random urandom tty; do
	touch "dev/$d"
	mount --bind "/dev/$d" "dev/$d"
done
ln -s /proc/self/fd dev/fd
ln -s pts/ptmx dev/ptmx
mkdir dev/pts dev/shm
mount -t tmpfs tmpfs dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
hostname packages-test
ip link set lo up
pivot_root . mnt
cd /
umount -l /mnt
container=packages-test exec /lib/systemd/systemd --unit=multi-user.target
INIT
mkdir "$cgroup"
(
	echo 0 >"$cgroup/cgroup.procs"
	exec unshare --mount --pid --fork --net --uts --ipc --cgroup --kill-child sh "$work/init" "$root"
) </dev/null >"$work/init.log" 2>&1 &
outer=$!
inside() { nsenter -t "$init" --mount --pid --uts --ipc --net --cgroup --root --wd -- "$@"; }
# within SECONDS WHAT COMMAND... waits until a command succeeds there.
within() {
	n=$(($1 * 10)) what=$2
	shift 2
	until inside "$@" >"$work/out" 2>&1; do
		n=$((n - 1))
		if [ $n -le 0 ]; then
			cat "$work/out" "$work/init.log"
			inside journalctl --no-pager -n 60 || true
			fail "$what"
		fi
		sleep 0.1
	done
}
must() {
	inside "$@" >"$work/out" 2>&1 || {
		cat "$work/out"
		inside journalctl --no-pager -n 60 || true
		fail "$*"
	}
}
mustnt() { if inside "$@" >"$work/out" 2>&1; then fail "should not succeed: $*"; fi; }

i=0
until init=$(pgrep -P "$outer" -x systemd); do
	i=$((i + 1))
	[ $i -lt 300 ] || {
		cat "$work/init.log"
		fail "systemd does not start"
	}
	sleep 0.1
done
within 30 "systemd is not up" systemctl is-system-running
must sh -c 'systemctl --version | head -1'
say "has $(cat "$work/out"), and $(. "$root/etc/os-release" && echo "$PRETTY_NAME")"

say "installs"
must sh -c 'dpkg -i /packages/v0.1.0/*.deb'
mustnt systemctl is-active waybill
mustnt systemctl is-active waybill-agent
must waybill version
grep -q 'waybill v0.1.0' "$work/out" || fail "version: $(cat "$work/out")"
must sh -c 'test "$(stat -c "%U %a" /var/lib/waybill /var/lib/waybill-agent | xargs)" = "waybill 700 root 700"'
must sh -c 'systemd-analyze verify /usr/lib/systemd/system/waybill* 2>&1 | grep waybill && exit 1 || exit 0'
must sh -c 'zcat /usr/share/man/man1/waybill-send.1.gz | grep -q TH && test -s /usr/share/bash-completion/completions/waybill'

say "starts, enrols, delivers"
must systemctl enable --now waybill
export WAYBILL_CREDENTIALS=/var/lib/waybill/credentials.json
within 20 "the server does not answer" waybill instances list
mustnt systemctl is-active waybill.socket
must sh -c 'waybill activations create --output json >/tmp/activation
	id=$(sed -n "s/.*\"ActivationId\": *\"\([^\"]*\)\".*/\1/p" /tmp/activation)
	code=$(sed -n "s/.*\"ActivationCode\": *\"\([^\"]*\)\".*/\1/p" /tmp/activation)
	waybill-agent enroll --server https://127.0.0.1:8480 --ca /var/lib/waybill/ca.pem --activation-id "$id" --activation-code "$code"'
must systemctl enable --now waybill-agent
# deliver NAME sends a file that only root could give away, and looks at it.
deliver() {
	must sh -c "echo hello >/tmp/$1 && waybill send /tmp/$1 --to /srv/app --all --owner daemon --group games --mode 4750 --timeout 60s --wait"
	must sh -c "test \"\$(stat -c '%U %G %a' /srv/app/$1)\" = 'daemon games 4750' && grep -q hello /srv/app/$1"
}
within 20 "the machine does not come" sh -c 'waybill-agent status | grep -q connected'
deliver first
must sh -c 'runuser -u waybill -- waybill backup --data-dir /var/lib/waybill --out /tmp/waybill.tar'
mustnt sh -c 'journalctl -u waybill | grep -F "$(sed -n "s/.*access_key_secret\": \"\([^\"]*\)\".*/\1/p" /var/lib/waybill/credentials.json)"'

say "upgrades while both run"
must sh -c 'echo "# kept" >>/etc/default/waybill; cat /var/lib/waybill-agent/agent.nk /var/lib/waybill/seal.key | sha256sum >/tmp/keys
	systemctl show -P MainPID waybill waybill-agent >/tmp/pids'
must sh -c 'dpkg -i /packages/v0.2.0/*.deb'
must sh -c 'test "$(systemctl show -P MainPID waybill waybill-agent)" != "$(cat /tmp/pids)" && systemctl is-active waybill waybill-agent'
must sh -c 'cat /var/lib/waybill-agent/agent.nk /var/lib/waybill/seal.key | sha256sum | cmp - /tmp/keys && grep -q kept /etc/default/waybill'
within 40 "the machine does not come back" sh -c 'waybill instances list --connected | grep -q v0.2.0'
deliver second
must sh -c 'waybill results | grep -q first'

say "leaves the port open while it is upgraded with the socket"
must systemctl stop waybill
must systemctl enable --now waybill.socket
must systemctl start waybill
must sh -c 'systemctl show -P TriggeredBy waybill | grep -q waybill.socket && systemctl is-active waybill.socket'
must sh -c 'dpkg -i /packages/v0.2.0/*.deb & n=0
	while kill -0 $! 2>/dev/null; do waybill results >/dev/null || exit 1; n=$((n + 1)); done; wait $! && test $n -gt 3'

say "removes, and keeps what is not the package's"
must dpkg -r waybill waybill-agent
mustnt pgrep -f /usr/bin/waybill
must sh -c 'test -s /var/lib/waybill/waybill.db && test -s /var/lib/waybill-agent/agent.nk && grep -q kept /etc/default/waybill'
mustnt sh -c 'ls /usr/bin/waybill* /usr/lib/systemd/system/waybill* /etc/systemd/system/*/waybill*'
must sh -c 'dpkg -i /packages/v0.2.0/*.deb && systemctl start waybill waybill-agent'
within 40 "the machine does not come back after it was removed" sh -c 'waybill instances list --connected | grep -q v0.2.0'
deliver third

say "purges"
must dpkg -P waybill waybill-agent
mustnt sh -c 'ls -d /var/lib/waybill* /etc/default/waybill* /usr/share/doc/waybill* /usr/share/man/man1/waybill*'
must systemctl is-system-running

say "checks the rpm packages"
for v in v0.1.0 v0.2.0; do
	rpm -K "$work/$v"/*.rpm | grep -v 'digests OK$' && fail "rpm finds them damaged"
done
# rpm calls their scripts in that Debian, which has no database of its packages: so it cannot look for what they need.
rpms() { rpm --root "$root" --dbpath /var/lib/rpm-test --nodeps "$@" >"$work/out" 2>&1 || {
	cat "$work/out"
	fail "rpm $*"
}; }
rpms -i "$work/v0.1.0"/*.rpm
chroot "$root" waybill version | grep -q v0.1.0 || fail "rpm installed something else"
[ "$(chroot "$root" stat -c '%U %a' /var/lib/waybill)" = "waybill 700" ] || fail "rpm: the data directory"
echo kept >"$root/var/lib/waybill-agent/agent.nk"
echo "# kept" >>"$root/etc/default/waybill"
rpms -U "$work/v0.2.0"/*.rpm
chroot "$root" waybill-agent version | grep -q v0.2.0 || fail "rpm upgraded to something else"
grep -q kept "$root/etc/default/waybill" || fail "rpm: the settings are gone"
rpms -e waybill waybill-agent
[ -s "$root/var/lib/waybill-agent/agent.nk" ] || fail "rpm: the identity is gone"
[ ! -e "$root/usr/bin/waybill" ] || fail "rpm removed nothing"

say "all is well"
