//! Where the models are stored: a file, a temporary file, or a PostgreSQL database.
//!
//! A URL may contain a password. The password is never shown: not in messages, logs, commands on pages, or debug
//! output.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;

/// The name of the temporary database.
pub const MEMORY: &str = ":memory:";
/// How the URL of a PostgreSQL database begins.
const SCHEMES: [&str; 2] = ["postgresql://", "postgres://"];

/// The database, as given by the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabasePlace {
    File(PathBuf),
    /// A temporary file that is deleted when the server stops.
    Memory,
    Server(DatabaseUrl),
}

impl From<OsString> for DatabasePlace {
    fn from(given: OsString) -> DatabasePlace {
        if given == MEMORY {
            return DatabasePlace::Memory;
        }
        match given.to_str().and_then(DatabaseUrl::of) {
            Some(url) => DatabasePlace::Server(url),
            None => DatabasePlace::File(given.into()),
        }
    }
}

impl From<&str> for DatabasePlace {
    fn from(given: &str) -> DatabasePlace {
        OsString::from(given).into()
    }
}

impl DatabasePlace {
    /// The file, if the user named one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            DatabasePlace::File(path) => Some(path),
            DatabasePlace::Memory | DatabasePlace::Server(_) => None,
        }
    }
}

impl fmt::Display for DatabasePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DatabasePlace::File(path) => path.display().fmt(f),
            DatabasePlace::Memory => f.write_str(MEMORY),
            DatabasePlace::Server(url) => url.fmt(f),
        }
    }
}

/// The URL of a PostgreSQL database. `Display` and `Debug` omit the password.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// Returns `None` if the text does not begin like the URL of a PostgreSQL database.
    pub fn of(text: &str) -> Option<DatabaseUrl> {
        let is_one = SCHEMES.iter().any(|scheme| text.starts_with(scheme));
        is_one.then(|| DatabaseUrl(text.to_owned()))
    }

    /// The URL with its password, for a connection or for the environment of a child process.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&without_password(&self.0, ""))
    }
}

/// A URL with its password replaced by `hidden`, or removed if `hidden` is empty. Other text is returned unchanged.
///
/// A password should be percent-encoded. If it is not, this removes too much rather than too little.
pub fn without_password(url: &str, hidden: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (user, rest) = match rest.rsplit_once('@') {
        Some((credentials, rest)) => match credentials.split_once(':') {
            Some((user, _)) if hidden.is_empty() => (format!("{user}@"), rest),
            Some((user, _)) => (format!("{user}:{hidden}@"), rest),
            None => (format!("{credentials}@"), rest),
        },
        None => (String::new(), rest),
    };
    let Some((place, parameters)) = rest.split_once('?') else { return format!("{scheme}://{user}{rest}") };
    let is_shown = |parameter: &&str| {
        let name = parameter.split('=').next().unwrap_or_default();
        !percent_decode_str(name).decode_utf8_lossy().to_lowercase().contains("password")
    };
    let shown: Vec<&str> = parameters.split('&').filter(is_shown).collect();
    let mark = if shown.is_empty() { "" } else { "?" };
    format!("{scheme}://{user}{place}{mark}{}", shown.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_password_however_it_is_written() {
        for (given, shown) in [
            ("postgresql://h/d", "postgresql://h/d"),
            ("postgresql://me@h/d", "postgresql://me@h/d"),
            ("postgresql://me:s3cret@h:5432/d?sslmode=disable", "postgresql://me@h:5432/d?sslmode=disable"),
            ("postgres://me:s3cret@a:1,b:2/d", "postgres://me@a:1,b:2/d"),
            ("postgresql://me:s3@cret@h/d", "postgresql://me@h/d"),
            ("postgresql://me:s3/cret?x@h/d", "postgresql://me@h/d"),
            ("postgresql://me@h/d?password=s3cret", "postgresql://me@h/d"),
            ("postgresql://h/d?%70assword=s3cret&a=b", "postgresql://h/d?a=b"),
        ] {
            let place = DatabasePlace::from(given);
            assert_eq!(place.to_string(), shown);
            assert!(!format!("{place:?}").contains("s3"), "{place:?}");
            let DatabasePlace::Server(url) = place else { panic!("{given} is a URL") };
            assert_eq!(url.reveal(), given);
        }
    }

    #[test]
    fn only_a_postgresql_url_is_recognized_as_a_server() {
        assert_eq!(DatabasePlace::from(":memory:"), DatabasePlace::Memory);
        for path in ["ninetabs.sqlite3", "postgresql", "postgresql:/a", "file:x", "mysql://h/d"] {
            assert_eq!(DatabasePlace::from(path).file(), Some(Path::new(path)));
        }
    }
}
