#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Compares Waybill with what else copies a file to many machines: parallel-scp, clush and ansible, all of them over
# OpenSSH, and what each host fetches by itself, all at once: with curl from nginx over TLS, and with rsync from its daemon.
# docs/performance.md says how to read the result. Usage, after make build:
#
#	bench/versus.sh [HOSTS [ROUNDS [TOOLS [BYTES]]]]        (100 hosts, 3 rounds, "parallel-scp clush ansible", 1024 bytes)
#	bench/versus.sh 20 2 "curl rsync" 1073741824            1 GiB, which takes some minutes and twice 20 GiB of disk
#
# All hosts are this machine. For the tools they are names h001, h002, ... of one sshd that listens on a loopback port
# and puts each session into the directory of its host; for Waybill, each is an agent with that directory as its root. A
# turn is one new file to all hosts, and ends once it is on the disk: the tools do not sync what they copy, so a
# sync of the file system is part of their turns. A turn after which a host has not got the file is an error. What is
# printed is the median of the rounds after the first, in which each tool has its turns, and by how much Waybill is
# faster: its hosts in a second, divided by the tool's.
#
# Nothing is installed, and nothing is left behind: what is missing is named, and every process is ended.
set -eu

hosts=${1:-100}
rounds=${2:-3}
tools=${3:-parallel-scp clush ansible}
bytes=${4:-1024}
programs=$(cd "$(dirname "$0")/.." && pwd)/bin
case $hosts$rounds$bytes in
*[!0-9]*) echo "usage: bench/versus.sh [HOSTS [ROUNDS [TOOLS [BYTES]]]]" >&2; exit 2 ;;
esac

work=$(mktemp -d "${TMPDIR:-/tmp}/versus.XXXXXX") # short: it holds sockets
pids='' # of what runs all the time
turn='' # of the tool whose turn it is
made_run=''

