#!/usr/bin/env bash
# Prints the notices that must accompany a copy of the binary: for each crate that is compiled into it,
# its name, version and license, and the license texts in its package.
#
#   docs/third-party.sh > THIRD-PARTY.txt      all texts, for a package or an archive
#   docs/third-party.sh --check                fails if THIRD-PARTY.md does not list a license in use
#
# Needs cargo and jq. Reads the packages that cargo has already fetched; writes nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

crates() { # name, version, license, folder of each crate in the binary, tab-separated
    cargo metadata --locked --format-version 1 --filter-platform "$(rustc -vV | sed -n 's/^host: //p')" |
        jq -r '.packages[] | select(.source != null) | [.name, .version, .license, .manifest_path] | @tsv' |
        sort > "$all"
    cargo tree --locked -e normal --prefix none --format '{p}' | sed 's/ v/\t/; s/ .*//' | sort -u > "$used"
    awk -F'\t' 'NR == FNR { used[$1 FS $2]; next } ($1 FS $2) in used' "$used" "$all"
}
all=$(mktemp) used=$(mktemp)
trap 'rm -f "$all" "$used"' EXIT

if [ "${1:-}" = --check ]; then
    status=0
    while IFS=$'\t' read -r name _ license _; do
        # Our own two license texts cover a choice that includes MIT or Apache-2.0.
        case $license in *AND*) ;; *MIT* | *Apache-2.0*) continue ;; esac
        grep -q "\`$name\`" THIRD-PARTY.md || { echo "THIRD-PARTY.md does not name $name ($license)" >&2; status=1; }
    done < <(crates)
    exit $status
fi
crates | while IFS=$'\t' read -r name version license manifest; do
    printf '%s\n%s %s (%s)\n\n' "$(printf '=%.0s' {1..80})" "$name" "$version" "$license"
    find "$(dirname "$manifest")" -maxdepth 1 -type f \( -iname 'license*' -o -iname 'copying*' -o -iname 'notice*' \) \
        -print0 | sort -z | xargs -0 -r cat
    echo
done
