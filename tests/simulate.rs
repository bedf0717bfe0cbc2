//! `ninetabs simulate`: four validations, and the output.
//!
//! 1. A replay of a real record on the simulated pool reproduces it line by line (`replayed`).
//! 2. The figures of a simulated run agree with those of a real server (`figures`).
//! 3. The laws hold in every scenario (`laws`).
//! 4. A broken rule makes a law fail (`laws`).
//!
//! The records of `tests/data/simulate` were made by a real server, with
//! `cargo test --release --test all simulate::real::records -- --ignored`.

#[path = "simulate/figures.rs"]
mod figures;
#[path = "simulate/laws.rs"]
mod laws;
#[path = "simulate/output.rs"]
mod output;
#[path = "simulate/real.rs"]
mod real;
#[path = "simulate/record_file.rs"]
mod record_file;
#[path = "simulate/replayed.rs"]
mod replayed;
