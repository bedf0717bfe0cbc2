//! The database file: marked as ours before anything else writes to it, and checked while it is open.
//!
//! SQLite continues to use a file that was deleted or moved. Commits to such a file are lost, and a
//! connection that is opened later finds an empty file, or a different one. The files of the first connection
//! are therefore remembered by device and inode ([`Files`]). No connection is opened to any other files, and
//! no model is created while the remembered files are not at their paths.

use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::super::{Failure, Gone};
use super::session::{SCHEMA, Sqlite3Session};
use super::{BUSY_TIMEOUT, word};
use crate::app::table::Table;

/// How long to wait before retrying the change of the journal mode.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// Written to the file's header, so that a database of another program is not mistaken for ours.
const APPLICATION_ID: u32 = u32::from_be_bytes(*b"9tab");
/// The first bytes of every SQLite file.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// SQLite's header: it begins with the magic, and has the application id at this offset.
const HEADER_BYTES: usize = 100;
const APPLICATION_ID_AT: usize = 68;

/// Flags for opening an existing file. `SQLITE_OPEN_URI` is not set, so that a path is not interpreted as a
/// URI.
const EXISTING: OpenFlags = OpenFlags::SQLITE_OPEN_READ_WRITE.union(OpenFlags::SQLITE_OPEN_NO_MUTEX);

/// How long a database has to last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// It survives the process, and a power failure.
    Forever,
    /// It lasts as long as the process. Nothing waits for the disk.
    WhileOpen,
}

/// The files of a database: its main file, the write-ahead log and the log's index.
#[derive(Debug)]
pub(super) struct Files {
    /// Absolute and without symbolic links, as SQLite itself resolves it.
    path: PathBuf,
    keep: Keep,
    busy_timeout: Duration,
    identity: Identity,
    /// The log and its index, which exist as long as a connection is open.
    beside: Vec<(PathBuf, Identity)>,
    /// Whether the loss of the files has been logged.
    is_gone: AtomicBool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    fn of(path: &Path) -> Option<Identity> {
        let metadata: Metadata = fs::metadata(path).ok()?;
        Some(Identity { device: metadata.dev(), inode: metadata.ino() })
    }
}

impl Files {
    /// The files of a database that [`prepare`] has opened and that is still open.
    pub fn of(path: &Path, keep: Keep, busy_timeout: Duration) -> Result<Files, Failure> {
        let path = fs::canonicalize(path).map_err(Failure::Unreadable)?;
        let identity = Identity::of(&path).ok_or(Gone)?;
        let beside = ["-wal", "-shm"].map(|suffix| {
            let mut path = path.clone().into_os_string();
            path.push(suffix);
            PathBuf::from(path)
        });
        let beside = beside.into_iter().filter_map(|path| Identity::of(&path).map(|it| (path, it))).collect();
        Ok(Files { path, keep, busy_timeout, identity, beside, is_gone: AtomicBool::new(false) })
    }

    /// Opens a connection to these files, and fails if they were replaced.
    pub fn connect(&self) -> Result<Sqlite3Session, Failure> {
        self.check()?;
        let connection = connect(&self.path, EXISTING, self.keep)?;
        // The file may have been replaced while it was opened.
        self.check()?;
        connection.busy_timeout(self.busy_timeout).map_err(Failure::from)?;
        Ok(Sqlite3Session::of(connection))
    }

    /// Checks that the files are at their paths. Their disappearance is logged once, and so is their return.
    pub fn check(&self) -> Result<(), Gone> {
        let beside = self.beside.iter().map(|(path, identity)| (path, identity));
        let known = [(&self.path, &self.identity)].into_iter().chain(beside);
        let gone = known.into_iter().find(|(path, identity)| Identity::of(path) != Some(**identity));
        let was_gone = self.is_gone.swap(gone.is_some(), Ordering::AcqRel);
        match gone {
            Some((path, _)) if !was_gone => log::error!(
                "{} was deleted, moved or replaced while it was open: no row is created, and no connection is opened; put it back, or restart the server",
                path.display()
            ),
            None if was_gone => log::info!("{} is back", self.path.display()),
            _ => {}
        }
        if gone.is_some() { Err(Gone) } else { Ok(()) }
    }
}

