#!/usr/bin/env bash
# A Ray cluster of several nodes on this machine, as jobs meet it elsewhere: a head that takes no tasks, workers with
# addresses of their own, token authentication. The dashboard listens on loopback; Ray's own ports are open on all
# addresses (it keeps to loopback only where every node is 127.0.0.1), and refuse who has not the token.
set -euo pipefail

usage="usage: infra/local-cluster.sh start [WORKERS [CPUS_OF_EACH]] | env | status | stop"
# Short, since the path of a Unix socket inside it must stay under 107 characters.
folder=${TRANSDOMAIN_CLUSTER:-/tmp/transdomain-cluster-$(id -u)}
ray=(ray)
[[ -x .venv/bin/ray ]] && ray=(.venv/bin/ray)

# Above those of Ray's workers, and below those that the system hands out meanwhile.
free_ports() {
    python3 - "$1" <<'PYTHON'
import contextlib, random, socket, sys
held = []
while len(held) < int(sys.argv[1]):
    with contextlib.suppress(OSError):
        held.append(socket.create_server(("127.0.0.2", random.randrange(20000, 32000))))
print(*(each.getsockname()[1] for each in held))
PYTHON
}

die() {
    echo "local-cluster: $1" >&2
    exit "${2:-1}"
}

# One node in the background; its process id is kept, for `stop`. The object store is small, as /dev/shm often is.
launch() {
    "${ray[@]}" start --block --disable-usage-stats --object-store-memory 200000000 "$@" >>"$folder/log" 2>&1 </dev/null &
    echo $! >>"$folder/pids"
}

start() {
    local workers=$1 cpus=$2 gcs dashboard metrics agent client
    [[ -e $folder/pids ]] && die "there is one in $folder already; stop it first: infra/local-cluster.sh stop"
    (umask 077 && mkdir -p "$folder")
    read -r gcs dashboard metrics agent client < <(free_ports 5)
    (umask 077 && cat >"$folder/env" <<EOF
export RAY_ADDRESS=127.0.0.2:$gcs
export RAY_API_SERVER_ADDRESS=http://127.0.0.1:$dashboard
export RAY_AUTH_MODE=token
export RAY_AUTH_TOKEN=$(python3 -c 'import secrets; print(secrets.token_hex(32))')
export TRANSDOMAIN_METRICS=http://127.0.0.2:$metrics/metrics
EOF
    )
    load
    # The head is told of its own port; the other two would be taken for a cluster to join.
    export RAY_JOB_STOP_WAIT_TIME_S=120
    (unset RAY_ADDRESS && launch --head --node-ip-address 127.0.0.2 --port "$gcs" --num-cpus 0 --temp-dir "$folder/ray" \
        --dashboard-host 127.0.0.1 --dashboard-port "$dashboard" --dashboard-agent-listen-port "$agent" \
        --metrics-export-port "$metrics" --ray-client-server-port "$client")
    wait_for 1
    # One after another: Ray gives up on a node that takes half a minute, which many at once may on a busy machine.
    for ((i = 1; i <= workers; i++)); do
        launch --address "$RAY_ADDRESS" --node-ip-address "127.0.0.$((i + 2))" --num-cpus "$cpus" --dashboard-agent-listen-port 0
        wait_for $((i + 1))
    done
    echo "a head and $workers worker(s) run, logs in $folder; to use them: eval \"\$(infra/local-cluster.sh env)\""
}

load() {
    [[ -e $folder/env ]] || die "none runs in $folder; start one: infra/local-cluster.sh start"
    # shellcheck source=/dev/null
    source "$folder/env"
}

# Ray itself would try for a minute to reach a head that is not there.
nodes() {
    (: <"/dev/tcp/${RAY_ADDRESS/://}") 2>/dev/null || { echo 0 && return; }
    "${ray[@]}" status --address "$RAY_ADDRESS" 2>/dev/null | grep -c " node_" || true
}

wait_for() {
    for _ in {1..120}; do
        while read -r pid; do
            kill -0 "$pid" 2>/dev/null || give_up "a node ended"
        done <"$folder/pids"
        [[ $(nodes) -ge $1 ]] && return
        sleep 0.5
    done
    give_up "only $(nodes) of $1 node(s) came up"
}

give_up() {
    local why
    why="$1: $(grep . "$folder/log" | tail -n 20)"
    stop >/dev/null
    die "$why"
}

# The workers first: a head that is gone would have them complain for a while.
stop() {
    [[ -e $folder/pids ]] || die "none runs in $folder" 0
    local pid
    while read -r pid; do
        kill -TERM "$pid" 2>/dev/null || true
    done < <(tac "$folder/pids")
    while read -r pid; do
        for _ in {1..100}; do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.1
        done
        kill -KILL "$pid" 2>/dev/null || true
    done <"$folder/pids"
    rm -rf "$folder"
    echo "stopped"
}

case ${1:-} in
    start) start "${2:-2}" "${3:-1}" ;;
    env) load && cat "$folder/env" ;;
    status) load && "${ray[@]}" status --address "$RAY_ADDRESS" ;;
    stop) stop ;;
    *) die "$usage" 2 ;;
esac
