//! The settings of a server, and their defaults.
//!
//! Settings that Puma has keep their Puma names (`configuration.rb`, `DEFAULTS`), and units are in the types. The
//! `--help` text prints these constants, so each default is written once.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::services::Services;
use crate::thread_pool::PoolOptions;

/// Minimum and maximum number of pool threads. Puma's own default is 0:5; the app in the article had eight.
pub const THREADS: RangeInclusive<usize> = 8..=8;
/// Threads that may be marked IO-bound on top of the pool's maximum.
pub const MAX_IO_THREADS: usize = 0;
/// How long a blocked write waits for its client, in total.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a page waits for its client, in total. Streams are limited by their age instead.
pub const MAX_ANSWER_TIME: Duration = Duration::from_secs(5);
/// How long a page waits while its client reads nothing.
pub const MAX_STALL: Duration = Duration::from_secs(2);
/// Size of the kernel's send buffer per connection, in bytes. By default the kernel would buffer megabytes
/// for a client that does not read. Linux doubles the value to make space for its own bookkeeping, which takes more
/// than half of it if the client accepts only small segments.
pub const SEND_BUFFER_BYTES: usize = 128 * 1024;
/// The interval between trims. Each trim ends at most one idle thread above the minimum.
pub const AUTO_TRIM_TIME: Duration = Duration::from_secs(30);
/// How long a shutdown waits for requests in progress.
pub const FORCE_SHUTDOWN_AFTER: Duration = Duration::from_secs(5);
/// The largest request body, in bytes.
pub const MAX_BODY_BYTES: u64 = 1_048_576;
/// The largest unread body, in bytes, that is tolerated when none is expected.
pub const UNWANTED_BODY_BYTES: u64 = 1_024;
/// The longest wait for the first byte of a connection, and between two bytes of a request.
pub const FIRST_DATA_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest time for a whole request head, from its first byte to its last.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a connection may be idle between two requests.
pub const PERSISTENT_TIMEOUT: Duration = Duration::from_secs(65);
/// The maximum number of requests per connection.
pub const MAX_KEEP_ALIVE: usize = 999;
/// The largest request head, in bytes.
pub const MAX_HEAD_BYTES: usize = 114_688;
/// Maximum memory, in bytes, for the requests of all connections together that no thread has taken yet. It is enough
/// for about 300 clients that each use their full allowance.
pub const MAX_PENDING_BYTES: usize = 64 * 1024 * 1024;
/// How long a client waits before it reconnects after its stream has ended.
pub const RETRY: Duration = Duration::from_secs(3);
/// The maximum fraction, from 0 to 1, by which a stream's maximum age is randomly shortened.
pub const MAX_AGE_JITTER: f64 = 0.1;
/// How long an idle action thread is kept, if actions have their own threads.
pub const KEEP_IDLE_ACTION_THREADS: Duration = Duration::from_secs(60);
/// How often the reaper checks the streams.
pub const REAP_EVERY: Duration = Duration::from_secs(1);
/// The shortest interval between two periodic checks. With an interval of zero, the checking thread would
/// never sleep.
pub const SHORTEST_ROUND: Duration = Duration::from_millis(1);
/// Descriptors that a process with two servers reserves for everything except connections and the database:
/// listeners and pollers, standard streams, refused clients that have not closed yet, and
/// [`MAX_SPOOLED`](super::body::MAX_SPOOLED) bodies.
pub const SPARE_DESCRIPTORS: usize = 128;
/// How many connections the kernel completes before they are accepted.
pub const LISTEN_BACKLOG: i32 = 1_024;

/// An upper bound for every timeout.
const A_YEAR: Duration = Duration::from_secs(365 * 86_400);

/// The limits of one client, in bytes and in time.
#[derive(Debug, Clone)]
pub(crate) struct ClientLimits {
    pub max_head_bytes: usize,
    pub max_body_bytes: u64,
    /// The longest wait for the first byte of a connection, and between two bytes of a request.
    pub first_data_timeout: Duration,
    /// The longest time for a head, from its first byte to its last.
    pub head_timeout: Duration,
    /// How long a connection may be idle between two requests.
    pub persistent_timeout: Duration,
    /// The maximum number of requests per connection.
    pub max_keep_alive: usize,
}

