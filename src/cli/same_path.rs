//! Two flags that name one file: one of them would be written over the other.

use std::fs;
use std::path::{Path, PathBuf};

/// The first two of these flags that name the same file, in a line that says the way out.
pub fn same_path(flags: &[(&str, Option<&Path>)]) -> Option<String> {
    let given: Vec<(&str, PathBuf)> =
        flags.iter().filter_map(|(flag, path)| Some((*flag, where_it_is((*path)?)))).collect();
    given.iter().enumerate().find_map(|(at, (flag, path))| {
        let (first, _) = given[..at].iter().find(|(_, other)| other == path)?;
        Some(format!("{first} and {flag} name the same file; give each its own"))
    })
}

/// Behind all links. Of a file that is not there yet, its folder may be.
fn where_it_is(path: &Path) -> PathBuf {
    let in_its_folder = || {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        Some(fs::canonicalize(folder.unwrap_or(Path::new("."))).ok()?.join(path.file_name()?))
    };
    fs::canonicalize(path).ok().or_else(in_its_folder).unwrap_or_else(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn by_whatever_name() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("there"), "").unwrap();
        symlink(at("there"), at("link")).unwrap();
        symlink(folder.path(), at("folder")).unwrap();
        for (one, other, same) in [
            ("there", "there", true),
            ("there", "link", true),
            ("new", "folder/new", true),
            ("new", "./new", true),
            ("new", "there", false),
            ("no/folder", "no/other", false),
        ] {
            let (one, other) = (at(one), at(other));
            let said = same_path(&[("--a", Some(&one)), ("--b", None), ("--c", Some(&other))]);
            assert_eq!(said.is_some(), same, "{one:?} and {other:?}");
            assert!(said.is_none_or(|said| said.starts_with("--a and --c name the same file")));
        }
        assert!(same_path(&[("--a", Some(Path::new("new"))), ("--b", Some(Path::new("./new")))]).is_some());
    }
}
