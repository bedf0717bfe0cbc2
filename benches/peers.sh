#!/usr/bin/env bash
# Compares both fronts, Debian's Puma, nginx and the bare pool under the same load. Prints a Markdown table of
# medians over all rounds.
#
#   cargo build --release && benches/peers.sh
#
# Needs bash, curl and awk, and wrk for most of its rows. Puma, nginx (apt-get install wrk puma nginx-light) and the
# bare pool, which cargo builds, are left out with a message if they are missing. One server runs at a time, on a free
# loopback port, and each round measures every server, so that other activity on the machine affects all servers alike.
# It takes about seven minutes. The script works in a temporary folder and stops every process that it started, even
# after Ctrl-C. ROUNDS, SECONDS_EACH and IDLE change the size of the run. With LISTENERS=5000 it continues with
# benches/listeners.sh: push and cable beside nginx with nchan.
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
ninetabs=${NINETABS:-$here/target/release/ninetabs}
rounds=${ROUNDS:-5}
seconds=${SECONDS_EACH:-3}
idle=${IDLE:-1000}
folder=$(mktemp -d)
server=
trap 'stop; rm -rf "$folder"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
ulimit -n "$(ulimit -Hn)"

# Sends TERM, and KILL if the server is still running ten seconds later.
stop() {
    [ -n "$server" ] || return 0
    kill -TERM "$server" 2> /dev/null || true
    for _ in $(seq 100); do
        kill -0 "$server" 2> /dev/null || break
        sleep 0.1
    done
    kill -KILL "$server" 2> /dev/null || true
    wait "$server" 2> /dev/null || true
    server=
}
say() { echo "peers.sh: $*" >&2; }
has() { command -v "$1" > /dev/null; }

cd "$folder"
[ -x "$ninetabs" ] || { say "cannot find $ninetabs: run cargo build --release"; exit 1; }
peers=(puma-front tiny-http-front)
missing=()
if has puma; then peers+=(puma); else missing+=("Puma"); fi
if has nginx; then peers+=(nginx); else missing+=("nginx"); fi
bare=${BARE_POOL:-}
if [ -z "$bare" ] && has cargo; then
    say "building the bare pool"
    bare=$(cd "$here" && cargo bench --quiet --no-run --bench bare_pool --message-format=json |
        sed -n 's/.*"executable":"\([^"]*bare_pool[^"]*\)".*/\1/p' | tail -1)
fi
if [ -n "$bare" ]; then peers+=(bare-pool); else missing+=("the bare pool (cargo builds it)"); fi
has wrk || missing+=("the rows by wrk")
for it in "${missing[@]}"; do say "not installed, left out: $it"; done

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
    [200, { 'Content-Type' => 'text/html; charset=utf-8' }, ["up\n"]]
  else
    [200, { 'Content-Type' => 'text/event-stream' }, Stream.new]
  end
}
RUBY

nginx_conf() {
    mkdir -p temp
    cat > nginx.conf << NGINX
worker_processes 1;
daemon off;
pid $folder/nginx.pid;
error_log stderr crit;
events { worker_connections 20000; }
http {
    access_log off;
    client_body_temp_path $folder/temp;
    proxy_temp_path $folder/temp;
    fastcgi_temp_path $folder/temp;
    uwsgi_temp_path $folder/temp;
    scgi_temp_path $folder/temp;
    server {
        listen 127.0.0.1:$port backlog=1024;
        location = /up { default_type "text/html; charset=utf-8"; return 200 "up\n"; }
    }
}
NGINX
}

# Sets port to a free one.
free_port() {
    while port=$(shuf -i 20000-29999 -n 1) && (: <> "/dev/tcp/127.0.0.1/$port") 2> /dev/null; do :; done
}

# Starts $1 on $port and waits for its first answer. If $2 names a file, appends the milliseconds to it.
start() {
    free_port
    [ "$1" != nginx ] || nginx_conf
    local began=${EPOCHREALTIME/./} fd line=
    case $1 in
        *-front) exec "$ninetabs" serve --front "${1%-front}" --bind "tcp://127.0.0.1:$port" --control-url tcp://127.0.0.1:0 \
            --threads 8:8 --update-rate 50ms --produce-every off --database "$folder/$1.sqlite3" ;;
        puma) exec puma -q -e production -t 8:8 -b "tcp://127.0.0.1:$port" config.ru ;;
        nginx) exec nginx -e stderr -c "$folder/nginx.conf" ;;
        bare-pool) exec "$bare" --port "$port" --for 3600 ;;
    esac > "$1.log" 2>&1 &
    server=$!
    while [ -z "$line" ]; do
        if { exec {fd}<> "/dev/tcp/127.0.0.1/$port"; } 2> /dev/null; then
            printf 'GET /up HTTP/1.1\r\nHost: localhost\r\n\r\n' >&"$fd"
            read -r -t 10 line <&"$fd" || true
            exec {fd}>&-
        elif ! kill -0 "$server" 2> /dev/null; then
            say "$1 did not start:"
            cat "$1.log" >&2
            exit 1
        fi
    done
    [ -z "${2:-}" ] || echo $((${EPOCHREALTIME/./} - began)) | awk '{ print $1 / 1000 }' >> "$2"
}

# Prints the process IDs of the server and its children.
family() { echo "$server" $(cat "/proc/$server/task/$server/children"); }
threads() { for pid in $(family); do awk '/^Threads/ { print $2 }' "/proc/$pid/status"; done | awk '{ n += $1 } END { print n }'; }
resident() { for pid in $(family); do awk '/^VmRSS/ { print $2 }' "/proc/$pid/status"; done | awk '{ n += $1 } END { print n }'; }