/// An open database that is known to be ours.
pub(super) struct Prepared {
    pub session: Sqlite3Session,
    pub last_id: i64,
    pub table: Table,
}

/// Checks the file before anything may write to it, then makes it ours.
pub(super) fn prepare(path: &Path, keep: Keep) -> Result<Prepared, Failure> {
    let exists = fs::exists(path).map_err(Failure::Unreadable)?;
    let is_new = !exists || look_at_header(path)?;
    let flags = if exists { EXISTING } else { EXISTING | OpenFlags::SQLITE_OPEN_CREATE };
    let mut connection = connect(path, flags, keep).map_err(as_damage)?;
    if !is_new {
        let verdict: String =
            connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(as_damage)?;
        if verdict != "ok" {
            return Err(Failure::Damaged(verdict));
        }
    }
    let encoding: String =
        connection.query_row("PRAGMA encoding", [], |row| row.get(0)).map_err(as_damage)?;
    if encoding != "UTF-8" {
        return Err(Failure::Encoding(encoding));
    }
    if is_new {
        // Set before WAL mode: in WAL mode, the id would be only in the log until the first checkpoint. A
        // second process that starts before that checkpoint would find a header without the id, and would
        // mistake the database for that of another program.
        connection.pragma_update(None, "application_id", APPLICATION_ID).map_err(as_damage)?;
    }
    into_wal_mode(&connection).map_err(as_damage)?;
    connection.execute_batch(SCHEMA).map_err(as_damage)?;
    let table = word::of(&mut connection).map_err(as_damage)?;
    let session = Sqlite3Session::of(connection);
    let last_id = session.last().map_err(as_damage)?;
    Ok(Prepared { session, last_id, table })
}

/// Blocks while another process prepares the same file, for at most the busy timeout: SQLite's own wait does
/// not cover a change of the mode.
fn into_wal_mode(connection: &Connection) -> rusqlite::Result<()> {
    let began = Instant::now();
    loop {
        match connection.pragma_update(None, "journal_mode", "WAL") {
            Err(error)
                if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy)
                    && began.elapsed() < BUSY_TIMEOUT =>
            {
                thread::sleep(LOOK_AGAIN);
            }
            changed => return changed,
        }
    }
}

/// Whether the file exists but is empty, which SQLite treats as a new database.
fn look_at_header(path: &Path) -> Result<bool, Failure> {
    let mut header = Vec::with_capacity(HEADER_BYTES);
    let file = File::open(path).map_err(Failure::Unreadable)?;
    file.take(HEADER_BYTES as u64).read_to_end(&mut header).map_err(Failure::Unreadable)?;
    if header.is_empty() {
        return Ok(true);
    }
    if header.len() < HEADER_BYTES || !header.starts_with(MAGIC) {
        return Err(Failure::NotADatabase);
    }
    if header[APPLICATION_ID_AT..][..4] != APPLICATION_ID.to_be_bytes() {
        return Err(Failure::Foreign);
    }
    Ok(false)
}

