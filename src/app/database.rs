//! The database connection pool, with connections opened by the adapter of an engine.
//!
//! Models ActiveRecord::ConnectionPool: a fixed number of connections, a checkout that waits five seconds for
//! one and then fails, and a lease that lasts for an action (Rails up to 7.1) or for a query (7.2). The pool
//! is a channel that is filled with connections; a checkout receives from it.
//!
//! Each commit of a model is reported here ([`Database::committed`], as with `after_commit`), so that clients
//! that need the same answer can share one query.

mod errors;

use std::convert::Infallible;
use std::fmt;
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, after, never, select_biased, unbounded};
use serde::Serialize;

use super::adapters::{Adapter, EngineStats, Failure, Follower, Gone, Known, Opened, Session};
use super::model::Model;
use super::table::Table;
pub use errors::{CheckoutError, CreateError, OpenError, QueryError};

/// A connection, of the pool or outside it.
type BoxedSession = Box<dyn Session>;

/// If at most this many rows are kept, every create counts the rows. Counting more rows takes longer than the
/// create itself.
const COUNTED_AT_ONCE: u64 = 1_000;
/// If more rows are kept, the oldest ones are deleted at the first create and at every `DELETE_EVERY`th after
/// it.
const DELETE_EVERY: u64 = 100;

/// The duration of an action's lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseFor {
    /// From the action's first query to its end, as in Rails up to 7.1.
    Action,
    /// Separately for each query, as in Rails 7.2.
    Query,
}

/// The numbers that the control server shows under `database`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Stats {
    pub size: usize,
    pub busy: usize,
    /// Threads that are waiting for a connection.
    pub waiting: usize,
    /// Checkouts that have timed out since the start.
    pub checkout_timeouts: u64,
}

/// The database and its connection pool.
#[derive(Debug)]
pub struct Database {
    idle: Receiver<BoxedSession>,
    give_back: Sender<BoxedSession>,
    /// Open connections, idle or checked out.
    size: AtomicUsize,
    /// Maximum of `size` so far.
    most: AtomicUsize,
    /// The requested size. Connections beyond it are closed when they are returned.
    wanted: AtomicUsize,
    /// Held while `wanted` is changed and `size` is adjusted to it.
    sizing: Mutex<()>,
    waiting: AtomicUsize,
    checkout_timeouts: AtomicU64,
    queries: AtomicU64,
    gaps: AtomicU64,
    /// Creates since rows were last deleted. Ids cannot be used for this, since another writer may take every
    /// second id.
    creates: AtomicU64,
    newest: AtomicI64,
    table: AtomicI32,
    hooks: Hooks,
    checkout_timeout: Duration,
    lease_for: LeaseFor,
    adapter: Box<dyn Adapter>,
}

/// The functions that run after a commit.
#[derive(Default)]
struct Hooks(RwLock<Vec<Hook>>);

type Hook = Box<dyn Fn(i64) + Send + Sync>;

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hooks")
    }
}

impl Database {
    /// Fills the pool with `size` connections.
    pub fn open(
        opened: Opened,
        size: usize,
        checkout_timeout: Duration,
        lease_for: LeaseFor,
    ) -> Result<Arc<Database>, OpenError> {
        let Opened { adapter, session, table, last_id } = opened;
        let (give_back, idle) = unbounded();
        let database = Database {
            idle,
            give_back,
            size: AtomicUsize::new(1),
            most: AtomicUsize::new(size),
            wanted: AtomicUsize::new(size),
            sizing: Mutex::default(),
            waiting: AtomicUsize::new(0),
            checkout_timeouts: AtomicU64::new(0),
            queries: AtomicU64::new(0),
            gaps: AtomicU64::new(0),
            creates: AtomicU64::new(DELETE_EVERY),
            newest: AtomicI64::new(last_id),
            table: AtomicI32::new(table.to_bits()),
            hooks: Hooks::default(),
            checkout_timeout,
            lease_for,
            adapter,
        };
        database.put(session);
        database.grow_to(size)?;
        Ok(Arc::new(database))
    }

    /// Queries since the start: those of actions, and those made once on behalf of many clients.
    pub fn queries(&self) -> u64 {
        self.queries.load(Ordering::Relaxed)
    }

