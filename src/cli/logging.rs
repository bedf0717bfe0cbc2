//! The log of `serve`: one line per event on standard error. A separate thread writes it, so that a stalled reader of
//! the log does not delay requests.

use std::io::{self, Write};
use std::panic;
use std::time::{Duration, SystemTime};

use env_logger::{Target, WriteStyle};

use super::complaint;
use super::outlet::Outlet;
use crate::timestamp;
use ninetabs_server::escape;
use ninetabs_server::log_limit::limited;
use ninetabs_server::threads::SpawnError;

/// The maximum time to write the last lines of the log and of standard output.
pub const LAST_WORDS: Duration = Duration::from_millis(500);

/// The log, on standard error.
pub struct Log(Outlet);

impl Log {
    /// Writes an error message, in order with the lines of the log.
    pub fn complain(&self, why: &str) {
        self.0.queue(complaint(why).as_bytes());
    }

    /// The queue of its lines.
    pub fn outlet(&self) -> Outlet {
        self.0.clone()
    }

    /// Waits for queued lines, for at most [`LAST_WORDS`].
    pub fn flush(&self) {
        self.0.flush(LAST_WORDS);
    }
}

/// Starts logging, at the levels of RUST_LOG, or `info` by default. A panic is logged as one line.
pub fn start() -> Result<Log, SpawnError> {
    let outlet = Outlet::start("log", io::stderr(), |_| {})?;
    // An empty variable counts as unset.
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let mut builder = env_logger::Builder::new();
    builder.parse_filters(&set("RUST_LOG").unwrap_or_else(|| "info".to_owned()));
    match set("RUST_LOG_STYLE") {
        Some(style) => builder.parse_write_style(&style),
        // The logger's target is a pipe, so by default it would not use colors.
        None if console::colors_enabled_stderr() => builder.write_style(WriteStyle::Always),
        None => builder.write_style(WriteStyle::Never),
    };
    builder.target(Target::Pipe(Box::new(outlet.clone())));
    builder.format(log_line).init();
    panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        limited!(Error, "thread {}: {panic}", thread.name().unwrap_or("without a name"));
    }));
    Ok(Log(outlet))
}

/// A line of the log. Control characters and line breaks that a client or another program sent are replaced.
fn log_line(to: &mut env_logger::fmt::Formatter, record: &log::Record<'_>) -> io::Result<()> {
    let (level, style) = (record.level(), to.default_level_style(record.level()));
    // The logger's own timestamps fail for some settings of the clock.
    let (at, text) = (timestamp::millis(SystemTime::now()), record.args().to_string());
    let text = text.lines().collect::<Vec<_>>().join(" ");
    writeln!(to, "[{at} {style}{level:<5}{style:#}] {}", escape::printable(&text))
}