end_masters() { # the connections that ansible keeps open
	for socket in "$work"/cp/*; do
		[ -S "$socket" ] || continue
		ssh -F "$work/ssh_config" -o ControlPath="$socket" -O exit h001 >/dev/null 2>&1 || true
	done
}

# family PID...: these processes and all that descend from them.
family() {
	ps -e -o pid=,ppid= | awk -v roots="$*" '
		{ parent[$1] = $2 }
		END {
			for (n = split(roots, list, " "); n > 0; n--) ours[list[n]] = 1
			do {
				more = 0
				for (p in parent) if (!(p in ours) && parent[p] in ours) more = ours[p] = 1
			} while (more)
			for (p in ours) print p
		}'
}

# left: what had only just begun, and so escaped; its command line names the directory, which no other process does.
left() { ps -e -o pid=,args= | awk -v dir="$work/" 'index($0, dir) && $2 != "awk" { print $1; n++ } END { exit !n }'; }

end_left() {
	more=$(left) || return 0
	for pid in $more; do kill "$pid" 2>/dev/null || true; done
	return 1
}

# Some tools put what they start into process groups of its own, and sshd does so with sessions.
cleanup() {
	trap '' INT TERM HUP
	end_masters
	# shellcheck disable=SC2086 # they are lists
	for pid in $(family $pids $turn); do kill "$pid" 2>/dev/null || true; done
	# shellcheck disable=SC2086
	wait $pids $turn 2>/dev/null || true
	await end_left || echo 'versus: some processes do not end' >&2
	[ -z "$made_run" ] || rmdir /run/sshd 2>/dev/null || true
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

fail() {
	echo "versus: $*" >&2
	exit 1
}

# await CONDITION...: for ten seconds.
await() {
	tries=100
	until "$@" >/dev/null 2>&1; do
		tries=$((tries - 1))
		[ "$tries" -gt 0 ] || return 1
		sleep 0.1
	done
}

names() { seq -f 'h%03g' "$hosts"; }

# have TOOL PACKAGE [PROGRAM]: whether to use it; says what is missing.
have() {
	case " $tools " in *" $1 "*) ;; *) return 1 ;; esac
	PATH=$PATH:/usr/sbin command -v "${3:-$1}" >/dev/null && return
	echo "versus: no $1 here, so it is left out; on Debian it is in the package $2" >&2
	return 1
}

# --- OpenSSH ---------------------------------------------------------------------------------------------------------

sshd=$(PATH=$PATH:/usr/sbin:/usr/local/sbin command -v sshd || true)
sftp=''
for f in /usr/lib/openssh/sftp-server /usr/libexec/openssh/sftp-server /usr/lib/ssh/sftp-server \
	/usr/libexec/sftp-server; do
	[ ! -x "$f" ] || sftp=$f
done

write_ssh() {
	ssh-keygen -q -t ed25519 -N '' -f "$work/host_key"
	ssh-keygen -q -t ed25519 -N '' -f "$work/key"
	cp "$work/key.pub" "$work/authorized_keys"
	echo "versus $(cut -d' ' -f1,2 "$work/host_key.pub")" >"$work/known_hosts"
	# A session is at home in the directory of its host, and does not see what the user has in the path.
	cat >"$work/enter" <<-EOF
		#!/bin/sh
		HOME=$work/machines/\$VERSUS_HOST PATH=/usr/local/bin:/usr/bin:/bin
		export HOME PATH
		cd "\$HOME" && exec /bin/sh -c "\$SSH_ORIGINAL_COMMAND"
	EOF
	chmod 700 "$work/enter"
	# HOME, because a login shell that is bash reads .bashrc there for each command, and what a user's own does is not
	# what is measured: one that looks for versions of Python under a lock keeps a hundred ansible sessions for minutes.
	cat >"$work/sshd_config" <<-EOF
		ListenAddress 127.0.0.1
		HostKey $work/host_key
		AuthorizedKeysFile $work/authorized_keys
		PidFile none
		UsePAM no
		StrictModes no
		PasswordAuthentication no
		PermitRootLogin prohibit-password
		MaxStartups 1000
		MaxSessions 1000
		AcceptEnv VERSUS_HOST
		SetEnv HOME=$work
		ForceCommand $work/enter
		Subsystem sftp $sftp
		LogLevel ERROR
	EOF
	for h in $(names); do
		cat <<-EOF
			Host $h
			  SetEnv VERSUS_HOST=$h
		EOF
	done >"$work/ssh_config"
	cat >>"$work/ssh_config" <<-EOF
		Host *
		  HostName 127.0.0.1
		  HostKeyAlias versus
		  Port PORT
		  User $(id -un)
		  IdentityFile $work/key
		  IdentitiesOnly yes
		  UserKnownHostsFile $work/known_hosts
		  GlobalKnownHostsFile /dev/null
		  StrictHostKeyChecking yes
		  BatchMode yes
	EOF
}

start_sshd() {
	if [ "$(id -u)" = 0 ] && [ ! -d /run/sshd ]; then # where sshd locks itself in as root
		mkdir -m 0755 /run/sshd
		made_run=yes
	fi
	write_ssh
	mv "$work/ssh_config" "$work/ssh_config.in"
	for try in 1 2 3 4 5 6 7 8 9; do # a port may be taken
		port=$((20000 + ($$ + try * 1009) % 10000))
		sed "s/PORT/$port/" "$work/ssh_config.in" >"$work/ssh_config"
		"$sshd" -D -e -f "$work/sshd_config" -p "$port" 2>"$work/sshd.log" &
		pid=$!
		pids="$pids $pid"
		if await ssh_answers "$pid" && kill -0 "$pid" 2>/dev/null; then return; fi
	done
	cat "$work/sshd.log" >&2
	fail 'sshd does not start'
}

# ssh_answers PID: also true once there is nothing to wait for.
ssh_answers() { ! kill -0 "$1" || ssh -F "$work/ssh_config" h001 true; }

# --- What hosts fetch ------------------------------------------------------------------------------------------------

# a_port COMMAND...: runs it, which serves at $port, until it is one that is free.
a_port() {
	for try in 1 2 3 4 5 6 7 8 9; do
		port=$((20000 + ($$ + try * 1013) % 10000))
		"$@" || fail "no configuration for $1"
		pids="$pids $served"
		sleep 0.5
		if kill -0 "$served" 2>/dev/null; then return; fi
	done
	cat "$work/served.log" >&2
	fail "$1 does not start"
}

serve_nginx() {
	[ -f "$work/nginx.pem" ] || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=127.0.0.1 \
		-addext subjectAltName=IP:127.0.0.1 -keyout "$work/nginx.key" -out "$work/nginx.pem" 2>/dev/null
	cat >"$work/nginx.conf" <<-EOF
		daemon off;
		user $(id -un) $(id -gn);
		pid $work/nginx.pid;
		worker_processes auto;
		events {}
		http {
			access_log off;
			sendfile on;
			client_body_temp_path $work/nginx.tmp;
			server {
				listen 127.0.0.1:$port ssl;
				ssl_certificate $work/nginx.pem;
				ssl_certificate_key $work/nginx.key;
				root $work/public;
			}
		}
	EOF
	PATH=$PATH:/usr/sbin nginx -e "$work/served.log" -p "$work" -c "$work/nginx.conf" 2>>"$work/nginx.out" &
	served=$! from_nginx=https://127.0.0.1:$port
}

serve_rsync() {
	{
		printf 'use chroot = no\n[public]\npath = %s\nread only = yes\n' "$work/public"
		[ "$(id -u)" != 0 ] || printf 'uid = root\ngid = root\n'
	} >"$work/rsyncd.conf"
	rsync --daemon --no-detach --config="$work/rsyncd.conf" --address=127.0.0.1 --port="$port" >>"$work/served.log" 2>&1 &
	served=$! from_rsync=rsync://127.0.0.1:$port/public
}

# each_fetches COMMAND...: every host runs it in its directory, at the same time.
each_fetches() {
	fetching=''
	for h in $(names); do
		(cd "$work/machines/$h/srv" && exec "$@") &
		fetching="$fetching $!"
	done
	for pid in $fetching; do wait "$pid" || return 1; done
}

# --- Waybill ---------------------------------------------------------------------------------------------------------

waybill() { "$programs/waybill" "$@" --credentials "$work/server/credentials.json"; }

start_waybill() {
	"$programs/waybill" server --data-dir "$work/server" --listen 127.0.0.1:0 --agent-listen 127.0.0.1:0 \
		--admin-listen '' --log-level error >"$work/server.out" 2>"$work/server.log" &
	server=$!
	pids="$pids $server"
	await grep -q WAYBILL_ENDPOINT= "$work/server.out" || {
		cat "$work/server.log" >&2
		fail 'the server does not start'
	}
	endpoint=$(sed -n 's/.*WAYBILL_ENDPOINT=//p' "$work/server.out")
	waybill activations create --count "$hosts" -o json >"$work/activation.json" 2>"$work/activation.log" || {
		cat "$work/activation.log" >&2
		fail 'no activation'
	}
	id=$(field ActivationId) code=$(field ActivationCode) agents=''
	for h in $(names); do
		"$programs/waybill-agent" enroll --server "$endpoint" --ca "$work/server/ca.pem" --activation-id "$id" \
			--activation-code "$code" --state-dir "$work/state/$h" >"$work/enroll.log" 2>&1 || {
			cat "$work/enroll.log" >&2
			fail "$h cannot enrol"
		}
		"$programs/waybill-agent" run --state-dir "$work/state/$h" --root "$work/machines/$h" --log-level error \
			2>>"$work/agents.log" &
		agents="$agents $!"
		pids="$pids $!"
	done
	await all_online || fail 'not all agents connect'
}

field() { tr -d ' \n' <"$work/activation.json" | sed "s/.*\"$1\":\"\([^\"]*\)\".*/\1/"; }

all_online() { [ "$(waybill instances list -o json | grep -c '"Connected": *true')" -eq "$hosts" ]; }

# --- Turns -----------------------------------------------------------------------------------------------------------

now() { date +%s%N; }

# take NAME COMMAND...: one turn of a tool, which copies $file to srv/versus.conf of every host.
take() {
	name=$1
	shift
	head -c "$bytes" /dev/urandom >"$file" # that was not there before
	sync -f "$work" # what the turn before has left to do is not this one's
	begin=$(now)
	"$@" >"$work/turn.log" 2>&1 </dev/null &
	turn=$!
	wait "$turn" || { tail -n 20 "$work/turn.log" >&2; fail "$name failed"; }
	turn=''
	[ "$name" = waybill ] || sync -f "$work"
	end=$(now)
	sum=$(sha256sum <"$file")
	sum=${sum%% *}
	same=$(sha256sum "$work"/machines/*/srv/versus.conf | grep -c "^$sum " || true)
	[ "$same" -eq "$hosts" ] || fail "$name: $same of $hosts hosts have the file"
	[ "$round" -eq 0 ] || echo $((end - begin)) >>"$work/took/$name"
}

# median FILE: the middle line, in nanoseconds.
median() { sort -n "$1" | sed -n "$(($(wc -l <"$1") / 2 + 1))p"; }

for p in waybill waybill-agent; do
	[ -x "$programs/$p" ] || fail "no $programs/$p; run make build"
done
mkdir -p "$work/took/parallel-scp" "$work/took/clush" "$work/took/ansible/f$hosts" "$work/cp" "$work/state" "$work/public"
for h in $(names); do mkdir -p "$work/machines/$h/srv"; done
file=$work/public/versus.conf
names >"$work/hosts"

scp_there='' clush_there='' ansible_there='' curl_there='' rsync_there=''
if have curl nginx nginx; then
	curl_there=yes
	a_port serve_nginx
fi
if have rsync rsync; then
	rsync_there=yes
	a_port serve_rsync
fi
case " $tools " in *' parallel-scp '* | *' clush '* | *' ansible '*) over_ssh=yes ;; *) over_ssh='' ;; esac
if [ -z "$over_ssh" ]; then
	: # nothing to prepare
elif [ -z "$sshd" ] || [ -z "$sftp" ] || ! command -v ssh >/dev/null; then
	echo 'versus: no ssh, sshd or sftp-server here, so there is nothing to compare with;' \
		'on Debian they are in openssh-client, openssh-server and openssh-sftp-server' >&2
else
	if have parallel-scp pssh; then scp_there=yes; fi
	if have clush clustershell; then clush_there=yes; fi
	if have ansible ansible-core; then ansible_there=yes; fi
	start_sshd
fi
start_waybill

sed "s|\$| ansible_ssh_common_args='-F $work/ssh_config'|" "$work/hosts" >"$work/inventory"
: >"$work/ansible.cfg"
export ANSIBLE_CONFIG="$work/ansible.cfg" ANSIBLE_HOME="$work/ansible" ANSIBLE_SSH_CONTROL_PATH_DIR="$work/cp"
ansible_copy() { # NAME FLAGS...
	name=$1
	shift
	take "$name" ansible all -i "$work/inventory" "$@" -m copy -a "src=$file dest=srv/versus.conf"
}

round=0 # to warm up
while [ "$round" -le "$rounds" ]; do
	take waybill "$programs/waybill" send "$file" --to /srv --all --overwrite --owner "$(id -u)" --group "$(id -g)" \
		--timeout 1h --wait --credentials "$work/server/credentials.json"
	if [ -n "$scp_there" ]; then
		set -- -h "$work/hosts" -x "-F $work/ssh_config" "$file" srv/versus.conf
		take parallel-scp/default parallel-scp "$@"
		take "parallel-scp/p$hosts" parallel-scp -p "$hosts" "$@"
	fi
	if [ -n "$clush_there" ]; then
		set -- -S --hostfile "$work/hosts" -o "-F $work/ssh_config" --copy "$file" --dest srv/versus.conf
		take clush/default clush "$@"
		take "clush/f$hosts" clush -f "$hosts" "$@"
	fi
	if [ -n "$curl_there" ]; then
		take curl each_fetches curl -fsS --cacert "$work/nginx.pem" -o versus.conf "$from_nginx/versus.conf"
	fi
	if [ -n "$rsync_there" ]; then
		take rsync each_fetches rsync --whole-file --ignore-times "$from_rsync/versus.conf" versus.conf
	fi
	if [ -n "$ansible_there" ]; then
		end_masters
		ansible_copy "ansible/f$hosts/first" -f "$hosts"
		ansible_copy "ansible/f$hosts/again" -f "$hosts" # over the connections of the first
		end_masters
		ansible_copy ansible/default
	fi
	round=$((round + 1))
done

ours=$(median "$work/took/waybill")
for t in waybill parallel-scp/default "parallel-scp/p$hosts" clush/default "clush/f$hosts" \
	curl rsync ansible/default "ansible/f$hosts/first" "ansible/f$hosts/again"; do
	[ -f "$work/took/$t" ] || continue
	awk -v name="versus/$t" -v ns="$(median "$work/took/$t")" -v ours="$ours" -v hosts="$hosts" 'BEGIN {
		printf "%-34s %10.1f hosts/s\n", name, hosts / ns * 1e9
		printf "%-34s %10.0f ms\n", name "/time", ns / 1e6
		if (name != "versus/waybill") printf "%-34s %10.1f x\n", name "/ratio", ns / ours
	}'
done
# peak PID...: the most memory that any of these processes had.
peak() { for pid in "$@"; do sed -n 's/^VmHWM: *//p' "/proc/$pid/status"; done | sort -n | tail -n 1 | awk '{ print $1 / 1024 }'; }
if [ -r "/proc/$server/status" ]; then
	# shellcheck disable=SC2086 # it is a list
	printf '%-34s %10.1f MB\n%-34s %10.1f MB\n' versus/waybill/server-peak "$(peak "$server")" versus/waybill/agent-peak "$(peak $agents)"
fi
