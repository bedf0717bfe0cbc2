#!/usr/bin/env bash
# Compares simulated runs with real ones: 9, 64, 500 and 2,000 tabs on a real server, and the same tabs in
# `ninetabs simulate`. Prints a Markdown table, and on standard error the durations that were measured.
#
#   benches/simulate.sh
#
# Takes ten minutes after the build, and needs a machine on which nothing else runs: waiting for a processor
# lengthens a real turn, but not a simulated one. NINETABS names another program to measure.
set -euo pipefail

cd "$(dirname "$0")/.."
ulimit -n "$(ulimit -Hn)"
cargo build --release
export NINETABS=${NINETABS:-$PWD/target/release/ninetabs}
cargo test --test all -- --ignored --nocapture --exact simulate::real::side_by_side
