#!/usr/bin/env bash
# Measures several servers on one PostgreSQL database beside the same servers on one SQLite file: models created per
# second, the time from a create to the tabs of the same server and of another one, and `push` to thousands of tabs on
# three servers. Prints Markdown: medians over all rounds.
#
#   cargo build --release && benches/servers.sh
#
# Needs bash, awk, cargo, wrk and PostgreSQL. Takes about three minutes. ROUNDS, SECONDS_EACH, LISTENERS and TOLD
# (messages per round) change the size of the run. The limit on open files must be above the number of listeners. The
# database is private and in a temporary folder, with PostgreSQL's own default settings, so a commit waits for the disk.
# The script stops every process that it started.
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
ninetabs=${NINETABS:-$here/target/release/ninetabs}
rounds=${ROUNDS:-3}
seconds=${SECONDS_EACH:-3}
listeners=${LISTENERS:-5000}
told=${TOLD:-20}
folder=$(mktemp -d)
cluster=

say() { echo "servers.sh: $*" >&2; }
stop() {
    [ -z "$cluster" ] || kill -INT "$cluster" 2> /dev/null || true
    [ -z "$cluster" ] || wait "$cluster" 2> /dev/null || true
    cluster=
}
trap 'stop; rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM

[ -x "$ninetabs" ] || { say "cannot find $ninetabs: run cargo build --release"; exit 1; }
command -v wrk > /dev/null || { say "cannot find wrk: install the package wrk"; exit 1; }
ulimit -n "$(ulimit -Hn)"
if [ "$(ulimit -n)" != unlimited ] && [ "$(ulimit -n)" -lt $((listeners + 1000)) ]; then
    say "$listeners listeners need more than $(ulimit -n) descriptors: raise the limit on open files"
    exit 1
fi
say "building the clients"
client=$(cd "$here" && cargo bench --quiet --no-run --bench listeners --message-format=json |
    sed -n 's/.*"executable":"\([^"]*listeners[^"]*\)".*/\1/p' | tail -1)
cd "$folder"
cat > create.lua << 'LUA'
wrk.method = "POST"
wrk.body = "name=x"
wrk.headers["Content-Type"] = "application/x-www-form-urlencoded"
LUA

# Starts three servers on this engine, and sets `address` (of each server) and `process` (of the first one).
start() {
    "$ninetabs" cluster --engine "$1" --servers 3 --tabs 0 -- --produce-every off > cluster.log 2>&1 &
    cluster=$!
    for _ in $(seq 300); do
        mapfile -t address < <(sed -n 's|^Server [0-9]* .*: http://\([0-9.:]*\)/.*|\1|p' cluster.log)
        [ "${#address[@]}" -lt 3 ] || break
        kill -0 "$cluster" 2> /dev/null || break
        sleep 0.1
    done
    process=$(sed -n 's/^Server 1 (process \([0-9]*\)).*/\1/p' cluster.log)
    [ "${#address[@]}" = 3 ] && return
    say "the servers did not start:"
    cat cluster.log >&2
    exit 1
}

# Prints the number of models that this many writers create per second at these servers, each of which gets its share.
creates() {
    local writers=$1 at wrks=()
    shift
    for at in "$@"; do
        wrk -t1 -c"$((writers / $#))" -d"${seconds}s" -s create.lua "http://$at/models" > "wrk.$at" &
        wrks+=($!)
    done
    wait "${wrks[@]}"
    if grep -h 'Non-2xx\|Socket errors' wrk.* >&2; then say "not every create was answered with 201"; exit 1; fi
    sed -n 's/^Requests\/sec: *//p' wrk.* | awk '{ sum += $1 } END { print sum }'
    rm wrk.*
}

load=$(cut -d' ' -f1 /proc/loadavg)
engines=(sqlite3 postgresql)
for round in $(seq "$rounds"); do
    for engine in "${engines[@]}"; do
        say "round $round of $rounds: $engine"
        start "$engine"
        {
            creates 1 "${address[0]}"
            creates 16 "${address[0]}"
            creates 18 "${address[@]}"
        } | paste -sd' ' >> "creates.$engine"
        # A new database, so that no tab has to read the models that were just created.
        stop
        start "$engine"
        "$client" "${address[0]}" push 100 "$told" "$process" >> "same.$engine"
        "$client" "${address[0]}/${address[1]}" push 100 "$told" "$process" >> "other.$engine"
        "$client" "${address[0]}/${address[0]},${address[1]},${address[2]}" push "$listeners" "$told" "$process" >> "many.$engine"
        stop
    done
done

# Prints the median of one column of a file.
median() { awk -v at="$2" '{ print $at }' "$1" | sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
row() { # heading, file, column, format
    printf '| %s |' "$1"
    for engine in "${engines[@]}"; do printf " $4 |" "$(median "$2.$engine" "$3")"; done
    echo
}
echo "$("$ninetabs" --version); $(date -u +%F), $(nproc) cores, Linux $(uname -r); load average $load before;"
echo "medians of $rounds rounds; creates: $seconds s each; $told messages per round."
echo
echo "| what | SQLite | PostgreSQL |"
echo "|---|---|---|"
row "models per second, 1 writer at one server" creates 1 %.0f
row "models per second, 16 writers at one server" creates 2 %.0f
row "models per second, 18 writers at three servers" creates 3 %.0f
row "create to 100 tabs of the same server, median, ms" same 1 %s
row "the same, p99, ms" same 2 %s
row "create to 100 tabs of another server, median, ms" other 1 %s
row "the same, p99, ms" other 2 %s
row "create to $listeners tabs on three servers, median, ms" many 1 %s
row "the same, p99, ms" many 2 %s
row "wait of the publisher, with these tabs, ms" many 3 %s
