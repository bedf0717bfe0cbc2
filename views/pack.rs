//! The build script: packs the pages of the servers for the program, and the measurements that one of them shows.
//!
//! Unpacked, their text would make up 3 % of the program; packed, it takes a third of that. `src/app/embedded.rs`
//! unpacks a page when it is first used.

use std::error::Error;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::DeflateEncoder;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=views");
    println!("cargo::rerun-if-changed=src/fixes/compared.json");
    let out = std::env::var("OUT_DIR")?;
    let out = Path::new(&out);
    pack_file(Path::new("src/fixes/compared.json"), &out.join("compared.json"))?;
    pack(Path::new("views"), &out.join("views"))
}

fn pack_file(from: &Path, to: &Path) -> Result<(), Box<dyn Error>> {
    let mut encoder = DeflateEncoder::new(File::create(to)?, Compression::best());
    encoder.write_all(&fs::read(from)?)?;
    encoder.finish()?;
    Ok(())
}

fn pack(from: &Path, to: &Path) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let packed = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            pack(&entry.path(), &packed)?;
        } else {
            pack_file(&entry.path(), &packed)?;
        }
    }
    Ok(())
}
