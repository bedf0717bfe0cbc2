//! What a server can be told, and what it does when it is told nothing.
//!
//! Names are Puma's where Puma has one (`configuration.rb`, `DEFAULTS`); units
//! are in the types. The command line's help prints these same constants, so
//! that a default is written down once.

use std::net::SocketAddr;
use std::time::Duration;

/// Least and most pool threads. Puma's own default is 0:5; the seed ran eight.
pub const THREADS: (usize, usize) = (8, 8);
/// Threads that may be marked IO-bound on top of the pool's maximum.
pub const MAX_IO_THREADS: usize = 0;
/// How long a blocked write waits for its client, in sum.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often one idle thread above the minimum is let go.
pub const AUTO_TRIM_TIME: Duration = Duration::from_secs(30);
/// How long a stop waits for requests that are being served.
pub const FORCE_SHUTDOWN_AFTER: Duration = Duration::from_secs(5);
/// The largest request body, in bytes.
pub const MAX_BODY_BYTES: u64 = 1_048_576;
/// The largest body that is tolerated, unread, where none is wanted, in bytes.
pub const UNWANTED_BODY_BYTES: u64 = 1_024;
/// Connections that the kernel completes ahead of `accept`.
pub const LISTEN_BACKLOG: i32 = 1_024;

/// One server: where it listens, how many threads it has, what it bears.
#[derive(Debug, Clone)]
pub struct Configuration {
    /// What its threads are called after: `puma srv`, or `puma ctl`.
    pub name: &'static str,
    /// Where to listen; port 0 takes a free one.
    pub bind: SocketAddr,
    /// Least and most pool threads.
    pub threads: (usize, usize),
    pub max_io_threads: usize,
    pub write_timeout: Duration,
    pub auto_trim_time: Duration,
    /// The largest request body, in bytes; 0 where no request has one.
    pub max_body_bytes: u64,
}

impl Configuration {
    /// A server of that name at that address, with the defaults of this file.
    pub fn new(name: &'static str, bind: SocketAddr) -> Self {
        Configuration {
            name,
            bind,
            threads: THREADS,
            max_io_threads: MAX_IO_THREADS,
            write_timeout: WRITE_TIMEOUT,
            auto_trim_time: AUTO_TRIM_TIME,
            max_body_bytes: MAX_BODY_BYTES,
        }
    }
}