/// The kind of thread on which the action of a stream runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ActionsOn {
    /// On the pool thread that took the request. A stream holds one thread. A failed write returns its error to the
    /// action immediately.
    #[default]
    PoolThread,
    /// On its own thread, as in ActionController::Live. A stream holds two threads: the action puts chunks into a queue
    /// of ten, and the pool thread writes them to the client. After a failed write, the action's next write returns the
    /// error. An HTTP/1.0 client gets the chunks written up to the commit of the response (the first write), followed
    /// by a clean end. Its action continues to run, and only an interrupt ends it.
    OwnThread,
}

/// How long an answer waits for its client.
#[derive(Debug, Clone, Copy)]
pub struct AnswerLimits {
    /// How long a blocked write may wait, in total.
    pub write_timeout: Duration,
    /// How long an answer written in one piece may wait, in total. With `None`, only `write_timeout` applies.
    pub max_answer_time: Option<Duration>,
}

/// The settings of one server.
#[derive(Debug, Clone)]
pub(crate) struct Configuration {
    /// The prefix of the server's thread names: `puma srv` or `puma ctl`.
    pub name: String,
    /// The address to listen on. With port 0, the system chooses a free port.
    pub bind: SocketAddr,
    /// Minimum and maximum number of pool threads, as requested. The pool validates them.
    pub threads: RangeInclusive<usize>,
    pub max_io_threads: usize,
    pub write_timeout: Duration,
    /// How long an answer written in one piece may wait for its client, in total. While the client reads nothing, it
    /// waits at most [`MAX_STALL`]. With `None`, only `write_timeout` applies.
    pub max_answer_time: Option<Duration>,
    pub auto_trim_time: Duration,
    /// The largest request body, in bytes; 0 if no request may have one.
    pub max_body_bytes: u64,
    pub max_head_bytes: usize,
    pub first_data_timeout: Duration,
    pub head_timeout: Duration,
    pub persistent_timeout: Duration,
    pub max_connections: usize,
    /// Maximum memory, in bytes, for the requests of all connections that no thread has taken yet.
    pub max_pending_bytes: usize,
    /// How long written bytes may remain unacknowledged by the peer. With `None`, the kernel's default of about 15
    /// minutes applies.
    pub tcp_user_timeout: Option<Duration>,
    /// The kind of thread on which actions run.
    pub actions_on: ActionsOn,
    /// How often the reaper checks the streams. With `None` no reaper is started.
    pub reap_every: Option<Duration>,
    /// Receives a message if the reactor or the reaper ends unexpectedly.
    pub services: Services,
}

impl Configuration {
    /// Creates a configuration with this name and address, and the defaults of this file.
    pub fn new(name: &str, bind: SocketAddr) -> Self {
        Configuration {
            name: name.to_owned(),
            bind,
            threads: THREADS,
            max_io_threads: MAX_IO_THREADS,
            write_timeout: WRITE_TIMEOUT,
            max_answer_time: Some(MAX_ANSWER_TIME),
            auto_trim_time: AUTO_TRIM_TIME,
            max_body_bytes: MAX_BODY_BYTES,
            max_head_bytes: MAX_HEAD_BYTES,
            first_data_timeout: FIRST_DATA_TIMEOUT,
            head_timeout: HEAD_TIMEOUT,
            persistent_timeout: PERSISTENT_TIMEOUT,
            max_connections: usize::MAX,
            max_pending_bytes: MAX_PENDING_BYTES,
            tcp_user_timeout: None,
            actions_on: ActionsOn::PoolThread,
            reap_every: Some(REAP_EVERY),
            services: Services::default(),
        }
    }

    /// The options for starting the pool.
    pub(super) fn pool_options(&self) -> PoolOptions {
        let (min, max) = (*self.threads.start(), *self.threads.end());
        PoolOptions { name: self.name.clone(), min, max, max_io: self.max_io_threads }
    }

    /// How long answers wait for their clients.
    pub(super) fn answer_limits(&self) -> AnswerLimits {
        AnswerLimits { write_timeout: self.write_timeout, max_answer_time: self.max_answer_time }
    }

    /// The limits of one client.
    pub(super) fn limits(&self) -> ClientLimits {
        // Adding a year to the current time cannot overflow, and no connection lives that long.
        let bounded = |time: Duration| time.min(A_YEAR);
        ClientLimits {
            max_head_bytes: self.max_head_bytes,
            max_body_bytes: self.max_body_bytes,
            first_data_timeout: bounded(self.first_data_timeout),
            head_timeout: bounded(self.head_timeout),
            persistent_timeout: bounded(self.persistent_timeout),
            max_keep_alive: MAX_KEEP_ALIVE,
        }
    }
}