    /// Counts a query that was made outside the pool on behalf of many clients.
    pub(super) fn count_query(&self) {
        self.queries.fetch_add(1, Ordering::Relaxed);
    }

    /// How many clients have requested models that the table no longer had, since the start.
    pub fn gaps(&self) -> u64 {
        self.gaps.load(Ordering::Relaxed)
    }

    /// Counts a client that requested models that the table no longer has.
    pub fn count_gap(&self) {
        self.gaps.fetch_add(1, Ordering::Relaxed);
    }

    /// The last id that is known to be committed, 0 before the first. It only grows while the table stays the
    /// same.
    pub fn newest(&self) -> i64 {
        self.newest.load(Ordering::Acquire)
    }

    /// Records that this model has been committed, and runs the hooks. Does not block.
    pub fn committed(&self, id: i64) {
        if self.newest.fetch_max(id, Ordering::AcqRel) < id {
            for hook in self.hooks.0.read().unwrap_or_else(PoisonError::into_inner).iter() {
                hook(id);
            }
        }
    }

    /// The identity of the table. It changes when another program restarts the ids.
    pub fn table(&self) -> Table {
        Table::from_bits(self.table.load(Ordering::Acquire))
    }

    /// The identity of the table, and its last id.
    pub(super) fn known(&self) -> Known {
        Known { table: self.table(), newest: self.newest() }
    }

    /// Records that the ids of the table have restarted, and the last id.
    pub(super) fn began_anew(&self, table: Table, last_id: i64) {
        self.newest.store(last_id, Ordering::Release);
        self.table.store(table.to_bits(), Ordering::Release);
        for hook in self.hooks.0.read().unwrap_or_else(PoisonError::into_inner).iter() {
            hook(last_id);
        }
    }

    /// Models `after_commit`: `hook` is called with the id of each committed model, immediately after the
    /// commit and on the thread that made it. It must not block. Commits of other programs are reported
    /// later, and one call may stand for several models.
    pub fn after_commit(&self, hook: impl Fn(i64) + Send + Sync + 'static) {
        self.hooks.0.write().unwrap_or_else(PoisonError::into_inner).push(Box::new(hook));
    }

    /// A connection outside the pool, for a thread that keeps it.
    pub fn connect(&self) -> Result<Box<dyn Session>, Failure> {
        self.adapter.connect()
    }

    /// A connection outside the pool that finds the commits of other programs.
    pub(super) fn follow(&self) -> Result<Box<dyn Follower>, Failure> {
        self.adapter.follow()
    }

    /// The known state of the engine. Does not block.
    pub fn engine(&self) -> EngineStats {
        self.adapter.engine()
    }

    /// Sends an event to the other servers on this database, at most once. Does not block.
    pub(super) fn forward(&self, name: &str, data: &str) {
        self.adapter.forward(name, data);
    }

    /// Whether the database's files are where they were when it was opened. If not, no model is created.
    pub fn check_files(&self) -> Result<(), Gone> {
        self.adapter.check_files()
    }

    /// Creates a model on the given connection, and runs the hooks. Models beyond the newest `keep`
    /// are deleted at every create if `keep` is at most `COUNTED_AT_ONCE`, otherwise at every
    /// `DELETE_EVERY`th.
    pub fn create(&self, db: &mut dyn Session, name: &str, keep: u64) -> Result<Model, CreateError> {
        self.adapter.check_files()?;
        let creates = self.creates.fetch_add(1, Ordering::Relaxed) + 1;
        let deletes = keep <= COUNTED_AT_ONCE || creates >= DELETE_EVERY;
        let model = db.create(name, deletes.then_some(keep))?;
        if deletes {
            // Reset only after success: if a create fails, the next one deletes.
            self.creates.store(0, Ordering::Relaxed);
        }
        self.committed(model.id);
        Ok(model)
    }

