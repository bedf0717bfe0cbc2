#!/usr/bin/env bash
# Measures the figures of docs/measurements.md and prints them as a Markdown table.
#
#   cargo build --release && docs/measure.sh
#   FRONT=tiny-http docs/measure.sh
#
# Needs bash, curl, awk and ab (apt-get install curl apache2-utils). If Puma is installed (apt-get
# install puma), it is measured in the same run. The script takes about two minutes, works in a
# temporary folder and ends every process that it started.
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
ninetabs=${NINETABS:-$here/target/release/ninetabs}
front=${FRONT:-puma}
folder=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; wait; rm -rf "$folder"' EXIT
cd "$folder"
ulimit -n "$(ulimit -Hn)"

row() { printf '| %s | %s |\n' "$1" "$2"; }
# Median, 99th percentile and maximum of the numbers on standard input, times $1.
middle() {
    sort -n | awk -v by="$1" '{ v[NR] = $1 * by }
        END { printf "median %.2f, p99 %.2f, max %.2f", v[int((NR + 1) / 2)], v[int((NR - 1) * 0.99) + 1], v[NR] }'
}
value() { awk -F'tcp://' -v key="$1" '$1 ~ key { print $2 }' state; }

serve() {
    rm -f state
    "$ninetabs" serve --front "$front" --bind tcp://127.0.0.1:0 --control-url tcp://127.0.0.1:0 --state state \
        --database measure.sqlite3 "$@" > said 2> log &
    server=$!
    pids+=("$server")
    until [ -s state ]; do sleep 0.02; done
    app=$(value bind) control=$(value control_url)
}
stop() {
    kill -INT "$server"
    wait "$server" || true
}
stat() { curl -s "http://$control/stats" | grep -o "\"$1\":[0-9]*" | head -1 | cut -d: -f2; }
threads() { awk '/^Threads/ { print $2 }' "/proc/$server/status"; }
resident() { awk '/^VmRSS/ { print $2 }' "/proc/$server/status"; }
# The part of the resident memory in the threads' stacks: mappings of 2 MiB, the size of a stack.
in_stacks() { awk '/^Size:/ { size = $2 } /^Rss:/ && size >= 2044 && size <= 2052 { sum += $2 } END { print sum + 0 }' "/proc/$server/smaps"; }
descriptors() { ls "/proc/$server/fd" | wc -l; }
# Opens $1 connections that send $2 and are never read, into the array fds.
connect() {
    fds=()
    for _ in $(seq "$1"); do
        exec {fd}<> "/dev/tcp/${app%:*}/${app#*:}"
        [ -z "$2" ] || printf '%b' "$2" >&"$fd"
        fds+=("$fd")
        # Without a pause, tiny_http can leave some connections of a burst unread.
        sleep 0.003
    done
}
disconnect() { for fd in "${fds[@]}"; do exec {fd}>&-; done; }
stream='GET /models/live_stream HTTP/1.1\r\nHost: localhost\r\n\r\n'
first_byte() { curl -sN -o /dev/null -m 0.4 -w '%{time_starttransfer}\n' "http://$1/models/live_stream" || true; }
page() { curl -s -o /dev/null -w '%{time_total}\n' "http://$1/up"; }
pages() {
    ab -q -n 4000 -c "$2" "http://$1/up" 2> /dev/null |
        awk '/^Requests per second/ { rate = $4 } /^ +50%/ { half = $2 } /^ +99%/ { most = $2 }
             END { printf "%d per second; median %d ms, p99 %d ms", rate, half, most }'
}
port_of_the_next() { shuf -i 20000-29999 -n 1; }

puma=
if command -v puma > /dev/null; then
    cat > config.ru << 'RUBY'
class Stream
  def each
    loop do
      yield "data: []\n\n"
      sleep 0.05
    end
  end
end
run ->(env) {
  if env['PATH_INFO'] == '/up'
    [200, { 'Content-Type' => 'text/html' }, ["up\n"]]
  else
    [200, { 'Content-Type' => 'text/event-stream' }, Stream.new]
  end
}
RUBY
    puma="127.0.0.1:$(port_of_the_next)"
    puma -q -e production -t 8:8 -b "tcp://$puma" config.ru > puma-said 2>&1 &
    pids+=($!)
    until curl -s -o /dev/null "http://$puma/up"; do sleep 0.1; done
fi

echo "$("$ninetabs" --version) --front $front, $(date -u +%F), $(nproc) cores, Linux $(uname -r)${puma:+, Puma $(puma --version | awk '{ print $NF }')}"
echo
row "what" "figure"
row "---" "---"

serve --update-rate 50ms
for _ in $(seq 15); do
    first_byte "$app" >> ours-first
    [ -z "$puma" ] || first_byte "$puma" >> puma-first
done
row "first byte of a stream with a free thread, 15 times, ms" "$(middle 1000 < ours-first)"
[ -z "$puma" ] || row "the same, Puma" "$(middle 1000 < puma-first)"
for _ in $(seq 40); do
    page "$app" >> ours-page
    [ -z "$puma" ] || page "$puma" >> puma-page
