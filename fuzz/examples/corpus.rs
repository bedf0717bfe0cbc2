//! Writes the corpus that the fuzz targets begin with: every case of the case files,
//! behind two bytes that say how it is cut.
//!
//! `cargo run --example corpus` in `fuzz/`; the files go to `fuzz/corpus/TARGET/`, one
//! a case, under its name.

#[path = "../../tests/common/case_bytes.rs"]
mod cases;

use std::fs;
use std::io;
use std::path::Path;

use cases::Case;

/// Pieces of 7 bytes and of 128, by turns.
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