    /// Adds connections until there are at least this many. Adds none if one of them cannot be opened.
    pub fn grow_to(&self, size: usize) -> Result<(), OpenError> {
        let _sizing = self.sizing();
        let missing = size.saturating_sub(self.size.load(Ordering::Acquire));
        if missing == 0 {
            // Enough connections of a formerly larger pool are still checked out. They now stay open when
            // they are returned.
            self.wanted.fetch_max(size, Ordering::AcqRel);
            return Ok(());
        }
        self.check_files()?;
        let mut opened = Vec::new();
        for _ in 0..missing {
            let connection = self.connect();
            opened.push(connection.map_err(|error| OpenError::Pool {
                size,
                opened: size - missing + opened.len(),
                error,
            })?);
        }
        self.wanted.fetch_max(size, Ordering::AcqRel);
        self.most.fetch_max(size, Ordering::AcqRel);
        for connection in opened {
            self.put(connection);
            self.size.fetch_add(1, Ordering::AcqRel);
        }
        Ok(())
    }

    /// How many connections stay open. Any beyond this number are closed when they are returned.
    pub fn wanted(&self) -> usize {
        self.wanted.load(Ordering::Acquire)
    }

    /// Maximum number of connections so far. It matters because SQLite keeps the descriptors of closed
    /// connections and reuses them.
    pub fn most(&self) -> usize {
        self.most.load(Ordering::Acquire)
    }

    /// Closes connections until there are at most this many: idle ones immediately, others when they are
    /// returned.
    pub fn shrink_to(&self, size: usize) {
        let _sizing = self.sizing();
        self.wanted.fetch_min(size, Ordering::AcqRel);
        while self.size.load(Ordering::Acquire) > size {
            let Ok(connection) = self.idle.try_recv() else { return };
            drop(connection);
            self.size.fetch_sub(1, Ordering::AcqRel);
        }
    }

    fn put(&self, connection: BoxedSession) {
        // The pool holds the receiving end itself, so this cannot fail.
        let _ = self.give_back.send(connection);
    }

    /// Returns a connection to the pool, or closes it if there are more than wanted.
    fn take_back(&self, connection: BoxedSession) {
        if self.size.load(Ordering::Acquire) > self.wanted.load(Ordering::Acquire) {
            let _sizing = self.sizing();
            if self.size.load(Ordering::Acquire) > self.wanted.load(Ordering::Acquire) {
                self.size.fetch_sub(1, Ordering::AcqRel);
                return;
            }
        }
        self.put(connection);
    }

    fn sizing(&self) -> MutexGuard<'_, ()> {
        // The lock guards two counts, each of which is consistent even after a panic.
        self.sizing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A lease for one action, which checks out its connection at its first query.
    pub fn lease(self: &Arc<Self>) -> Lease {
        Lease { database: Arc::clone(self), held: None }
    }

    /// Closes the idle connections; closing the last one cleans up SQLite's file. Connections that are
    /// checked out stay open until the process ends.
    pub fn close(&self) {
        for connection in self.idle.try_iter() {
            drop(connection);
            self.size.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// The number of connections, if an action keeps its connection until it returns.
    pub fn leased_for_actions(&self) -> Option<usize> {
        (self.lease_for == LeaseFor::Action).then(|| self.size.load(Ordering::Acquire))
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
    /// Blocks until a connection is idle, the checkout timeout has passed, or `ended` is disconnected.
    pub fn query<T>(
        &mut self,
        ended: Option<&Receiver<Infallible>>,
        query: impl FnOnce(&mut dyn Session) -> Result<T, Failure>,
    ) -> Result<T, QueryError> {
        let mut checkout = match self.held.take() {
            Some(held) => held,
            None => self.database.checkout(ended.unwrap_or(&never()))?,
        };
        let Some(connection) = checkout.connection.as_mut() else {
            return Err(CheckoutError::Interrupted.into());
        };
        self.database.count_query();
        connection.set_interrupt(ended);
        let result = query(connection.as_mut());
        if self.database.lease_for == LeaseFor::Action {
            self.held = Some(checkout);
        }
        Ok(result?)
    }
}

impl Lease {
    /// Creates a model, and runs the hooks. Blocks as a query does.
    pub fn create(&mut self, name: &str, keep: u64) -> Result<Model, CreateError> {
        let database = Arc::clone(&self.database);
        self.query(None, |db| Ok(database.create(db, name, keep)))?
    }
}

/// A connection that is checked out, and is returned when this is dropped.
#[derive(Debug)]
struct Checkout {
    connection: Option<BoxedSession>,
    database: Arc<Database>,
}

impl Drop for Checkout {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.database.take_back(connection);
        }
    }
}

#[cfg(test)]
mod tests;
