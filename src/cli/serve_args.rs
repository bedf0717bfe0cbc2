//! What was typed to `serve`: its flags, each with its unit, its default and its
//! variable of the environment.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};

use super::duration;
use super::values::{self, AtMost, OrAuto, OrNoToken, OrOff, SecretToken};
use ninetabs_server::configuration as default;
use ninetabs_server::thread_pool::PoolSize;

/// What reads requests and hands them to the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FrontDoor {
    /// Puma's own: acceptor, reactor, client.
    Puma,
    /// The tiny_http crate, to compare with: a thread for each connection, few limits, loopback only.
    TinyHttp,
}

/// How a stream finds what is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StreamLoop {
    /// By id: nothing is lost and nothing is sent twice.
    ById,
    /// By time slices, as the seed's Rails controller did: models are lost between two slices.
    Faithful,
}

/// How long an action keeps its database connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DbLease {
    /// To its end, as Rails up to 7.1.
    Action,
    /// For one query, as Rails 7.2.
    Query,
}

/// How a stream finds out that its client has closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Notice {
    /// By the second write after the close, which fails.
    Write,
    /// By listening while it sleeps.
    Poll,
}

/// A way out that is a matter of flags. Which ones it sets stands at each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FixOption {
    /// A maximum age of 5 s: more tabs than threads take turns.
    Reaper,
    /// 64 threads, and eight database connections for all of them.
    MoreThreads,
    /// Six streams at once; the next is told to come back.
    Cap,
    /// Five threads more for streams, which do not count as Puma's.
    IoThreads,
    /// Streams on a second server, at http://127.0.0.1:9294, which is to be started beside this one.
    OtherServer,
}