fn connect(path: &Path, flags: OpenFlags, keep: Keep) -> rusqlite::Result<Connection> {
    // The bundled SQLite treats `file:NAME` as a URI even without the flag, and would open a file other than
    // the one that was checked. With a folder in front, the name is a path.
    let connection = Connection::open_with_flags(Path::new(".").join(path), flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // Without this setting, SQLite's planner recompiles a statement whenever a bound value has changed, which
    // happens at each query of each stream.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // In WAL mode, a commit survives the end of the process even without a sync.
    let synchronous = match keep {
        Keep::Forever => "NORMAL",
        Keep::WhileOpen => "OFF",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    // Opens the write-ahead log now, so that a connection opens all of its descriptors here and not during a
    // later request.
    connection.query_row("PRAGMA schema_version", [], |_| Ok(()))?;
    Ok(connection)
}

fn as_damage(error: rusqlite::Error) -> Failure {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DatabaseCorrupt) => Failure::Damaged(error.to_string()),
        Some(rusqlite::ErrorCode::NotADatabase) => Failure::NotADatabase,
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rusqlite::StatementStatus;

    use super::super::super::Session;
    use super::super::rows::select_models;
    use super::super::{open, theirs};
    use super::*;
    use crate::app::batch::Limit;
    use crate::app::database::{CreateError, Database, LeaseFor, OpenError};

    fn pool(path: &Path, size: usize) -> Arc<Database> {
        let opened = open(path, Keep::Forever).unwrap();
        Database::open(opened, size, Duration::from_secs(1), LeaseFor::Query).unwrap()
    }

    #[test]
    fn processes_that_start_simultaneously_on_a_new_file_all_open_it() {
        for _ in 0..20 {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("models.sqlite3");
            let open = || open(&path, Keep::Forever).map(drop);
            let opened: Vec<_> = thread::scope(|scope| {
                let openers: Vec<_> = (0..4).map(|_| scope.spawn(open)).collect();
                openers.into_iter().map(|opener| opener.join().unwrap()).collect()
            });
            assert!(opened.iter().all(Result::is_ok), "{opened:?}");
        }
    }

    #[test]
    fn only_a_persistent_database_waits_for_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        for (keep, expected) in [(Keep::Forever, 1), (Keep::WhileOpen, 0)] {
            let path = folder.path().join(format!("{keep:?}"));
            let first = prepare(&path, keep).unwrap().session;
            let second = Files::of(&path, keep, BUSY_TIMEOUT).unwrap().connect().unwrap();
            for session in [first, second] {
                assert_eq!(session.ask("PRAGMA synchronous"), expected, "{keep:?}");
            }
        }
    }

    #[test]
    fn a_query_is_compiled_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("models.sqlite3");
        let mut session = prepare(&path, Keep::Forever).unwrap().session;
        let mut compiled_again = |id: i64| {
            session.next(id, Limit::rows(1)).unwrap();
            let next = session.db.prepare_cached(select_models!("WHERE id > ? ORDER BY id")).unwrap();
            next.get_status(StatementStatus::RePrepare)
        };
        assert_eq!([1, 2, 3].map(&mut compiled_again), [0, 0, 0]);
    }

    #[test]
    fn a_file_that_is_not_ours_is_refused_and_not_changed() {
        let folder = tempfile::tempdir().unwrap();
        let open = |path: &Path| open(path, Keep::Forever);
        let refused = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            fs::write(&path, bytes).unwrap();
            let error = open(&path).unwrap_err();
            assert_eq!(fs::read(&path).unwrap(), bytes, "{name} was changed");
            error
        };
        assert!(matches!(refused("text", b"hello"), Failure::NotADatabase));

        let foreign = folder.path().join("foreign");
        Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE models (x)").unwrap();
        let bytes = fs::read(&foreign).unwrap();
        assert!(matches!(refused("foreign", &bytes), Failure::Foreign));

        let ours = folder.path().join("ours");
        let mut db = open(&ours).unwrap().session;
        for n in 0..200 {
            db.create(&format!("model {n} {}", "x".repeat(100)), Some(1000)).unwrap();
        }
        drop(db);
        let mut bytes = fs::read(&ours).unwrap();
        assert!(bytes.len() > 3 * 4096);
        bytes[4096..4096 + 2048].fill(0xff);
        assert!(matches!(refused("damaged", &bytes), Failure::Damaged(_)));
        assert!(matches!(refused("cut", &bytes[..4096 + 100]), Failure::Damaged(_)));

        let utf_16 = folder.path().join("utf-16");
        let db = Connection::open(&utf_16).unwrap();
        db.pragma_update(None, "encoding", "UTF-16le").unwrap();
        db.execute_batch(SCHEMA).unwrap();
        db.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
        drop(db);
        let bytes = fs::read(&utf_16).unwrap();
        let error = refused("utf-16", &bytes);
        assert!(matches!(&error, Failure::Encoding(it) if it == "UTF-16le"), "{error}");

        let empty = folder.path().join("empty");
        fs::write(&empty, b"").unwrap();
        open(&empty).unwrap();
        assert!(matches!(open(folder.path()), Err(Failure::Unreadable(_))));
    }

    /// A change to the files while they are open.
    type Happens = fn(&Path);

    #[test]
    fn after_its_files_are_deleted_moved_or_replaced_no_row_is_created_and_no_connection_opened() {
        let cases: [(&str, Happens); 5] = [
            ("deleted", |path| fs::remove_file(path).unwrap()),
            ("moved", |path| fs::rename(path, path.with_extension("moved")).unwrap()),
            ("replaced", |path| {
                fs::copy(path, path.with_extension("copy")).unwrap();
                fs::rename(path.with_extension("copy"), path).unwrap();
            }),
            ("log deleted", |path| fs::remove_file(path.with_extension("sqlite3-wal")).unwrap()),
            ("index deleted", |path| fs::remove_file(path.with_extension("sqlite3-shm")).unwrap()),
        ];
        for (case, happens) in cases {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("models.sqlite3");
            let database = pool(&path, 2);
            let mut theirs = database.connect().unwrap();
            database.lease().create("before", 9).unwrap();
            happens(&path);
            let there = || {
                let entries = fs::read_dir(folder.path()).unwrap();
                let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
                names.sort();
                names
            };
            let before = there();
            let gone = database.lease().create("after", 9).unwrap_err();
            assert!(matches!(gone, CreateError::Gone(Gone)), "{case}: {gone}");
            assert!(database.create(theirs.as_mut(), "after", 9).is_err(), "{case}");
            assert!(matches!(database.grow_to(3), Err(OpenError::Failure(Failure::Gone(Gone)))), "{case}");
            let error = database.connect().unwrap_err().to_string();
            assert!(error.contains("its file is gone"), "{case}: {error}");
            assert_eq!(database.stats().size, 2, "{case}");
            assert_eq!(there(), before, "{case}: a file was created");
            // Committed models can still be read while the server runs.
            let ids = database.lease().query(None, |db| db.newest(Limit::rows(9))).unwrap();
            assert_eq!(ids.last_id(), Some(1), "{case}");
        }
    }

    #[test]
    fn after_its_file_is_put_back_rows_are_created_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("models.sqlite3");
        let database = pool(&path, 1);
        fs::rename(&path, folder.path().join("moved")).unwrap();
        database.lease().create("lost", 9).unwrap_err();
        fs::rename(folder.path().join("moved"), &path).unwrap();
        assert_eq!(database.lease().create("kept", 9).unwrap().id, 1);
        database.grow_to(2).unwrap();
    }

    #[test]
    fn a_symbolic_link_is_resolved_once_at_the_first_open() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::os::unix::fs::symlink("real", at("link")).unwrap();
        drop(pool(&at("real"), 1));
        let database = pool(&at("link"), 1);
        let files = Files::of(&at("link"), Keep::Forever, BUSY_TIMEOUT).unwrap();
        drop(pool(&at("other"), 1));
        fs::remove_file(at("link")).unwrap();
        std::os::unix::fs::symlink("other", at("link")).unwrap();
        database.grow_to(2).unwrap();
        // Two queries use each of the two connections once.
        for _ in 0..2 {
            database.lease().create("model", 9).unwrap();
        }
        for name in ["real", "other"] {
            let models = theirs::at(&at(name)).ask("SELECT count(*) FROM models");
            assert_eq!(models, if name == "real" { 2 } else { 0 }, "{name}");
        }
        let session = files.connect().unwrap();
        let name: String = session.db.query_row("PRAGMA database_list", [], |row| row.get(2)).unwrap();
        assert!(name.ends_with("/real"), "{name}");
    }
}
