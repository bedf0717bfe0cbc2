//! The pool behind the pool: ActiveRecord's connections, and their file.
//!
//! Models ActiveRecord::ConnectionPool: a fixed number of connections, a checkout
//! that waits five seconds for one and then fails, a lease that lasts for an
//! action (Rails up to 7.1) or for a query (7.2). The pool is a channel
//! that is filled with connections; taking one out is a checkout.
//!
//! Whoever has committed a model says so here ([`Database::committed`], as `after_commit`
//! would), so that an answer which many want alike need not be looked up for each.

use std::convert::Infallible;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, after, never, select_biased, unbounded};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use serde::Serialize;
use thiserror::Error;

use super::model::{Model, SCHEMA};
use super::table::Table;

/// How long a connection waits for another's write to end.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait before a change of the journal's mode is tried again.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// Written in the file's header, so that nobody else's database is taken for ours.
const APPLICATION_ID: u32 = u32::from_be_bytes(*b"9tab");
/// What every SQLite file begins with.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// SQLite's header: its magic first, the application id at this place.
const HEADER_BYTES: usize = 100;
const APPLICATION_ID_AT: usize = 68;

/// Why a database cannot be used. None of these has changed its file.
#[derive(Debug, Error)]
pub enum OpenError {
    #[error("it cannot be read: {0}")]
    Unreadable(io::Error),
    #[error("it is not a SQLite database")]
    NotADatabase,
    #[error("it is the database of another program")]
    Foreign,
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// The file is ours, but there are not as many connections to be had.
    #[error("only {opened} of {size} connections could be opened: {error}")]
    Pool { size: usize, opened: usize, error: rusqlite::Error },
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
}

/// Why an action has no connection.
#[derive(Debug, Error)]
pub enum CheckoutError {
    /// Models ActiveRecord::ConnectionTimeoutError.
    #[error(
        "could not obtain a connection from the pool within {:.3} seconds; all pooled connections were in use",
        .0.as_secs_f64()
    )]
    Timeout(Duration),
    /// What waited for it was told to end.
    #[error("the wait for a database connection was ended")]
    Interrupted,
}

/// How long an action keeps its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseFor {
    /// From its first query to its end, as Rails up to 7.1 does.
    Action,
    /// For each query anew, as Rails 7.2 does.
    Query,
}

/// What the control server shows under `database`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Stats {
    pub size: usize,
    pub busy: usize,
    /// Threads that wait for a connection now.
    pub waiting: usize,
    /// Checkouts that timed out, ever.
    pub checkout_timeouts: u64,
}

/// The database and its connection pool.
#[derive(Debug)]
pub struct Database {
    idle: Receiver<Connection>,
    give_back: Sender<Connection>,
    size: AtomicUsize,
    growing: Mutex<()>,
    waiting: AtomicUsize,
    checkout_timeouts: AtomicU64,
    queries: AtomicU64,
    gaps: AtomicU64,
    newest: AtomicI64,
    table: AtomicI32,
    hooks: Hooks,
    checkout_timeout: Duration,
    lease_for: LeaseFor,
    path: PathBuf,
}

/// What runs after a commit.
#[derive(Default)]
struct Hooks(RwLock<Vec<Hook>>);

type Hook = Box<dyn Fn(i64) + Send + Sync>;

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hooks")
    }
}

impl Database {
    /// Opens the database, creating its file where there is none, and fills the
    /// pool with `size` connections.
    pub fn open(
        path: &Path,
        size: usize,
        checkout_timeout: Duration,
        lease_for: LeaseFor,
    ) -> Result<Arc<Database>, OpenError> {
        let (newest, table) = prepare(path)?;
        let (give_back, idle) = unbounded();
        let database = Database {
            idle,
            give_back,
            size: AtomicUsize::new(0),
            growing: Mutex::default(),
            waiting: AtomicUsize::new(0),
            checkout_timeouts: AtomicU64::new(0),
            queries: AtomicU64::new(0),
            gaps: AtomicU64::new(0),
            newest: AtomicI64::new(newest),
            table: AtomicI32::new(table.to_bits()),
            hooks: Hooks::default(),
            checkout_timeout,
            lease_for,
            path: path.to_owned(),
        };
        database.grow_to(size)?;
        Ok(Arc::new(database))
    }

    /// How often actions have asked the database, and whoever asked for all of them, ever.
    pub fn queries(&self) -> u64 {
        self.queries.load(Ordering::Relaxed)
    }

