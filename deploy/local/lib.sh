# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What every script of this folder shares: paths, ports, saying things, waiting for things.
# Settings (environment or `make up NAME=value`): PG_PORT KAFKA_PORT KAFKA_CONTROLLER_PORT S3_PORT
# GATEWAY_PORT PROBE_PORT_BASE, RUN_DIR, DOCFLEET_CACHE_DIR. Ports once chosen are remembered in
# RUN_DIR, so that `make status` needs no repetition.
set -Eeuo pipefail
# no script of ours ends without a word
trap 'echo "docfleet: ${0##*/} stopped in line $LINENO: $BASH_COMMAND" >&2' ERR

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
LOCAL=$ROOT/deploy/local
RUN=${RUN_DIR:-$ROOT/.run}
CACHE=${DOCFLEET_CACHE_DIR:-$HOME/.cache/docfleet}
BIN=${BIN_DIR:-$ROOT/build/release/bin}
SERVICES=(ingest-gateway dispatcher text-extractor ocr-fallback ai-extractor preview-worker
    thumbnail-worker cleaner importer)
SERVERS=(postgres kafka s3)
PG_BIN=/usr/lib/postgresql/15/bin

declare -A PORT_DEFAULTS=([PG_PORT]=15432 [KAFKA_PORT]=19092 [KAFKA_CONTROLLER_PORT]=19093
    [S3_PORT]=17070 [GATEWAY_PORT]=8080 [PROBE_PORT_BASE]=19101)
PORT_NAMES=(PG_PORT KAFKA_PORT KAFKA_CONTROLLER_PORT S3_PORT GATEWAY_PORT PROBE_PORT_BASE)

load_ports() {
    local name saved
    for name in "${PORT_NAMES[@]}"; do
        saved=''
        [ -r "$RUN/ports.env" ] && saved=$(sed -n "s/^$name=//p" "$RUN/ports.env")
        printf -v "$name" '%s' "${!name:-${saved:-${PORT_DEFAULTS[$name]}}}"
        [[ ${!name} =~ ^[0-9]+$ ]] && [ "${!name}" -gt 0 ] && [ "${!name}" -lt 65536 ] ||
            die "$name is not a port: '${!name}'"
    done
}

save_ports() {
    local name
    for name in "${PORT_NAMES[@]}"; do
        echo "$name=${!name}"
    done >"$RUN/ports.env"
}

say() { printf '%s\n' "$*"; }
warn() { printf 'docfleet: %s\n' "$*" >&2; }
die() {
    printf 'docfleet: %s\n' "$*" >&2
    exit 1
}

# Runs a step, tells how long it took, keeps its output in a log that is shown only on failure.
step() { # step "what" log-name command...
    local what=$1 log=$RUN/log/$2.log start=$EPOCHREALTIME rc=0
    shift 2
    mkdir -p "$RUN/log"
    "$@" >"$log" 2>&1 </dev/null || rc=$?
    if [ $rc != 0 ]; then
        printf '  %-34s failed\n' "$what"
        tail -n 30 "$log" >&2
        die "$what failed; the whole output is in $log"
    fi
    printf '  %-34s %s\n' "$what" "$(since "$start")"
}

since() { awk -v a="$1" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f s", b - a }'; }

listening() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# wait_until SECONDS WHAT COMMAND...
wait_until() {
    local limit=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $limit ] || return 1
        sleep 0.1
    done
}

file_hash() { cat "$@" | sha256sum | cut -c1-16; }

# Nothing of the caller's DOCFLEET_* may reach a program that refuses unknown names.
clean_env() {
    local name args=()
    for name in $(compgen -e | grep '^DOCFLEET_' || true); do
        args+=(-u "$name")
    done
    env "${args[@]}" "$@"
}

# --- supervisor: our own, never the system's ------------------------------------------------------
SUPERVISOR_CONF=$RUN/supervisord.conf

supervisor_socket() { # a unix socket path holds 107 bytes at most
    local sock=$RUN/supervisor.sock
    [ ${#sock} -le 100 ] || sock=/tmp/docfleet-$(echo "$RUN" | sha256sum | cut -c1-12).sock
    echo "$sock"
}

supervisor_pid() {
    local pid
    pid=$(cat "$RUN/supervisord.pid" 2>/dev/null) || return 1
    [ -n "$pid" ] && tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null |
        grep -qF -- "$SUPERVISOR_CONF" && echo "$pid"
}

supervisor_runs() { supervisor_pid >/dev/null; }

ctl() { supervisorctl -c "$SUPERVISOR_CONF" "$@"; }

# Services first, while the servers still answer: a worker that ends then leaves its consumer group,
# else the group waits for it until its session times out.
stop_services() {
    local running
    mapfile -t running < <(ctl status 2>/dev/null | awk '$2 ~ /RUNNING|STARTING|BACKOFF/ { print $1 }' |
        grep -vxE "$(IFS='|' && echo "${SERVERS[*]}")" || true)
    [ ${#running[@]} = 0 ] || ctl stop "${running[@]}" >/dev/null
}

need_running() { supervisor_runs || die "nothing runs here; start it with: make up"; }

probe_port() { # of a service, in the order of SERVICES
    local i
    for i in "${!SERVICES[@]}"; do
        [ "${SERVICES[$i]}" = "$1" ] && echo $((PROBE_PORT_BASE + i)) && return
    done
    return 1
}

port_of() {
    case $1 in
    postgres) echo "$PG_PORT" ;;
    kafka) echo "$KAFKA_PORT" ;;
    s3) echo "$S3_PORT" ;;
    *) probe_port "$1" ;;
    esac
}
