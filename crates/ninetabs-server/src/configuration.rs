//! The settings of a server, and their defaults.
//!
//! Names are Puma's where Puma has one (`configuration.rb`, `DEFAULTS`); units are in the types. The command line's help
//! prints these constants, so each default is written down once.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::services::Services;
use crate::thread_pool::PoolOptions;

/// Least and most pool threads. Puma's own default is 0:5; the seed ran eight.
pub const THREADS: RangeInclusive<usize> = 8..=8;
/// Threads that may be marked IO-bound on top of the pool's maximum.
pub const MAX_IO_THREADS: usize = 0;
/// How long a blocked write waits for its client, in sum.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a page waits for its client, in total. A stream has an age instead.
pub const MAX_ANSWER_TIME: Duration = Duration::from_secs(5);
/// How long a page waits for a client that takes none of it meanwhile.
pub const MAX_STALL: Duration = Duration::from_secs(2);
/// Bytes of answers that the kernel keeps for a connection. By itself it would keep megabytes for
/// a client that does not read. Linux takes twice as much, with what it needs for itself.
pub const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// How often one idle thread above the minimum is let go.
pub const AUTO_TRIM_TIME: Duration = Duration::from_secs(30);
/// How long a stop waits for requests that are being served.
pub const FORCE_SHUTDOWN_AFTER: Duration = Duration::from_secs(5);
/// The largest request body, in bytes.
pub const MAX_BODY_BYTES: u64 = 1_048_576;
/// The largest body that is tolerated, unread, where none is wanted, in bytes.
pub const UNWANTED_BODY_BYTES: u64 = 1_024;
/// From one byte of a request to the next, and for the first of a connection.
pub const FIRST_DATA_TIMEOUT: Duration = Duration::from_secs(30);
/// For a request's head in sum, from its first byte to its last.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// Between two requests of a connection.
pub const PERSISTENT_TIMEOUT: Duration = Duration::from_secs(65);
/// Requests a connection.
pub const MAX_KEEP_ALIVE: usize = 999;
/// The largest request head, in bytes.
pub const MAX_HEAD_BYTES: usize = 114_688;
/// What unfinished heads and bodies of all connections together may take in memory, in bytes:
/// some 300 clients at the limits of each.
pub const MAX_PENDING_BYTES: usize = 64 * 1024 * 1024;
/// When the client of a stream that ended is to come back.
pub const RETRY: Duration = Duration::from_secs(3);
/// The largest part by which a stream's own maximum age is shortened, from 0 to 1.
pub const MAX_AGE_JITTER: f64 = 0.1;
/// How often the reaper looks at the streams.
pub const REAP_EVERY: Duration = Duration::from_secs(1);
/// The shortest time between two rounds of a thread that looks after others: without one it would never
/// sleep.
pub const SHORTEST_ROUND: Duration = Duration::from_millis(1);
/// Descriptors that a process with two servers keeps for all that is neither a connection
/// nor the database's: listeners and pollers, standard streams, clients who were refused and
/// have not gone yet, and [`MAX_SPOOLED`](super::body::MAX_SPOOLED) bodies.
pub const SPARE_DESCRIPTORS: usize = 128;
/// Connections that the kernel completes ahead of `accept`.
pub const LISTEN_BACKLOG: i32 = 1_024;

/// The longest that a client is waited for.
const A_YEAR: Duration = Duration::from_secs(365 * 86_400);

/// What a client may take, in bytes and in time.
#[derive(Debug, Clone)]
pub(crate) struct ClientLimits {
    pub max_head_bytes: usize,
    pub max_body_bytes: u64,
    /// From one byte of a request to the next, and for the first of a connection.
    pub first_data_timeout: Duration,
    /// For a head, from its first byte to its last.
    pub head_timeout: Duration,
    /// Between two requests.
    pub persistent_timeout: Duration,
    /// Requests a connection.
    pub max_keep_alive: usize,
}

/// How long an answer waits for its client.
#[derive(Debug, Clone, Copy)]
pub struct AnswerLimits {
    /// A blocked write, in total.
    pub write_timeout: Duration,
    /// An answer that is written whole, in total; None: as long as any write.
    pub max_answer_time: Option<Duration>,
}

/// One server: where it listens, how many threads it has, what it bears.
#[derive(Debug, Clone)]
pub(crate) struct Configuration {
    /// What its threads are called after: `puma srv`, or `puma ctl`.
    pub name: String,
    /// Where to listen; port 0 takes a free one.
    pub bind: SocketAddr,
    /// Least and most pool threads, as they were asked for: the pool checks them.
    pub threads: RangeInclusive<usize>,
    pub max_io_threads: usize,
    pub write_timeout: Duration,
    /// How long an answer that is written whole may wait for its client, in total, and at most
    /// [`MAX_STALL`] while the client takes nothing; None: as long as any write.
    pub max_answer_time: Option<Duration>,
    pub auto_trim_time: Duration,
    /// The largest request body, in bytes; 0 where no request has one.
    pub max_body_bytes: u64,
    pub max_head_bytes: usize,
    pub first_data_timeout: Duration,
    pub head_timeout: Duration,
    pub persistent_timeout: Duration,
    pub max_connections: usize,
    /// What unfinished heads and bodies of all connections together may take in memory.
    pub max_pending_bytes: usize,
    /// How long what was written may stay unacknowledged by a peer; None: as long as
    /// the kernel likes, which is a quarter of an hour.
    pub tcp_user_timeout: Option<Duration>,
    /// How often the reaper looks; None: there is none.
    pub reap_every: Option<Duration>,
    /// What hears of a reactor that ends by itself.
    pub services: Services,
}

impl Configuration {
    /// A server of that name at that address, with the defaults of this file.
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
            reap_every: Some(REAP_EVERY),
            services: Services::default(),
        }
    }

    /// How the pool is started.
    pub(super) fn pool_options(&self) -> PoolOptions {
        let (min, max) = (*self.threads.start(), *self.threads.end());
        PoolOptions { name: self.name.clone(), min, max, max_io: self.max_io_threads }
    }

    /// How long answers wait for their clients.
    pub(super) fn answer_limits(&self) -> AnswerLimits {
        AnswerLimits { write_timeout: self.write_timeout, max_answer_time: self.max_answer_time }
    }

    /// What one client may take.
    pub(super) fn limits(&self) -> ClientLimits {
        // No clock overflows by it, and to a connection it is for ever.
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
