//! Writes the initial corpus of the fuzz targets: every case of the case files, preceded by two bytes that set how it
//! is cut into pieces.
//!
//! Run `cargo run --example corpus` in `fuzz/`. It writes one file per case to `fuzz/corpus/TARGET/`, named
//! after the case.

#[path = "../../tests/common/case_bytes.rs"]
mod cases;

use std::fs;
use std::io;
use std::path::Path;

use cases::Case;

/// Alternating pieces of 7 and 128 bytes.
const CUTS: [u8; 2] = [7, 2];

fn main() -> io::Result<()> {
    write("request", cases::requests())?;
    write("chunks", cases::chunked_bodies())?;
    write("event_stream", cases::event_streams())
}

fn write(target: &str, cases: Vec<Case>) -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&folder)?;
    for case in &cases {
        fs::write(folder.join(&case.name), [CUTS.as_slice(), &case.bytes].concat())?;
    }
    println!("{target}: {} cases in {}", cases.len(), folder.display());
    Ok(())
}
