//! The number of threads, and what depends on it: database connections, and the limit on clients.
//!
//! Whether the order is possible is computed before anything is changed, so that a refused order leaves no
//! trace. A connection that is opened and closed again would leave one: SQLite keeps its descriptor as long
//! as the process has another connection open.

use std::sync::{Mutex, PoisonError};

use thiserror::Error;

use super::kernel_table::open_connections;
use super::view::View;
use crate::app::adapters::{Failure, Gone};
use crate::app::database::OpenError;
use ninetabs_server::thread_pool::{BadSize, PoolSize};

/// Why a size was not changed.
#[derive(Debug, Error)]
pub(super) enum SizeError {
    #[error(transparent)]
    Threads(#[from] BadSize),
    #[error("the database pool cannot grow: {0}")]
    Gone(Gone),
    #[error("the database pool cannot grow: {size} connections do not fit: {why}")]
    NoRoom { size: usize, why: String },
    #[error(
        "the database pool cannot grow: {size} connections would allow only {room} connections of clients, and {open} are open"
    )]
    TooManyClients { size: usize, room: usize, open: usize },
    #[error("the database pool cannot grow: {0}")]
    Database(OpenError),
    #[error("size: {size} is more than the {most} connections at the start; give a size from 1 to {most}")]
    MoreThanAtStart { size: usize, most: usize },
}

/// How the database pool follows the pool of threads.
pub struct Growth {
    /// How many connections it has beyond one per thread.
    pub beyond: usize,
    /// How many client connections fit into the process beside a database pool of this size; or why none fit.
    pub room: RoomFor,
}

/// The type of [`Growth::room`].
pub type RoomFor = Box<dyn Fn(usize) -> Result<usize, String> + Send + Sync>;

pub(super) struct Sizing {
    /// `None` if the size of the database pool is fixed.
    growth: Option<Growth>,
    /// The size of the database pool at the start.
    database: usize,
    /// Held while an order is carried out, so that orders run one at a time.
    orders: Mutex<()>,
}

impl Sizing {
    pub fn new(view: &View, growth: Option<Growth>) -> Sizing {
        Sizing { growth, database: view.database.stats().size, orders: Mutex::default() }
    }

    /// Sets the minimum and maximum number of threads, and opens the database connections for them, or
    /// changes nothing. Like Puma's own resize, it starts and ends no thread itself.
    pub fn set(&self, view: &View, threads: PoolSize) -> Result<(), SizeError> {
        // The lock guards no data: what changes under it is consistent after each step.
        let _order = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(growth) = &self.growth {
            // Connections first: a thread without one would fail at its first query.
            grow(view, threads.max().saturating_add(growth.beyond), &growth.room)?;
        }
        Ok(view.server.resize(threads.min(), threads.max())?)
    }

    /// Restores the initial sizes of the thread pool and the database pool. The limit on clients stays as it is: SQLite
    /// keeps the descriptors.
    pub fn restore(&self, view: &View, threads: PoolSize) -> Result<(), SizeError> {
        self.set(view, threads)?;
        if view.database.wanted() < self.database {
            // Only `set_database` makes it smaller, so its descriptors are still reserved.
            view.database.grow_to(self.database).map_err(of_database)?;
        }
        view.database.shrink_to(self.database);
        Ok(())
    }

    /// Sets the number of database connections, at most as many as at the start. Excess connections that are
    /// in use are closed when they are returned.
    pub fn set_database(&self, view: &View, size: usize) -> Result<(), SizeError> {
        let _order = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        if size > self.database {
            return Err(SizeError::MoreThanAtStart { size, most: self.database });
        }
        if size > view.database.wanted() {
            view.database.grow_to(size).map_err(of_database)?;
        }
        view.database.shrink_to(size);
        Ok(())
    }
}

fn of_database(error: OpenError) -> SizeError {
    match error {
        OpenError::Failure(Failure::Gone(gone)) => SizeError::Gone(gone),
        error => SizeError::Database(error),
    }
}

fn grow(view: &View, size: usize, room: &RoomFor) -> Result<(), SizeError> {
    let View { server, database, .. } = view;
    // With fewer threads, the database pool does not shrink. After a reset, more connections may be open than are
    // wanted. They are closed when they are returned, so the wanted number counts, not the open one.
    if size <= database.wanted() {
        return Ok(());
    }
    database.check_files().map_err(SizeError::Gone)?;
    let most = database.most().max(size);
    let room = room(most).map_err(|why| SizeError::NoRoom { size, why })?;
    let before = server.max_connections();
    // The database's descriptors are taken from the clients' limit first, so that no client connects in between.
    if let Some(before) = before {
        server.limit_connections(before.min(room));
    }
    let open = server.glance().connections.or_else(|| open_connections(server.addr())).unwrap_or(0);
    let grown = if open > room {
        Err(SizeError::TooManyClients { size, room, open })
    } else {
        database.grow_to(size).map_err(of_database)
    };
    if let (Err(_), Some(before)) = (&grown, before) {
        server.limit_connections(before);
    }
    grown
}
