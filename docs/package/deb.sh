#!/usr/bin/env bash
# Builds the Debian package of ninetabs, installs it in a root that has only its dependencies, and runs it there.
#
#   docs/package/deb.sh [FOLDER]       leaves the package in FOLDER [default: target/debian]
#
# Needs Debian, root (for chroot), cargo, cargo-deb (`cargo install --locked cargo-deb`), curl and jq.
# The clean root is a temporary folder, removed at the end together with the server that runs in it.
set -euo pipefail
cd "$(dirname "$0")/../.."

target=${CARGO_TARGET_DIR:-$PWD/target}
folder=${1:-$target/debian}
generated=$PWD/target/package
root=$(mktemp -d)
trap 'kill "${server:-}" 2>/dev/null || true; wait; rm -rf "$root"' EXIT

echo "== build"
cargo build --release --locked
rm -rf "$generated" && mkdir -p "$generated" "$folder"
"$target/release/ninetabs" man > "$generated/ninetabs.1"
for shell in bash zsh fish; do "$target/release/ninetabs" completions "$shell" > "$generated/ninetabs.$shell"; done
docs/third-party.sh > "$generated/THIRD-PARTY.txt"
cargo deb --no-build --locked --output "$folder/"
package=$(ls -t "$folder"/ninetabs_*.deb | head -1)
# cargo-deb uses the path of the documentation as the homepage, which has to be an address.
dpkg-deb --raw-extract "$package" "$root/package"
sed -i '/^Homepage:/d' "$root/package/DEBIAN/control"
dpkg-deb --root-owner-group --build "$root/package" "$package" > /dev/null
rm -rf "$root/package"
dpkg-deb --info "$package"
dpkg-deb --contents "$package"

echo "== install in a clean root"
mkdir -p "$root"/{var/lib/dpkg/{info,updates,triggers},tmp,etc,dev,usr/{bin,lib,lib64,sbin}}
for link in bin lib lib64 sbin; do ln -s "usr/$link" "$root/$link"; done
touch "$root/var/lib/dpkg/status"
# The root gets only the files of the packages that this one depends on, and dpkg's entries for them.
for needed in $(dpkg-deb --field "$package" Depends | sed 's/([^)]*)//g; s/,/ /g') $(
    dpkg-query --showformat '${Depends}' --show libc6 | sed 's/([^)]*)//g; s/,/ /g'); do
    dpkg-query --status "$needed" >> "$root/var/lib/dpkg/status"
    echo >> "$root/var/lib/dpkg/status"
    dpkg-query --listfiles "$needed" > "$root/var/lib/dpkg/info/$needed:$(dpkg --print-architecture).list"
    dpkg-query --listfiles "$needed" | grep -v '^/usr/share' | while read -r file; do
        if [ -f "$file" ]; then install -D "$file" "$root/usr/${file#/usr/}"; fi
    done
done
dpkg --root="$root" --install "$package"
dpkg --root="$root" --status ninetabs | grep -E '^(Package|Status|Version|Depends):'

echo "== run"
mknod -m 666 "$root/dev/null" c 1 3
mknod -m 666 "$root/dev/urandom" c 1 9
chroot "$root" /usr/bin/ninetabs --version
chroot "$root" /usr/bin/ninetabs serve --database :memory: \
    --bind tcp://127.0.0.1:0 --control-url tcp://127.0.0.1:0 --state /tmp/state > "$root/tmp/printed" &
server=$!
for _ in $(seq 100); do [ -s "$root/tmp/state" ] && break; sleep 0.1; done
cat "$root/tmp/printed"
app=$(sed -n 's,^bind: *tcp://,,p' "$root/tmp/state")
curl -fsS "http://$app/up"; echo
curl -fsS -N -m 3 "http://$app/models/live_stream" | head -4 || true
chroot "$root" /usr/bin/ninetabs ctl --state /tmp/state stats
chroot "$root" /usr/bin/ninetabs ctl --state /tmp/state stop
# `set -e` ignores a failing command that is not the last of its list, so each check is a separate command.
wait "$server"
echo "serve ended with status 0"
server=
warnings=$(man --warnings -l "$root/usr/share/man/man1/ninetabs.1.gz" 2>&1 > /dev/null)
[ -z "$warnings" ] || { echo "$warnings" >&2; exit 1; }
echo "the manual page is well-formed"
if command -v systemd-analyze > /dev/null; then
    # The check requires that the unit's program exists on this machine.
    sed 's,/usr/bin/ninetabs,/bin/true,' "$root/usr/lib/systemd/system/ninetabs.service" > "$root/tmp/ninetabs.service"
    systemd-analyze verify --man=no "$root/tmp/ninetabs.service"
    echo "the unit is well-formed"
fi
dpkg --root="$root" --remove ninetabs