    /// Counts a question that was asked outside the pool, in the place of many in it.
    pub(super) fn count_query(&self) {
        self.queries.fetch_add(1, Ordering::Relaxed);
    }

    /// How often a client asked for models that the table no longer had, ever.
    pub fn gaps(&self) -> u64 {
        self.gaps.load(Ordering::Relaxed)
    }

    /// Counts a client that asked for models that the table no longer has.
    pub fn count_gap(&self) {
        self.gaps.fetch_add(1, Ordering::Relaxed);
    }

    /// The last id that is known to be given and committed, 0 before the first. It only grows as long as
    /// the table is the same.
    pub fn newest(&self) -> i64 {
        self.newest.load(Ordering::Acquire)
    }

    /// Takes in that this model has been committed, and runs the hooks. Does not block.
    pub fn committed(&self, id: i64) {
        if self.newest.fetch_max(id, Ordering::AcqRel) < id {
            for hook in self.hooks.0.read().unwrap_or_else(PoisonError::into_inner).iter() {
                hook(id);
            }
        }
    }

    /// Which table it is. It is another one once another program has made the ids begin anew.
    pub fn table(&self) -> Table {
        Table::from_bits(self.table.load(Ordering::Acquire))
    }

    /// Takes in that the ids of the table have begun anew, and up to which they are given.
    pub(super) fn began_anew(&self, table: Table, last_id: i64) {
        self.newest.store(last_id, Ordering::Release);
        self.table.store(table.to_bits(), Ordering::Release);
        for hook in self.hooks.0.read().unwrap_or_else(PoisonError::into_inner).iter() {
            hook(last_id);
        }
    }

    /// Models `after_commit`: called with the id of each model that is committed, at once and on
    /// the thread that committed it, which it must not keep. What other programs commit is
    /// heard of later, several models at a time.
    pub fn after_commit(&self, hook: impl Fn(i64) + Send + Sync + 'static) {
        self.hooks.0.write().unwrap_or_else(PoisonError::into_inner).push(Box::new(hook));
    }

    /// A connection of its own, outside the pool, for whoever makes models.
    pub fn connect(&self) -> rusqlite::Result<Connection> {
        connect(&self.path, OpenFlags::default())
    }

    /// Adds connections until there are at least this many; all that are missing,
    /// or none if one cannot be opened.
    pub fn grow_to(&self, size: usize) -> Result<(), OpenError> {
        // It guards nothing but the count of what is missing.
        let _growing = self.growing.lock().unwrap_or_else(PoisonError::into_inner);
        let missing = size.saturating_sub(self.size.load(Ordering::Acquire));
        let mut opened = Vec::new();
        for _ in 0..missing {
            let connection = self.connect();
            opened.push(connection.map_err(|error| OpenError::Pool {
                size,
                opened: size - missing + opened.len(),
                error,
            })?);
        }
        for connection in opened {
            // The pool holds the receiving end itself, so that giving back cannot fail.
            let _ = self.give_back.send(connection);
            self.size.fetch_add(1, Ordering::AcqRel);
        }
        Ok(())
    }

    /// A lease for one action, which takes its connection at its first query.
    pub fn lease(self: &Arc<Self>) -> Lease {
        Lease { database: Arc::clone(self), held: None }
    }

    /// Closes the connections that are in the pool, the last of which tidies up
    /// the file. Those that are out stay open until the process ends.
    pub fn close(&self) {
        for connection in self.idle.try_iter() {
            drop(connection);
            self.size.fetch_sub(1, Ordering::AcqRel);
        }
    }

    pub fn stats(&self) -> Stats {
        let (size, idle) = (self.size.load(Ordering::Acquire), self.idle.len());
        Stats {
            size,
            busy: size.saturating_sub(idle),
            waiting: self.waiting.load(Ordering::Acquire),
            checkout_timeouts: self.checkout_timeouts.load(Ordering::Acquire),
        }
    }

    fn checkout(self: &Arc<Self>, ended: &Receiver<Infallible>) -> Result<Checkout, CheckoutError> {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        let outcome = select_biased! {
            recv(self.idle) -> connection => connection.map_err(|_| CheckoutError::Interrupted),
            recv(ended) -> _ => Err(CheckoutError::Interrupted),
            recv(after(self.checkout_timeout)) -> _ => Err(CheckoutError::Timeout(self.checkout_timeout)),
        };
        self.waiting.fetch_sub(1, Ordering::AcqRel);
        if let Err(CheckoutError::Timeout(_)) = outcome {
            self.checkout_timeouts.fetch_add(1, Ordering::AcqRel);
        }
        Ok(Checkout { connection: Some(outcome?), database: Arc::clone(self) })
    }
}

