//! Finds two flags that lead to the same file, where one would overwrite the other. Two flags may lead
//! to the same device (`/dev/null`), pipe or socket.

use std::fs;
use std::path::{Path, PathBuf};

use super::{FileKind, FilePlace};

/// The suffixes that SQLite adds to the name of a database for the files beside it.
const SIDE_FILES: [&str; 3] = ["-wal", "-shm", "-journal"];
/// The extensions of views. Other files in their folder are not views.
const VIEWS: [&str; 3] = ["html", "css", "js"];

/// What a flag does with its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Writes or reads this one file.
    File,
    /// Keeps a SQLite database at this path, with its side files beside it.
    Database,
    /// Reads the views in this folder.
    Views,
}

/// The side files of the database at this path, which SQLite puts beside the file itself, not
/// beside a link to it.
pub(super) fn side_files(database: &Path) -> Vec<PathBuf> {
    let real = FilePlace::of(database).map_or_else(|_| database.to_owned(), |place| place.real);
    let beside = |end: &&str| {
        let mut name = real.clone().into_os_string();
        name.push(end);
        PathBuf::from(name)
    };
    SIDE_FILES.iter().map(beside).collect()
}

/// Returns a line that names the first two of these flags that lead to the same file, and says what to
/// do.
pub fn same_file(flags: &[(&str, Use, Option<&Path>)]) -> Option<String> {
    let mut before: Vec<(&str, Vec<FilePlace>)> = Vec::new();
    for (flag, what, path) in flags {
        let Some(path) = path else { continue };
        let files = files_of(*what, path);
        for (first, theirs) in &before {
            let shared = theirs.iter().find(|other| files.iter().any(|file| is_same(file, other)));
            if let Some(shared) = shared {
                // For the user, `/dev/stdout` is clearer than `/proc/PID/fd/1`.
                let name = if shared.kind == FileKind::Special { &shared.given } else { &shared.real };
                let name = name.display();
                return Some(format!(
                    "{first} and {flag} name the same file, {name}; give two different files"
                ));
            }
        }
        before.push((flag, files));
    }
    None
}

fn is_same(one: &FilePlace, other: &FilePlace) -> bool {
    one.real == other.real || (one.there.is_some() && one.id() == other.id())
}

fn files_of(what: Use, path: &Path) -> Vec<FilePlace> {
    let paths = match what {
        Use::File => vec![path.to_owned()],
        Use::Database => std::iter::once(path.to_owned()).chain(side_files(path)).collect(),
        Use::Views => views_in(path),
    };
    // An invalid path is reported when it is opened. A write to a stream does not replace anything.
    let can_be_lost = |place: &FilePlace| place.kind != FileKind::Folder && !place.is_a_stream();
    paths.iter().filter_map(|path| FilePlace::of(path).ok()).filter(can_be_lost).collect()
}

/// The views in this folder and in its direct subfolders.
fn views_in(folder: &Path) -> Vec<PathBuf> {
    let entries = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().map(|it| it.path());
    let is_view = |path: &PathBuf| path.extension().is_some_and(|end| VIEWS.iter().any(|it| end == *it));
    let below = entries(folder).filter(|path| path.is_dir()).flat_map(|path| entries(&path));
    entries(folder).chain(below).filter(is_view).collect()
}