#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// Where the app listens; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", env = "NINETABS_BIND", default_value = "tcp://127.0.0.1:9292", value_parser = values::address, help_heading = "Addresses")]
    pub bind: SocketAddr,
    /// Where the control server listens; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", env = "NINETABS_CONTROL_URL", default_value = values::CONTROL_URL, value_parser = values::address, help_heading = "Addresses")]
    pub control_url: SocketAddr,
    /// What every request to the control server must carry as ?token=TOKEN, at least 3 characters; none: programs on this machine need no token. Other users see it in the list of processes; --control-token-file and the variable keep it out.
    #[arg(
        long,
        value_name = "TOKEN|none",
        env = "NINETABS_CONTROL_TOKEN",
        default_value = values::NO_TOKEN,
        hide_env_values = true,
        value_parser = SecretToken,
        help_heading = "Addresses"
    )]
    pub control_token: OrNoToken,
    /// A file that has the control token on its only line [default: none is read].
    #[arg(
        long,
        value_name = "PATH",
        env = "NINETABS_CONTROL_TOKEN_FILE",
        conflicts_with = "control_token",
        help_heading = "Addresses"
    )]
    pub control_token_file: Option<PathBuf>,
    /// A host that is answered besides loopback, localhost and *.localhost; a leading dot takes all names below; several with commas, or by giving it again [default: no other].
    #[arg(
        long,
        value_name = "HOST",
        env = "NINETABS_ALLOW_HOST",
        value_delimiter = ',',
        value_parser = values::allowed_host,
        help_heading = "Addresses"
    )]
    pub allow_host: Vec<String>,
    /// A file for the process id and the real addresses, as Puma's state file; it goes when the server stops [default: none is written].
    #[arg(long, value_name = "PATH", env = "NINETABS_STATE", help_heading = "Addresses")]
    pub state: Option<PathBuf>,

    /// Least and most threads of the pool, or one number for both.
    #[arg(long, value_name = "MIN:MAX", env = "NINETABS_THREADS", default_value = "8:8", default_value_if("fix", "more-threads", "64:64"), value_parser = values::pool_size, help_heading = "Pool")]
    pub threads: PoolSize,
    /// How many threads may be marked IO-bound on top of the pool; above 0 every stream is marked.
    #[arg(long, value_name = "N", env = "NINETABS_MAX_IO_THREADS", default_value_t = default::MAX_IO_THREADS, default_value_if("fix", "io-threads", "5"), value_parser = values::threads, help_heading = "Pool")]
    pub max_io_threads: usize,
    /// Every so many seconds one idle thread above the minimum is let go.
    #[arg(long, value_name = "SECS", env = "NINETABS_AUTO_TRIM_TIME", default_value = "30", value_parser = values::some_time, help_heading = "Pool")]
    pub auto_trim_time: Duration,
    /// What reads the app's requests; the control server is always on puma.
    #[arg(long, value_name = "FRONT", env = "NINETABS_FRONT", default_value = "puma", help_heading = "Pool")]
    pub front: FrontDoor,

    /// Seconds that a stream sleeps between two looks at the models (every duration may be 2, 0.5, 2s or 500ms).
    #[arg(long, value_name = "SECS", env = "NINETABS_UPDATE_RATE", default_value = "2", value_parser = values::some_time, help_heading = "Streams")]
    pub update_rate: Duration,
    /// Seconds after which a stream is ended and its client told to come back, or off.
    #[arg(long, value_name = "SECS|off", env = "NINETABS_MAX_STREAM_AGE", default_value = "off", default_value_if("fix", "reaper", "5"), value_parser = values::time_or_off, help_heading = "Streams")]
    pub max_stream_age: OrOff,
    /// The largest random part by which a stream's own maximum age is shortened, in percent.
    #[arg(long, value_name = "PERCENT", env = "NINETABS_MAX_STREAM_AGE_JITTER", default_value = "10%", value_parser = values::percentage, help_heading = "Streams")]
    pub max_stream_age_jitter: f64,
    /// Seconds between two rounds of the stream reaper.
    #[arg(long, value_name = "SECS", env = "NINETABS_REAP_EVERY", default_value = "1", value_parser = values::some_time, help_heading = "Streams")]
    pub reap_every: Duration,
    /// The most streams at once: the next one is told at once to come back, and holds no thread; or off.
    #[arg(long, value_name = "N|off", env = "NINETABS_STREAM_CAP", default_value = "off", default_value_if("fix", "cap", "6"), value_parser = values::number_or_off, help_heading = "Streams")]
    pub stream_cap: AtMost,
    /// Where another server has the streams that this one's pages listen to [default: here].
    #[arg(long, value_name = "URL", env = "NINETABS_STREAMS_AT", default_value_if("fix", "other-server", "http://127.0.0.1:9294"), value_parser = values::origin, help_heading = "Streams")]
    pub streams_at: Option<String>,
    /// An origin whose pages may open this server's streams, those below /fixes and the cable included; several with commas, or by giving it again [default: its own alone].
    #[arg(long, value_name = "URL", env = "NINETABS_ALLOW_ORIGIN", value_delimiter = ',', value_parser = values::origin, help_heading = "Streams")]
    pub allow_origin: Vec<String>,
    /// How a stream finds out that its client has closed; poll: not on tiny-http [default: write].
    #[arg(
        long,
        value_name = "HOW",
        env = "NINETABS_NOTICE_CLOSE",
        default_value = "write",
        hide_default_value = true,
        help_heading = "Streams"
    )]
    pub notice_close: Notice,
    /// Seconds after which a client whose stream ended is to come back.
    #[arg(long, value_name = "SECS", env = "NINETABS_RETRY", default_value = "3", value_parser = duration::seconds, help_heading = "Streams")]
    pub retry: Duration,
    /// How a stream finds what is new.
    #[arg(
        long = "loop",
        value_name = "LOOP",
        env = "NINETABS_LOOP",
        default_value = "by-id",
        help_heading = "Streams"
    )]
    pub stream_loop: StreamLoop,

    /// The database's file, created if there is none; :memory: is a temporary file, removed when the server stops.
    #[arg(
        long,
        value_name = "PATH|:memory:",
        env = "NINETABS_DATABASE",
        default_value = "ninetabs.sqlite3",
        help_heading = "Models"
    )]
    pub database: PathBuf,
    /// Seconds between two models that the server makes by itself, or off.
    #[arg(long, value_name = "SECS|off", env = "NINETABS_PRODUCE_EVERY", default_value = "1", value_parser = values::time_or_off, help_heading = "Models")]
    pub produce_every: OrOff,
    /// Number of models to keep, the newest; above 1000, older ones are deleted at every hundredth create.
    #[arg(long, value_name = "N", env = "NINETABS_KEEP_MODELS", default_value_t = 1000, value_parser = values::one_or_more, help_heading = "Models")]
    pub keep_models: u64,
    /// Database connections for the pool's threads; auto is one a thread, and grows with a resize.
    #[arg(long, value_name = "N|auto", env = "NINETABS_DB_POOL", default_value = "auto", default_value_if("fix", "more-threads", "8"), value_parser = values::number_or_auto, help_heading = "Models")]
    pub db_pool: OrAuto,
    /// Seconds that an action waits for a database connection before it fails.
    #[arg(long, value_name = "SECS", env = "NINETABS_DB_CHECKOUT_TIMEOUT", default_value = "5", value_parser = values::some_time, help_heading = "Models")]
    pub db_checkout_timeout: Duration,
    /// How long an action keeps its database connection.
    #[arg(
        long,
        value_name = "LEASE",
        env = "NINETABS_DB_LEASE",
        default_value = "action",
        default_value_if("fix", "more-threads", "query"),
        help_heading = "Models"
    )]
    pub db_lease: DbLease,

    /// Seconds from one byte of a request to the next, and for the first of a connection [default: 30; not on tiny-http].
    #[arg(long, value_name = "SECS", env = "NINETABS_FIRST_DATA_TIMEOUT", value_parser = values::some_time, help_heading = "Limits")]
    pub first_data_timeout: Option<Duration>,
    /// Seconds for a request's head in sum, from its first byte to its last [default: 60; not on tiny-http].
    #[arg(long, value_name = "SECS", env = "NINETABS_HEAD_TIMEOUT", value_parser = values::some_time, help_heading = "Limits")]
    pub head_timeout: Option<Duration>,
    /// Seconds that a kept connection may be idle between two requests [default: 65; not on tiny-http].
    #[arg(long, value_name = "SECS", env = "NINETABS_PERSISTENT_TIMEOUT", value_parser = values::some_time, help_heading = "Limits")]
    pub persistent_timeout: Option<Duration>,
    /// The largest request head, in bytes [default: 114688; not on tiny-http].
    #[arg(long, value_name = "BYTES", env = "NINETABS_MAX_HEAD_BYTES", value_parser = values::number(1024..=16_777_216_u32), help_heading = "Limits")]
    pub max_head_bytes: Option<u32>,
    /// Maximum memory for unfinished request heads and bodies of all clients together; a client that needs more is refused with 503 [bytes; default: 67108864; not on tiny-http].
    #[arg(long, value_name = "BYTES", env = "NINETABS_MAX_PENDING_BYTES", value_parser = values::number(1024..=1_099_511_627_776_u64), help_heading = "Limits")]
    pub max_pending_bytes: Option<u64>,
    /// Maximum client connections; beyond them the one that has waited longest without a whole request is closed, and if there is none the new one is refused with 503 [default: what the descriptor limit leaves, which is also the most there can be; not on tiny-http].
    #[arg(long, value_name = "N", env = "NINETABS_MAX_CONNECTIONS", value_parser = values::one_or_more, help_heading = "Limits")]
    pub max_connections: Option<u64>,
    /// Seconds that written data may stay unacknowledged by a vanished peer, or off [Linux only].
    #[arg(long, value_name = "SECS|off", env = "NINETABS_TCP_USER_TIMEOUT", default_value = "off", value_parser = values::tcp_user_timeout, help_heading = "Limits")]
    pub tcp_user_timeout: OrOff,
    /// Seconds that a blocked write waits for its client, in sum.
    #[arg(long, value_name = "SECS", env = "NINETABS_WRITE_TIMEOUT", default_value = "10", value_parser = values::some_time, help_heading = "Limits")]
    pub write_timeout: Duration,
    /// Seconds that a page waits for its client to read it, in total (and 2 while the client takes nothing), or off; a stream has --max-stream-age instead [default: 5; not on tiny-http].
    #[arg(long, value_name = "SECS|off", env = "NINETABS_MAX_ANSWER_TIME", value_parser = values::time_or_off, help_heading = "Limits")]
    pub max_answer_time: Option<OrOff>,
    /// The largest request body, in bytes.
    #[arg(long, value_name = "BYTES", env = "NINETABS_MAX_BODY_BYTES", default_value_t = default::MAX_BODY_BYTES, value_parser = values::one_or_more, help_heading = "Limits")]
    pub max_body_bytes: u64,
    /// The most bytes of news that are kept for listeners whose connections have left the pool: who is further behind is cut, and comes back [default: 1048576; not on tiny-http].
    #[arg(long, value_name = "BYTES", env = "NINETABS_PUSH_BUFFER", value_parser = values::number_from(1024_u32), help_heading = "Limits")]
    pub push_buffer: Option<u32>,
    /// Seconds that a stop waits for requests that are being served.
    #[arg(long, value_name = "SECS", env = "NINETABS_FORCE_SHUTDOWN_AFTER", default_value = "5", value_parser = duration::seconds, help_heading = "Limits")]
    pub force_shutdown_after: Duration,

    /// The flags of one of the ways out that /fixes lists, for those that are flags; what is given beside it wins [default: none].
    #[arg(long, value_name = "NAME", env = "NINETABS_FIX", help_heading = "Looking")]
    pub fix: Option<FixOption>,
    /// A folder to read the views from at each request, so that an edit shows at the next reload [default: those in the program].
    #[arg(long, value_name = "DIR", env = "NINETABS_VIEWS", help_heading = "Looking")]
    pub views: Option<PathBuf>,
    /// A file for all that happens, as a trace that Perfetto opens; it grows by some 120 bytes for each thing that happens [default: none is written].
    #[arg(long, value_name = "FILE", env = "NINETABS_TRACE", help_heading = "Looking")]
    pub trace: Option<PathBuf>,
    /// Stop when standard input ends, so that whoever started the server cannot leave it behind [default: stop by signal alone].
    #[arg(long, env = "NINETABS_STOP_WITH_STDIN", value_parser = BoolishValueParser::new(), help_heading = "Looking")]
    pub stop_with_stdin: bool,
}
