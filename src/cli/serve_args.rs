//! The flags of `serve`, each with its unit, its default and its environment variable.
//!
//! `-h` shows the first line of each flag's text; only `--help` shows the rest.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{BoolishValueParser, OsStringValueParser, TypedValueParser};
use clap::{Args, ValueEnum};

use super::control_server::ControlTokenArg;
use super::duration;
use super::values::{self, AtMost, OrAuto, OrOff};
use crate::app::database_place::DatabasePlace;
use ninetabs_server::configuration as default;
use ninetabs_server::thread_pool::PoolSize;

/// The server that reads requests and passes them to the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FrontDoor {
    /// The model of Puma: acceptor, reactor, thread pool.
    Puma,
    /// The tiny_http crate, for comparison: one thread per connection, few limits, loopback only.
    TinyHttp,
}

/// How a stream finds new rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StreamLoop {
    /// By id: no row is lost or sent twice.
    ById,
    /// By time, as the article's controller does: rows are lost between two queries.
    Faithful,
}

/// How long an action keeps its database connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DbLease {
    /// Until it returns, as in Rails up to 7.1.
    Action,
    /// For one query, as in Rails 7.2.
    Query,
}

/// How a stream notices that its client has closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Notice {
    /// By the second write after the close, which fails.
    Write,
    /// By polling the socket between writes, within milliseconds; not available with tiny-http.
    Poll,
}

/// The thread that the action of a stream runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LiveModel {
    /// The pool thread that took the request.
    Pool,
    /// A thread of its own, as in ActionController::Live: the pool thread writes what the action has queued.
    Rails,
}

/// A fix that consists of flags. Each flag that the fix sets names the fix in a `default_value_if`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FixOption {
    /// A maximum stream age of 5 s: more tabs than threads take turns.
    Reaper,
    /// 64 threads, and eight database connections for all of them.
    MoreThreads,
    /// At most six streams; any further one is refused at once and reconnects.
    Cap,
    /// Five extra threads for streams, which Puma 8 does not count toward its maximum.
    IoThreads,
    /// Streams on a second server at http://127.0.0.1:9294; the start-up message shows its command.
    OtherServer,
}

