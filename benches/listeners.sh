#!/usr/bin/env bash
# Measures how long it takes until thousands of listeners have received a message, for several servers. Prints
# Markdown: medians over all rounds.
#
#   cargo build --release && benches/listeners.sh
#
# Needs bash, awk and cargo. If nginx and its nchan module are installed (apt-get install nginx-light
# libnginx-mod-nchan), they are measured as well. ROUNDS, LISTENERS and TOLD (messages per round) change the
# size of the run. The limit on open files must be above twice the number of listeners. The script works in a
# temporary folder and stops every process that it started.
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
ninetabs=${NINETABS:-$here/target/release/ninetabs}
rounds=${ROUNDS:-5}
listeners=${LISTENERS:-5000}
told=${TOLD:-20}
folder=$(mktemp -d)
server=

say() { echo "listeners.sh: $*" >&2; }
stop() {
    [ -z "$server" ] || kill "$server" 2> /dev/null || true
    [ -z "$server" ] || wait "$server" 2> /dev/null || true
    server=
}
trap 'stop; rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM

[ -x "$ninetabs" ] || { say "cannot find $ninetabs: run cargo build --release"; exit 1; }
ulimit -n "$(ulimit -Hn)"
if [ "$(ulimit -n)" != unlimited ] && [ "$(ulimit -n)" -lt $((listeners + 1000)) ]; then
    say "$listeners listeners need more than $(ulimit -n) descriptors: raise the limit on open files"
    exit 1
fi
say "building the clients"
client=$(cd "$here" && cargo bench --quiet --no-run --bench listeners --message-format=json |
    sed -n 's/.*"executable":"\([^"]*listeners[^"]*\)".*/\1/p' | tail -1)
nchan=$(ls /usr/lib/nginx/modules/ngx_nchan_module.so 2> /dev/null) || true

free_port() {
    while port=$(shuf -i 20000-29999 -n 1) && (: <> "/dev/tcp/127.0.0.1/$port") 2> /dev/null; do :; done
}

cd "$folder"
# Starts the server for one kind: push, large, stopped, hold and cable run ninetabs.
start() {
    free_port
    case $1 in
        nchan)
            mkdir -p temp
            cat > nginx.conf << NGINX
load_module $nchan;
worker_processes 1;
daemon off;
user root;
pid $folder/nginx.pid;
error_log stderr crit;
events { worker_connections 30000; }
http {
    access_log off;
    client_body_temp_path $folder/temp;
    proxy_temp_path $folder/temp;
    fastcgi_temp_path $folder/temp;
    uwsgi_temp_path $folder/temp;
    scgi_temp_path $folder/temp;
    server {
        listen 127.0.0.1:$port backlog=1024;
        location = /sub { nchan_subscriber eventsource; nchan_channel_id all; }
        location = /pub { nchan_publisher; nchan_channel_id all; }
    }
}
NGINX
            exec nginx -e stderr -c "$folder/nginx.conf"
            ;;
        bare) exec "$client" --serve "$port" ;;
        *) exec "$ninetabs" serve --bind "tcp://127.0.0.1:$port" --control-url tcp://127.0.0.1:0 --produce-every off \
            --database :memory: ;;
    esac > server.log 2>&1 &
    server=$!
    for _ in $(seq 200); do
        (: <> "/dev/tcp/127.0.0.1/$port") 2> /dev/null && return
        kill -0 "$server" 2> /dev/null || break
        sleep 0.05
    done
    say "$1 did not start:"
    cat server.log >&2
    exit 1
}

kinds=(push cable)
[ -z "$nchan" ] || kinds+=(nchan)
kinds+=(bare)
load=$(cut -d' ' -f1 /proc/loadavg)
for round in $(seq "$rounds"); do
    for kind in "${kinds[@]}" large stopped; do
        say "round $round of $rounds: $kind"
        start "$kind"
        "$client" "127.0.0.1:$port" "$kind" "$listeners" "$told" "$server" >> "said.$kind"
        stop
    done
done
say "pages with $((2 * listeners)) listeners connected"
start hold
"$client" "127.0.0.1:$port" hold "$((2 * listeners))" 0 "$server" > held
stop

# Prints the median of one column of a kind's results.
median() { awk -v at="$2" '{ print $at }' "said.$1" | sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
row() {
    printf '| %s |' "$1"
    for kind in "${kinds[@]}"; do printf ' %s |' "$(median "$kind" "$2")"; done
    echo
}
echo "$("$ninetabs" --version), $(nginx -v 2>&1 | sed 's/.*nginx/nginx/' || true); $(date -u +%F), $(nproc) cores, Linux $(uname -r);"
echo "load average $load before; $listeners listeners, $told messages per round; medians of $rounds rounds."
echo
printf '| what |'
for kind in "${kinds[@]}"; do case $kind in push | cable) printf ' `%s` |' "$kind" ;; nchan) printf ' nginx with nchan |' ;; bare) printf ' a loop of `write` |' ;; esac; done
printf '\n|---|'
printf -- '---|%.0s' "${kinds[@]}"
echo
row "published to received, median, ms" 1
row "the same, p99, ms" 2
printf '| p99 as a multiple of the loop |'
for kind in "${kinds[@]}"; do awk -v a="$(median "$kind" 2)" -v b="$(median bare 2)" 'BEGIN { printf " %.2f |", a / b }'; done
echo
row "wait of the publisher, ms" 3
row "memory per listener, KB resident" 4
echo
echo "With messages of 8 KB, with and without a tenth of stalled readers, ms: p99 of the other listeners $(median stopped 2) and $(median large 2)"
echo "($(awk -v a="$(median stopped 2)" -v b="$(median large 2)" 'BEGIN { printf "%.2f", a / b }') times); the publisher waits $(median stopped 3) and $(median large 3)."
awk -v n="$((2 * listeners))" '{ printf "%d listeners connect one after the other within %s s. Then a page takes %s ms (p99 %s), each listener\n", n, $5, $1, $2
    printf "costs %s KB, and an idle server takes %s percent of a core.\n", $4, $3 }' held