# Measures the requests per second and the p99 in ms, at $2 connections.
pages() {
    wrk -t 1 -c "$2" -d "${seconds}s" --latency "http://127.0.0.1:$port/up" > said
    awk '/^Requests\/sec/ { print $2 }' said >> "rate-$2.$1"
    awk '$1 == "99%" { by = $2 ~ /us$/ ? 0.001 : $2 ~ /ms$/ ? 1 : 1000; print $2 * by }' said >> "p99-$2.$1"
}

# Measures the time from the request's last byte to the answer's first byte, in ms.
first_bytes() {
    for _ in $(seq 10); do
        curl -sN -o /dev/null -m 0.3 -w '%{time_pretransfer} %{time_starttransfer}\n' \
            "http://127.0.0.1:$port/models/live_stream" || true
    done | awk '{ print ($2 - $1) * 1000 }' >> "first-byte.$1"
}

# Opens connections that get one answer and then stay idle.
idle_connections() {
    local fds=() fd n before count unanswered=0
    before=$(resident) count=$(threads)
    for n in $(seq "$idle"); do
        exec {fd}<> "/dev/tcp/127.0.0.1/$port"
        printf 'GET /up HTTP/1.1\r\nHost: localhost\r\n\r\n' >&"$fd"
        fds+=("$fd")
        # Without a pause, tiny_http can leave some connections of a burst unread.
        [ $((n % 10)) != 0 ] || sleep 0.01
    done
    # Every connection has been answered once the first byte of its answer is there.
    for fd in "${fds[@]}"; do read -r -t 2 -N 1 -u "$fd" _ || unanswered=$((unanswered + 1)); done
    [ "$unanswered" = 0 ] || say "$1 left $unanswered of $idle connections without an answer"
    awk -v by="$idle" -v kb="$(($(resident) - before))" 'BEGIN { print kb / by }' >> "idle-memory.$1"
    echo $(($(threads) - count)) >> "idle-threads.$1"
    for fd in "${fds[@]}"; do exec {fd}>&-; done
}

load=$(cut -d' ' -f1 /proc/loadavg)
for round in $(seq "$rounds"); do
    for peer in "${peers[@]}"; do
        say "round $round of $rounds: $peer"
        start "$peer"
        if has wrk; then
            pages "$peer" 8
            pages "$peer" 64
        fi
        case $peer in *-front | puma) first_bytes "$peer" ;; esac
        stop
        start "$peer" "start.$peer"
        idle_connections "$peer"
        stop
    done
done

# Prints percentile $2 of the values in a file, or nothing.
percentile() { [ ! -s "$1" ] || sort -n "$1" | awk -v at="$2" '{ v[NR] = $1 } END { print v[int((NR - 1) * at / 100) + 1] }'; }
# Prints a row. Arguments: label, printf format, file name, percentile.
row() {
    local peer value
    printf '| %s |' "$1"
    for peer in "${peers[@]}"; do
        value=$(percentile "$3.$peer" "$4")
        # shellcheck disable=SC2059 # The format is the row's own.
        if [ -n "$value" ]; then printf " $2 |" "$value"; else printf ' |'; fi
    done
    echo
}
# Prints a row: our value as a multiple of each peer's.
multiple() {
    local peer ours
    ours=$(percentile "$1.puma-front" 50)
    printf '| the puma front as a multiple |'
    for peer in "${peers[@]}"; do awk -v a="$ours" -v b="$(percentile "$1.$peer" 50)" 'BEGIN { printf " %.2f |", a / b }'; done
    echo
}

version=$(puma --version 2> /dev/null | awk '{ print $NF }') || true
web=$(nginx -v 2>&1 | sed 's/.*nginx/nginx/') || true
echo "$("$ninetabs" --version), Puma ${version:-(none)}, ${web:-no nginx}; $(date -u +%F), $(nproc) cores, Linux $(uname -r);"
echo "load average $load before, $(cut -d' ' -f1 /proc/loadavg) after; medians of $rounds rounds, $seconds s each."
echo
printf '| what |'
for peer in "${peers[@]}"; do
    case $peer in
        *-front) printf ' `--front %s` |' "${peer%-front}" ;;
        puma) printf ' Puma |' ;;
        bare-pool) printf ' bare pool |' ;;
        *) printf ' %s |' "$peer" ;;
    esac
done
echo
printf '|---|'
printf -- '---|%.0s' "${peers[@]}"
echo
if has wrk; then
    for connections in 8 64; do
        row "pages per second, $connections connections" "%.0f" "rate-$connections" 50
        multiple "rate-$connections"
        row "their p99, ms" "%.2f" "p99-$connections" 50
    done
fi
row "first byte of a stream with a free thread, median, ms" "%.2f" first-byte 50
row "the same, p99, ms" "%.2f" first-byte 99
row "memory per idle connection ($idle of them), KB resident" "%.1f" idle-memory 50
row "additional threads for all of them" "%.0f" idle-threads 50
row "start to first answer, ms" "%.1f" start 50
if [ "${#missing[@]}" != 0 ]; then
    echo
    printf 'Left out because it is not installed: %s.\n' "${missing[@]}"
fi
if [ "${LISTENERS:-0}" != 0 ]; then
    echo
    ROUNDS=$rounds NINETABS=$ninetabs "$here/benches/listeners.sh"
fi