#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// App's address [default: tcp://127.0.0.1:9292]
    ///
    /// Port 0 picks a free port; --state records it in a file.
    #[arg(long, value_name = "ADDRESS", env = "NINETABS_BIND", default_value = "tcp://127.0.0.1:9292", value_parser = values::address, help_heading = "Addresses")]
    pub bind: SocketAddr,
    /// Control server's address [default: tcp://127.0.0.1:9293]
    ///
    /// Serves the wall, the dashboard and the server's JSON. Port 0 picks a free port.
    #[arg(long, value_name = "ADDRESS", env = "NINETABS_CONTROL_URL", default_value = values::CONTROL_URL, value_parser = values::address, help_heading = "Addresses")]
    pub control_url: SocketAddr,
    #[command(flatten, next_help_heading = "Addresses")]
    pub control: ControlTokenArg,
    /// File with the control token on its only line
    ///
    /// It keeps the token out of the list of processes. No file is read by default.
    #[arg(
        long,
        value_name = "PATH",
        env = "NINETABS_CONTROL_TOKEN_FILE",
        conflicts_with = "control_token",
        help_heading = "Addresses"
    )]
    pub control_token_file: Option<PathBuf>,
    /// Additional host that requests may name [default: none]
    ///
    /// Loopback addresses, localhost and all names below it are always accepted. A leading dot admits all
    /// names below a domain. Separate several hosts with commas, or repeat the flag.
    #[arg(
        long,
        value_name = "HOST",
        env = "NINETABS_ALLOW_HOST",
        value_delimiter = ',',
        value_parser = values::allowed_host,
        help_heading = "Addresses"
    )]
    pub allow_host: Vec<String>,
    /// File for the process id and addresses, as in Puma
    ///
    /// It is removed when the server stops. No file is written by default.
    #[arg(long, value_name = "PATH", env = "NINETABS_STATE", help_heading = "Addresses")]
    pub state: Option<PathBuf>,

    /// Minimum and maximum pool threads [default: 8:8]
    ///
    /// One number sets both.
    #[arg(long, value_name = "MIN:MAX", env = "NINETABS_THREADS", default_value = "8:8", default_value_if("fix", "more-threads", "64:64"), value_parser = values::pool_size, help_heading = "Pool")]
    pub threads: PoolSize,
    /// Extra threads for streams, marked IO-bound [default: 0]
    ///
    /// Above 0, each stream marks its thread as IO-bound, and the pool may start one more thread for each
    /// mark, up to this number.
    #[arg(long, value_name = "N", env = "NINETABS_MAX_IO_THREADS", default_value_t = default::MAX_IO_THREADS, default_value_if("fix", "io-threads", "5"), value_parser = values::threads, help_heading = "Pool")]
    pub max_io_threads: usize,
    /// Interval for trimming idle threads [seconds; default: 30]
    ///
    /// Each time, one idle thread above the minimum ends.
    #[arg(long, value_name = "SECS", env = "NINETABS_AUTO_TRIM_TIME", default_value = "30", value_parser = values::some_time, help_heading = "Pool")]
    pub auto_trim_time: Duration,
    /// Server in front of the pool [puma or tiny-http; default: puma]
    ///
    /// The control server always uses puma.
    #[arg(long, value_name = "FRONT", env = "NINETABS_FRONT", default_value = "puma", help_heading = "Pool")]
    pub front: FrontDoor,

    /// Sleep between two queries of a stream [seconds; default: 2]
    ///
    /// Every duration may be written as 2, 0.5, 2s or 500ms.
    #[arg(long, value_name = "SECS", env = "NINETABS_UPDATE_RATE", default_value = "2", value_parser = values::some_time, help_heading = "Streams")]
    pub update_rate: Duration,
    /// Maximum age of a stream [seconds or off; default: off]
    ///
    /// The stream reaper ends older streams, and their clients reconnect.
    #[arg(long, value_name = "SECS|off", env = "NINETABS_MAX_STREAM_AGE", default_value = "off", default_value_if("fix", "reaper", "5"), value_parser = values::time_or_off, help_heading = "Streams")]
    pub max_stream_age: OrOff,
    /// Random reduction of the maximum age [default: 10%]
    ///
    /// It is drawn for each stream, so that tabs that were opened together do not all reconnect together.
    #[arg(long, value_name = "%", env = "NINETABS_MAX_STREAM_AGE_JITTER", default_value = "10%", value_parser = values::percentage, help_heading = "Streams")]
    pub max_stream_age_jitter: f64,
    /// Interval of the stream reaper [seconds; default: 1]
    #[arg(long, value_name = "SECS", env = "NINETABS_REAP_EVERY", default_value = "1", value_parser = values::some_time, help_heading = "Streams")]
    pub reap_every: Duration,
    /// Maximum number of streams [number or off; default: off]
    ///
    /// Any further stream is refused at once: its client gets an empty response, reconnects later, and holds no
    /// thread.
    #[arg(long, value_name = "N|off", env = "NINETABS_STREAM_CAP", default_value = "off", default_value_if("fix", "cap", "6"), value_parser = values::number_or_off, help_heading = "Streams")]
    pub stream_cap: AtMost,
    /// Server for the pages' streams [default: this one]
    ///
    /// The start-up message shows the command that starts it.
    #[arg(long, value_name = "URL", env = "NINETABS_STREAMS_AT", default_value_if("fix", "other-server", "http://127.0.0.1:9294"), value_parser = values::origin, help_heading = "Streams")]
    pub streams_at: Option<String>,
    /// Additional origin whose pages may open streams [default: none]
    ///
    /// This includes the streams below /fixes and the cable. Separate several origins with commas, or
    /// repeat the flag.
    #[arg(long, value_name = "URL", env = "NINETABS_ALLOW_ORIGIN", value_delimiter = ',', value_parser = values::origin, help_heading = "Streams")]
    pub allow_origin: Vec<String>,
    /// How a closed client is noticed [write or poll; default: write]
    #[arg(
        long,
        value_name = "HOW",
        env = "NINETABS_NOTICE_CLOSE",
        default_value = "write",
        help_heading = "Streams"
    )]
    pub notice_close: Notice,
    /// Thread that runs a stream's action [pool or rails; default: pool]
    ///
    /// pool: the pool thread that took the request. rails: a thread of its own, as in ActionController::Live, so that
    /// a stream holds two threads. An HTTP/1.0 client (ab, or nginx before 1.29.7 by default) then gets the first
    /// event and a clean end, and the action keeps running without a client.
    #[arg(
        long,
        value_name = "MODEL",
        env = "NINETABS_LIVE",
        default_value = "pool",
        help_heading = "Streams"
    )]
    pub live: LiveModel,
    /// Reconnection delay sent to clients [seconds; default: 3]
    ///
    /// It is sent when a stream begins and when the server ends it.
    #[arg(long, value_name = "SECS", env = "NINETABS_RETRY", default_value = "3", value_parser = duration::seconds, help_heading = "Streams")]
    pub retry: Duration,
    /// How a stream finds new rows [by-id or faithful; default: by-id]
    #[arg(
        long = "loop",
        value_name = "LOOP",
        env = "NINETABS_LOOP",
        default_value = "by-id",
        help_heading = "Streams"
    )]
    pub stream_loop: StreamLoop,

    /// Database file or PostgreSQL URL [default: ninetabs.sqlite3]
    ///
    /// A file is created if it does not exist. :memory: is a temporary file that is deleted when the server
    /// stops. A URL such as postgresql://USER@HOST/NAME lets several servers share one PostgreSQL database; put
    /// its password into PGPASSWORD or ~/.pgpass.
    #[arg(
        long,
        value_name = "PATH|URL",
        env = "NINETABS_DATABASE",
        hide_env_values = true,
        default_value = "ninetabs.sqlite3",
        value_parser = OsStringValueParser::new().map(DatabasePlace::from),
        help_heading = "Database"
    )]
    pub database: DatabasePlace,
    /// PostgreSQL URL for LISTEN [default: same as --database]
    ///
    /// Commits of other servers are announced by NOTIFY, which PgBouncer in transaction mode does not pass on.
    /// Give the server's own address if --database is such a pooler.
    #[arg(
        long,
        value_name = "URL",
        env = "NINETABS_CABLE_DATABASE",
        hide_env_values = true,
        value_parser = OsStringValueParser::new().map(DatabasePlace::from),
        help_heading = "Database"
    )]
    pub cable_database: Option<DatabasePlace>,
    /// Interval between new rows [seconds or off; default: 1]
    ///
    /// The server itself creates these rows.
    #[arg(long, value_name = "SECS|off", env = "NINETABS_PRODUCE_EVERY", default_value = "1", value_parser = values::time_or_off, help_heading = "Database")]
    pub produce_every: OrOff,
    /// Number of newest rows to keep [default: 1000]
    ///
    /// Above 1000, older rows are deleted only at every hundredth insert.
    #[arg(long, value_name = "N", env = "NINETABS_KEEP_MODELS", default_value_t = 1000, value_parser = values::one_or_more, help_heading = "Database")]
    pub keep_models: u64,
    /// Database connections [number or auto; default: auto]
    ///
    /// auto is one per thread, and grows when the pool is resized.
    #[arg(long, value_name = "N|auto", env = "NINETABS_DB_POOL", default_value = "auto", default_value_if("fix", "more-threads", "8"), value_parser = values::number_or_auto, help_heading = "Database")]
    pub db_pool: OrAuto,
    /// Maximum wait for a database connection [seconds; default: 5]
    ///
    /// After that a page fails with 500, and a stream ends empty.
    #[arg(long, value_name = "SECS", env = "NINETABS_DB_CHECKOUT_TIMEOUT", default_value = "5", value_parser = values::some_time, help_heading = "Database")]
    pub db_checkout_timeout: Duration,
    /// Maximum time of one query [seconds; default: 5]
    ///
    /// On SQLite, it limits the wait for another program's write. After that time, a page fails with 503, and a
    /// stream ends empty. A create that fails in this way may have been committed.
    #[arg(long, value_name = "SECS", env = "NINETABS_DB_QUERY_TIMEOUT", default_value = "5", value_parser = values::some_time, help_heading = "Database")]
    pub db_query_timeout: Duration,
    /// Lease of a connection [action or query; default: action]
    #[arg(
        long,
        value_name = "LEASE",
        env = "NINETABS_DB_LEASE",
        default_value = "action",
        default_value_if("fix", "more-threads", "query"),
        help_heading = "Database"
    )]
    pub db_lease: DbLease,

    /// Maximum wait for the next byte of a request [seconds; default: 30]
    ///
    /// It also applies to the first byte of a connection. Not available with tiny-http.
    #[arg(long, value_name = "SECS", env = "NINETABS_FIRST_DATA_TIMEOUT", value_parser = values::some_time, help_heading = "Limits")]
    pub first_data_timeout: Option<Duration>,
    /// Maximum time for a request head [seconds; default: 60]
    ///
    /// Measured from the first byte of the head to its last. Not available with tiny-http.
    #[arg(long, value_name = "SECS", env = "NINETABS_HEAD_TIMEOUT", value_parser = values::some_time, help_heading = "Limits")]
    pub head_timeout: Option<Duration>,
    /// Maximum idle time between two requests [seconds; default: 65]
    ///
    /// Not available with tiny-http.
    #[arg(long, value_name = "SECS", env = "NINETABS_PERSISTENT_TIMEOUT", value_parser = values::some_time, help_heading = "Limits")]
    pub persistent_timeout: Option<Duration>,
    /// Maximum size of a request head [bytes; default: 114688]
    ///
    /// Not available with tiny-http.
    #[arg(long, value_name = "BYTES", env = "NINETABS_MAX_HEAD_BYTES", value_parser = values::number(1024..=16_777_216_u32), help_heading = "Limits")]
    pub max_head_bytes: Option<u32>,
    /// Maximum memory for unfinished requests [bytes; default: 67108864]
    ///
    /// The limit covers the heads and bodies of all clients together. A client that needs more is refused with 503.
    /// Not available with tiny-http.
    #[arg(long, value_name = "BYTES", env = "NINETABS_MAX_PENDING_BYTES", value_parser = values::number(1024..=1_099_511_627_776_u64), help_heading = "Limits")]
    pub max_pending_bytes: Option<u64>,
    /// Maximum client connections [default: as many as descriptors permit]
    ///
    /// Beyond this number, the connection that has waited longest without a complete request is closed. If every
    /// connection has sent a complete request, the new one is refused with 503. The limit of descriptors is an upper
    /// bound as well. Not available with tiny-http.
    #[arg(long, value_name = "N", env = "NINETABS_MAX_CONNECTIONS", value_parser = values::one_or_more, help_heading = "Limits")]
    pub max_connections: Option<u64>,
    /// Maximum time without acknowledgment [seconds or off; default: off]
    ///
    /// A connection whose peer has vanished and acknowledges nothing for this long fails with ETIMEDOUT.
    /// Linux only.
    #[arg(long, value_name = "SECS|off", env = "NINETABS_TCP_USER_TIMEOUT", default_value = "off", value_parser = values::tcp_user_timeout, help_heading = "Limits")]
    pub tcp_user_timeout: OrOff,
    /// Maximum wait of a blocked write [seconds; default: 10]
    ///
    /// The limit covers all waits of one write together.
    #[arg(long, value_name = "SECS", env = "NINETABS_WRITE_TIMEOUT", default_value = "10", value_parser = values::some_time, help_heading = "Limits")]
    pub write_timeout: Duration,
    /// Maximum time to send a page [seconds or off; default: 5]
    ///
    /// A client that reads nothing at all is given 2 s. For streams, use --max-stream-age. Not available with
    /// tiny-http.
    #[arg(long, value_name = "SECS|off", env = "NINETABS_MAX_ANSWER_TIME", value_parser = values::time_or_off, help_heading = "Limits")]
    pub max_answer_time: Option<OrOff>,
    /// Maximum size of a request body [bytes; default: 1048576]
    #[arg(long, value_name = "BYTES", env = "NINETABS_MAX_BODY_BYTES", default_value_t = default::MAX_BODY_BYTES, value_parser = values::one_or_more, help_heading = "Limits")]
    pub max_body_bytes: u64,
    /// Maximum backlog of a slow listener [bytes; default: 1048576]
    ///
    /// It applies to connections that have left the pool (push, cable). A listener that is further behind
    /// is disconnected and reconnects. Not available with tiny-http.
    #[arg(long, value_name = "BYTES", env = "NINETABS_PUSH_BUFFER", value_parser = values::number_from(1024_u32), help_heading = "Limits")]
    pub push_buffer: Option<u32>,
    /// Maximum wait for running requests on stop [seconds; default: 5]
    #[arg(long, value_name = "SECS", env = "NINETABS_FORCE_SHUTDOWN_AFTER", default_value = "5", value_parser = duration::seconds, help_heading = "Limits")]
    pub force_shutdown_after: Duration,

    /// Set the flags of one fix of /fixes [default: none]
    ///
    /// Explicit flags override those of the fix.
    #[arg(long, value_name = "NAME", env = "NINETABS_FIX", help_heading = "Development")]
    pub fix: Option<FixOption>,
    /// Folder to read the views from at each request
    ///
    /// An edit takes effect at the next reload. By default, the built-in views are used.
    #[arg(long, value_name = "DIR", env = "NINETABS_VIEWS", help_heading = "Development")]
    pub views: Option<PathBuf>,
    /// Trace file, to open in Perfetto
    ///
    /// It grows by about 120 bytes per recorded event. No trace is written by default.
    #[arg(long, value_name = "FILE", env = "NINETABS_TRACE", help_heading = "Development")]
    pub trace: Option<PathBuf>,
    /// Stop when standard input ends
    ///
    /// The server then stops when the program that started it ends.
    #[arg(long, env = "NINETABS_STOP_WITH_STDIN", value_parser = BoolishValueParser::new(), help_heading = "Development")]
    pub stop_with_stdin: bool,
}