/// One action's use of the pool.
#[derive(Debug)]
pub struct Lease {
    database: Arc<Database>,
    held: Option<Checkout>,
}

impl Lease {
    /// Runs a query on a connection of the pool.
    ///
    /// Blocks until there is one: at most for the checkout timeout, and no longer
    /// than until `ended` is disconnected.
    pub fn query<T>(
        &mut self,
        ended: Option<&Receiver<Infallible>>,
        query: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<T, QueryError> {
        let mut checkout = match self.held.take() {
            Some(held) => held,
            None => self.database.checkout(ended.unwrap_or(&never()))?,
        };
        let Some(connection) = checkout.connection.as_mut() else {
            return Err(CheckoutError::Interrupted.into());
        };
        self.database.count_query();
        let result = query(connection);
        if self.database.lease_for == LeaseFor::Action {
            self.held = Some(checkout);
        }
        Ok(result?)
    }
}

/// Why a query has no answer.
#[derive(Debug, Error)]
pub enum QueryError {
    #[error(transparent)]
    Checkout(#[from] CheckoutError),
    #[error("the database answered: {0}")]
    Sqlite(#[from] rusqlite::Error),
}

/// A connection that is out of the pool, and goes back when this is dropped.
#[derive(Debug)]
struct Checkout {
    connection: Option<Connection>,
    database: Arc<Database>,
}

impl Drop for Checkout {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            let _ = self.database.give_back.send(connection);
        }
    }
}

/// Looks at the file before anything may write to it, then makes it ours. Says which id was the
/// last that it gave, and which table it is.
fn prepare(path: &Path) -> Result<(i64, Table), OpenError> {
    let exists = fs::exists(path).map_err(OpenError::Unreadable)?;
    let is_new = !exists || look_at_header(path)?;
    let flags =
        if exists { OpenFlags::default() & !OpenFlags::SQLITE_OPEN_CREATE } else { OpenFlags::default() };
    let mut connection = connect(path, flags).map_err(as_damage)?;
    if !is_new {
        let verdict: String =
            connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(as_damage)?;
        if verdict != "ok" {
            return Err(OpenError::Damaged(verdict));
        }
    }
    if is_new {
        // Before WAL mode: there it would be in the log alone until the first checkpoint, and the header
        // without it, which a second process that starts now takes for another program's.
        connection.pragma_update(None, "application_id", APPLICATION_ID).map_err(as_damage)?;
    }
    into_wal_mode(&connection).map_err(as_damage)?;
    connection.execute_batch(SCHEMA).map_err(as_damage)?;
    let table = Table::of(&mut connection).map_err(as_damage)?;
    let last_id = Model::last_id(&connection).map_err(as_damage)?;
    Ok((last_id, table))
}

/// Blocks while another process makes the same file its own, at most for the busy
/// timeout: SQLite's own wait does not cover a change of the mode.
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

/// Whether the file is there but empty, which SQLite takes for a new database.
fn look_at_header(path: &Path) -> Result<bool, OpenError> {
    let mut header = Vec::with_capacity(HEADER_BYTES);
    let file = File::open(path).map_err(OpenError::Unreadable)?;
    file.take(HEADER_BYTES as u64).read_to_end(&mut header).map_err(OpenError::Unreadable)?;
    if header.is_empty() {
        return Ok(true);
    }
    if header.len() < HEADER_BYTES || !header.starts_with(MAGIC) {
        return Err(OpenError::NotADatabase);
    }
    if header[APPLICATION_ID_AT..][..4] != APPLICATION_ID.to_be_bytes() {
        return Err(OpenError::Foreign);
    }
    Ok(false)
}

fn connect(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // Else a statement is compiled anew whenever what is bound to it has changed, which is at each look of
    // each stream: the planner would like to know it.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // In WAL mode a commit survives the process's death without a sync of its own.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    Ok(connection)
}

fn as_damage(error: rusqlite::Error) -> OpenError {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DatabaseCorrupt) => OpenError::Damaged(error.to_string()),
        Some(rusqlite::ErrorCode::NotADatabase) => OpenError::NotADatabase,
        _ => OpenError::Sqlite(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::batch::{Limit, select_models};
    use rusqlite::StatementStatus;

    fn database(size: usize, lease_for: LeaseFor) -> (tempfile::TempDir, Arc<Database>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("models.sqlite3");
        let database = Database::open(&path, size, Duration::from_millis(50), lease_for).unwrap();
        (folder, database)
    }

    #[test]
    fn an_action_keeps_its_connection_and_a_query_does_not() {
        for (lease_for, held) in [(LeaseFor::Action, 1), (LeaseFor::Query, 0)] {
            let (_folder, database) = database(2, lease_for);
            let mut lease = database.lease();
            lease.query(None, |db| Model::newest_id(db)).unwrap();
            assert_eq!(database.stats().busy, held, "{lease_for:?}");
            drop(lease);
            assert_eq!(database.stats(), Stats { size: 2, busy: 0, waiting: 0, checkout_timeouts: 0 });
        }
    }

    #[test]
    fn a_query_is_compiled_once() {
        let (_folder, database) = database(1, LeaseFor::Query);
        let compiled_again = |id: i64| {
            let look = |db: &mut Connection| {
                Model::next(db, id, Limit::rows(1))?;
                let next = db.prepare_cached(select_models!("WHERE id > ? ORDER BY id"))?;
                Ok(next.get_status(StatementStatus::RePrepare))
            };
            database.lease().query(None, look).unwrap()
        };
        assert_eq!([1, 2, 3].map(compiled_again), [0, 0, 0]);
    }

    #[test]
    fn an_empty_pool_times_out_and_a_wait_can_be_ended() {
        let (_folder, database) = database(1, LeaseFor::Action);
        let mut first = database.lease();
        first.query(None, |db| Model::newest_id(db)).unwrap();
        let second = database.lease().query(None, |db| Model::newest_id(db));
        assert!(matches!(second, Err(QueryError::Checkout(CheckoutError::Timeout(_)))));
        assert_eq!(database.stats().checkout_timeouts, 1);

        let (_, ended) = crossbeam_channel::bounded(0);
        let third = database.lease().query(Some(&ended), |db| Model::newest_id(db));
        assert!(matches!(third, Err(QueryError::Checkout(CheckoutError::Interrupted))));
        database.grow_to(2).unwrap();
        database.lease().query(None, |db| Model::newest_id(db)).unwrap();
    }

    #[test]
    fn several_that_start_at_once_on_a_new_file_all_get_it() {
        for _ in 0..20 {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("models.sqlite3");
            let open = || Database::open(&path, 1, Duration::from_secs(1), LeaseFor::Action).map(drop);
            let opened: Vec<_> = thread::scope(|scope| {
                let openers: Vec<_> = (0..4).map(|_| scope.spawn(open)).collect();
                openers.into_iter().map(|opener| opener.join().unwrap()).collect()
            });
            assert!(opened.iter().all(Result::is_ok), "{opened:?}");
        }
    }

    #[test]
    fn what_is_not_ours_is_refused_and_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let open = |path: &Path| Database::open(path, 1, Duration::from_secs(1), LeaseFor::Action);
        let refused = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            fs::write(&path, bytes).unwrap();
            let error = open(&path).unwrap_err();
            assert_eq!(fs::read(&path).unwrap(), bytes, "{name} was changed");
            error
        };
        assert!(matches!(refused("text", b"hello"), OpenError::NotADatabase));

        let foreign = folder.path().join("foreign");
        Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE models (x)").unwrap();
        let bytes = fs::read(&foreign).unwrap();
        assert!(matches!(refused("foreign", &bytes), OpenError::Foreign));

        let ours = folder.path().join("ours");
        let mut db = open(&ours).unwrap().connect().unwrap();
        for n in 0..200 {
            Model::create(&mut db, &format!("model {n} {}", "x".repeat(100)), 1000).unwrap();
        }
        drop(db);
        let mut bytes = fs::read(&ours).unwrap();
        assert!(bytes.len() > 3 * 4096);
        bytes[4096..4096 + 2048].fill(0xff);
        assert!(matches!(refused("damaged", &bytes), OpenError::Damaged(_)));
        assert!(matches!(refused("cut", &bytes[..4096 + 100]), OpenError::Damaged(_)));

        let empty = folder.path().join("empty");
        fs::write(&empty, b"").unwrap();
        open(&empty).unwrap();
        assert!(matches!(open(folder.path()), Err(OpenError::Unreadable(_))));
    }
}
