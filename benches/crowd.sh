#!/usr/bin/env bash
# Measures pages while many other clients are connected: 10,000 idle connections, or 4,000 slow clients of
# each kind that slowhttptest has. Prints a Markdown table of medians over all rounds.
#
#   cargo build --release && benches/crowd.sh
#
# Needs bash, awk, curl and wrk, and slowhttptest for the slow clients (apt-get install curl wrk slowhttptest). Each
# round starts a fresh server and measures it alone, then under each load, so that other activity on the machine affects
# all rows alike. A round takes about three minutes. The script works in a temporary folder and stops every process that
# it started, even after Ctrl-C. ROUNDS, SECONDS_EACH, IDLE and SLOW change the size of the run.
#
# slowhttptest sends to all its connections at once, every $period seconds. A measurement takes a multiple of that,
# so that as many of these bursts fall into each.
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
ninetabs=${NINETABS:-$here/target/release/ninetabs}
rounds=${ROUNDS:-3}
period=5
seconds=${SECONDS_EACH:-$((2 * period))}
idle=${IDLE:-10000}
slow=${SLOW:-4000}
folder=$(mktemp -d)
server= attack=
stop() {
    for pid in $attack $server; do
        kill -TERM "$pid" 2> /dev/null || true
        wait "$pid" 2> /dev/null || true
    done
    server= attack=
}
trap 'stop; rm -rf "$folder"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
ulimit -n "$(ulimit -Hn)"
say() { echo "crowd.sh: $*" >&2; }

cd "$folder"
[ -x "$ninetabs" ] || { say "cannot find $ninetabs: run cargo build --release"; exit 1; }
command -v wrk > /dev/null || { say "wrk is not installed: run apt-get install wrk"; exit 1; }
if [ "$(ulimit -n)" -lt $((idle + 500)) ]; then
    idle=$(($(ulimit -n) - 500))
    say "the limit on open files allows only $idle idle connections"
fi
kinds=(alone idle)
if command -v slowhttptest > /dev/null; then
    kinds+=(heads bodies reads)
else
    say "slowhttptest is not installed: leaving out the slow clients"
fi

value() { awk -F'tcp://' -v key="$1" '$1 ~ key { print $2 }' state; }
start() {
    rm -f state
    "$ninetabs" serve --bind tcp://127.0.0.1:0 --control-url tcp://127.0.0.1:0 --state state \
        --threads 8:8 --produce-every off --database crowd.sqlite3 > said 2>&1 &
    server=$!
    until [ -s state ]; do sleep 0.02; done
    app=$(value bind) control=$(value control_url)
}
open() { curl -s "http://$control/stats" | sed -n 's/.*"connections":{"open":\([0-9]*\).*/\1/p'; }
resident() { awk '/^VmRSS/ { print $2 }' "/proc/$server/status"; }
threads() { awk '/^Threads/ { print $2 }' "/proc/$server/status"; }
# Appends the p99 in ms and the pages per second, measured with 8 connections.
pages() {
    wrk -t 1 -c 8 -d "${seconds}s" --latency "http://$app/up" > wrk-said
    awk '/^Requests\/sec/ { print $2 }' wrk-said >> "rate.$1"
    awk '$1 == "99%" { by = $2 ~ /us$/ ? 0.001 : $2 ~ /ms$/ ? 1 : 1000; print $2 * by }' wrk-said >> "p99.$1"
}
# Opens connections that get one answer and then stay idle.
idle_crowd() {
    local fds=() fd before count
    before=$(resident) count=$(threads)
    for _ in $(seq "$idle"); do
        exec {fd}<> "/dev/tcp/${app%:*}/${app#*:}"
        printf 'GET /up HTTP/1.1\r\nHost: localhost\r\n\r\n' >&"$fd"
        fds+=("$fd")
    done
    # No timeout, since bash supports none for descriptors above 1,023.
    for fd in "${fds[@]}"; do read -r -N 1 -u "$fd" _; done
    echo $((($(resident) - before) * 1024 / idle)) >> bytes.idle
    echo $(($(threads) - count)) >> threads.idle
    echo "$(open)" >> open.idle
    pages idle
    for fd in "${fds[@]}"; do exec {fd}>&-; done
}
slow_crowd() {
    local name=$1 seen before=0
    shift
    # Continues once the number of connections stops growing. It may not reach $slow, because the server
    # closes some kinds of slow clients.
    slowhttptest "$@" -c "$slow" -r 1000 -l 120 -p 5 -o attack > attack-said 2>&1 &
    attack=$!
    while sleep 2; do
        seen=$(open)
        [ "$seen" -le "$before" ] && break
        before=$seen
    done
    echo "$seen" >> "open.$name"
    pages "$name"
    kill -TERM "$attack" 2> /dev/null || true
    wait "$attack" 2> /dev/null || true
    attack=
    until [ "$(open)" -le 1 ]; do sleep 0.2; done
}

load=$(cut -d' ' -f1 /proc/loadavg)
for round in $(seq "$rounds"); do
    say "round $round of $rounds"
    start
    # The first requests run on cold caches.
    wrk -t 1 -c 8 -d 1s "http://$app/up" > /dev/null
    pages alone
    idle_crowd
    if [ "${#kinds[@]}" -gt 2 ]; then
        slow_crowd heads -H -i "$period" -u "http://$app/up"
        slow_crowd bodies -B -i "$period" -s 8192 -x 24 -u "http://$app/models"
        slow_crowd reads -X -w 512 -y 1024 -n "$period" -z 32 -k 3 -u "http://$app/"
    fi
    stop
done

median() { sort -n "$1" | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
told() { case $1 in alone) echo "no other client" ;; idle) echo "$idle idle connections" ;; *) echo "slowhttptest, slow $1" ;; esac; }
echo "$("$ninetabs" --version), $(date -u +%F), $(nproc) cores, Linux $(uname -r); load average $load before;"
echo "pages by wrk, 8 connections, $seconds s each, medians of $rounds rounds."
echo
echo "| load | connected | pages per second | their p99, ms | p99 as a multiple of alone |"
echo "|---|---|---|---|---|"
alone=$(median p99.alone)
for kind in "${kinds[@]}"; do
    connected=
    [ "$kind" = alone ] || connected=$(median "open.$kind")
    p99=$(median "p99.$kind")
    printf '| %s | %s | %.0f | %.2f | %.2f |\n' "$(told "$kind")" "$connected" "$(median "rate.$kind")" "$p99" \
        "$(awk -v a="$p99" -v b="$alone" 'BEGIN { print a / b }')"
done
echo
echo "An idle connection costs $(median bytes.idle) bytes resident; additional threads for all of them: $(median threads.idle)."