done
row "one page (/up) by curl, 40 times, ms" "$(middle 1000 < ours-page)"
[ -z "$puma" ] || row "the same, Puma" "$(middle 1000 < puma-page)"
if command -v ab > /dev/null; then
    for clients in 1 8; do
        row "pages by ab, one connection per page, $clients at a time" "$(pages "$app" $clients)"
        [ -z "$puma" ] || row "the same, Puma" "$(pages "$puma" $clients)"
    done
fi
stop

# From the end of a stream to the first write of the queued one, on the server's clock.
serve --threads 1:1 --update-rate 50ms --produce-every off
for _ in $(seq 100); do
    curl -sN -o /dev/null -m 10 "http://$app/models/live_stream?tab=a" & first=$!
    until [ "$(stat busy_threads)" = 1 ]; do :; done
    curl -sN -o /dev/null -m 10 "http://$app/models/live_stream?tab=b" & second=$!
    until [ "$(stat backlog)" = 1 ]; do :; done
    kill "$first"
    until [ "$(stat backlog)" = 0 ]; do :; done
    kill "$second"
    wait "$first" "$second" || true
    until [ "$(stat busy_threads)" = 0 ]; do :; done
done 2> /dev/null
curl -s "http://$control/timeline" | tr '{' '\n' | awk -F'[:,}]' '
    { for (i = 1; i < NF; i++) { if ($i ~ /"at_us"/) at = $(i + 1); if ($i ~ /"request"/) of = $(i + 1) } }
    /"target":"[^"]*tab=b"/ { waits[of] = 1 }
    /"kind":"finished"/ && !(of in waits) { ended = at }
    /"kind":"wrote"/ && of in waits && waits[of] == 1 { print at - ended; waits[of] = 2 }' > hand-off
row "a queued stream's first write after its thread became idle, $(wc -l < hand-off) times, µs" "$(middle 1 < hand-off)"
stop

for lease in "" "--db-lease query --db-pool 8"; do
    # shellcheck disable=SC2086 # Two flags, or none.
    serve --threads 8:400 --update-rate 1 $lease
    # Memory that all streams share is allocated first: the record, and the database's connections.
    ab -q -n 6000 -c 8 "http://$app/" > visited 2>&1
    before=$(resident) stacks=$(in_stacks) count=$(threads)
    connect 300 "$stream"
    sleep 2
    more=$(($(in_stacks) - stacks))
    row "300 open streams${lease:+, $lease}" "$(stat open) open; $((($(resident) - before) / 300)) KB resident each, $((more / 300)) of them stack, and $(awk "BEGIN { printf \"%.2f\", ($(threads) - $count) / 300 }") more threads for each"
    disconnect
    stop
done

serve
page "$app" > /dev/null
before=$(resident) count=$(threads) open=$(descriptors)
connect 1000 ""
sleep 1
row "1,000 idle connections" "$(($(threads) - count)) threads, $(($(descriptors) - open)) descriptors, $((($(resident) - before))) KB resident more"
for _ in $(seq 40); do page "$app"; done > idle-page
row "one page with these connections open, 40 times, ms" "$(middle 1000 < idle-page)"
disconnect
sleep 7
row "7 s after they have closed" "$(($(threads) - count)) threads, $(($(descriptors) - open)) descriptors, $((($(resident) - before))) KB more than before"
stop

# Eight clients that ask for 9 MB of rows and never read: more than the buffers of both kernels hold.
bound="5 + 1"
[ "$front" = puma ] || bound="$bound + 10"
serve --max-stream-age 5 --produce-every off
large=$(head -c 16000 /dev/zero | tr '\0' x)
for _ in $(seq 600); do printf 'name=%s' "$large" | curl -s -o /dev/null -d @- "http://$app/models"; done
began=${EPOCHREALTIME/./}
connect 8 "${stream/live_stream/live_stream?last_event_id=0}"
until [ "$(stat pool_capacity)" = 0 ]; do sleep 0.05; done
until [ "$(stat pool_capacity)" = 8 ]; do sleep 0.05; done
row "eight blocked readers, --max-stream-age 5: the pool is free again, s" "$(((${EPOCHREALTIME/./} - began) / 1000000)).$(((${EPOCHREALTIME/./} - began) / 100000 % 10)) (limit $bound)"
disconnect
stop

for n in $(seq 0 10); do
    port=$(port_of_the_next) began=${EPOCHREALTIME/./}
    "$ninetabs" serve --front "$front" --bind "tcp://127.0.0.1:$port" --control-url tcp://127.0.0.1:0 --database start.sqlite3 > said 2> log &
    server=$!
    pids+=("$server")
    until exec {fd}<> "/dev/tcp/127.0.0.1/$port"; do :; done 2> /dev/null
    printf 'GET /up HTTP/1.1\r\nHost: localhost\r\n\r\n' >&"$fd"
    read -r _ <&"$fd"
    # The first start creates the database.
    [ "$n" = 0 ] || echo $((${EPOCHREALTIME/./} - began)) >> start
    exec {fd}>&-
    stop
done
row "start to first answer, with a database, 10 times, ms" "$(middle 0.001 < start)"
row "size of the program" "$(($(wc -c < "$ninetabs") / 1024)) KB"
