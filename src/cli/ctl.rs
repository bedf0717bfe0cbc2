//! `ctl`: asks a control server, of ninetabs or of Puma, or gives it an order.
//!
//! Does what pumactl does, and what only our control server knows. The answer
//! goes to standard output as it came, one line of JSON, so that it can be piped
//! into `jq`. Exit status 1 when nobody is there or the server refused, with one
//! line that says the way out. Blocks for 30 s at the most.

use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use thiserror::Error;

use super::control_client::{AskError, ControlUrl};
use super::pretty::pretty;
use super::values::{self, OrOff};
use super::{duration, failed, misused, state_file};

const EXAMPLES: &str = "\
Examples:
  ninetabs ctl stats --pretty
  ninetabs ctl --state tmp/puma.state stop
  ninetabs ctl --control-url unix:///srv/app/tmp/pumactl.sock --control-token T thread-backtraces
  ninetabs ctl reap --older-than 30";

/// Ask a control server, of ninetabs or of Puma, or give it an order.
///
/// The answer is one line of JSON on standard output. threads, timeline, reap,
/// resize and max-stream-age are ours; the others a Puma knows, too.
// A global flag's value is seen by every command above it, too, by its id; so the
// ids are not those of `serve`'s flags of the same names.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, arg_required_else_help = false)]
pub struct CtlArgs {
    /// Where the control server listens, as tcp://HOST:PORT or unix://PATH.
    #[arg(
        id = "ctl_control_url",
        long = "control-url",
        value_name = "URL",
        env = "NINETABS_CONTROL_URL",
        default_value = "tcp://127.0.0.1:9293",
        global = true
    )]
    pub control_url: ControlUrl,
    /// The token that the control server wants, or none.
    #[arg(
        id = "ctl_control_token",
        long = "control-token",
        value_name = "TOKEN|none",
        env = "NINETABS_CONTROL_TOKEN",
        default_value = "none",
        hide_env_values = true,
        value_parser = values::token,
        global = true
    )]
    pub control_token: String,
    /// A running server's state file, which says both and wins over both [default: none is read].
    #[arg(id = "ctl_state", long = "state", value_name = "PATH", global = true)]
    pub state: Option<PathBuf>,
    /// Lay the answer out for a person, a value a line.
    #[arg(id = "ctl_pretty", long = "pretty", global = true)]
    pub pretty: bool,
    #[command(subcommand)]
    pub order: Order,
}

/// What is asked for.
#[derive(Debug, Clone, Subcommand)]
pub enum Order {
    /// Show the numbers of the pool: what runs, what waits, what is held.
    Stats,
    /// Show every pool thread of ninetabs, and the request that it holds.
    Threads,
    /// Show what each thread is doing; of Puma, its backtrace.
    ThreadBacktraces,
    /// Show what happened, as ninetabs remembers it.
    #[command(after_help = "Example: ninetabs ctl timeline --after 100")]
    Timeline {
        /// Leave out the moments up to this number [default: none is left out].
        #[arg(long, value_name = "N")]
        after: Option<u64>,
    },
    /// See whether anybody listens there, and ask nothing.
    Status,
    /// Stop once what is being served has ended.
    Stop,
    /// Leave at once, and cut the answers where they are.
    Halt,
    /// Let Puma stop and begin anew in the same process; ninetabs cannot.
    Restart,
    /// Let Puma's workers begin anew one by one; ninetabs has none.
    PhasedRestart,
    /// Let Puma's Ruby collect its garbage; ninetabs has none.
    Gc,
    /// Show the numbers of Puma's garbage collector; ninetabs has none.
    GcStats,
    /// End streams of ninetabs politely, so that their tabs come back at the end of the queue.
    #[command(after_help = "Example: ninetabs ctl reap --older-than 30")]
    Reap {
        /// Spare the streams that are younger, in seconds or as 500ms or 2s [default: none is spared].
        #[arg(long, value_name = "SECS", value_parser = duration::seconds)]
        older_than: Option<Duration>,
    },
    /// Set the least and most threads of a running ninetabs.
    #[command(after_help = "Example: ninetabs ctl resize --min 8 --max 12")]
    #[group(required = true, multiple = true)]
    Resize {
        /// The least threads, a number from 0 to 10000 [default: as it is].
        #[arg(long, value_name = "N", value_parser = values::threads)]
        min: Option<usize>,
        /// The most threads, a number from 1 to 10000 [default: as it is].
        #[arg(long, value_name = "N", value_parser = values::threads)]
        max: Option<usize>,
    },
    /// Set the age at which ninetabs ends a stream.
    #[command(after_help = "Example: ninetabs ctl max-stream-age 30")]
    MaxStreamAge {
        /// Seconds, or as 500ms or 2s, or off for as old as they like.
        #[arg(value_name = "SECS|off", value_parser = values::time_or_off)]
        age: OrOff,
    },
}

/// Why there is nothing to print.
#[derive(Debug, Error)]
enum CtlError {
    #[error("--state {}: {error}; give the file that a running server was told to write by --state", .path.display())]
    State { path: PathBuf, error: io::Error },
    #[error("--state {}: {why}; start the server with --control-url", .path.display())]
    NoControlServer { path: PathBuf, why: String },
    #[error(
        "{url}: {error}; give --control-url, or --state with the file that a running server was told to write"
    )]
    Ask { url: ControlUrl, error: AskError },
    #[error(
        "{url} refused: {said}; give its token with --control-token, or --state with the file that it was told to write"
    )]
    Forbidden { url: ControlUrl, said: String },
    #[error("{url} has no {order}: {said}; ninetabs ctl --help says what ninetabs has, and what Puma")]
    Unsupported { url: ControlUrl, order: &'static str, said: String },
    #[error("{url} refused {order} with {status}: {said}")]
    Refused { url: ControlUrl, order: &'static str, status: u16, said: String },
}

/// Asks, and prints the answer.
pub fn run(args: &CtlArgs) -> ExitCode {
    if let Order::Resize { min: Some(min), max: Some(max) } = args.order
        && min > max
    {
        return misused(format_args!("--min {min} is more than --max {max}; give a minimum that is no more"));
    }
    match answer(args) {
        Ok(line) => {
            let text = if args.pretty { pretty(&line) } else { line };
            match writeln!(io::stdout(), "{text}") {
                // A reader that has seen enough and closes the pipe is no error.
                Err(error) if error.kind() != ErrorKind::BrokenPipe => failed(error),
                _ => ExitCode::SUCCESS,
            }
        }
        Err(error) => failed(error),
    }
}

fn answer(args: &CtlArgs) -> Result<String, CtlError> {
    let (url, token) = control_server(args)?;
    let unanswered = |error| CtlError::Ask { url: url.clone(), error };
    let (method, order, parameters) = request(&args.order);
    if matches!(args.order, Order::Status) {
        return url.touch().map(|()| r#"{ "status": "started" }"#.to_owned()).map_err(unanswered);
    }
    let token =
        token.filter(|token| !matches!(token.as_str(), "none" | "")).map(|token| format!("token={token}"));
    let query = parameters.into_iter().chain(token).collect::<Vec<_>>().join("&");
    let target = if query.is_empty() { format!("/{order}") } else { format!("/{order}?{query}") };
    let answer = url.ask(method, &target).map_err(unanswered)?;
    let said = answer.body;
    match answer.status {
        200 => Ok(said),
        403 => Err(CtlError::Forbidden { url, said }),
        404 => Err(CtlError::Unsupported { url, order, said }),
        status => Err(CtlError::Refused { url, order, status, said }),
    }
}

/// As with pumactl, a state file wins over both flags.
fn control_server(args: &CtlArgs) -> Result<(ControlUrl, Option<String>), CtlError> {
    let Some(path) = args.state.clone() else {
        return Ok((args.control_url.clone(), Some(args.control_token.clone())));
    };
    let found = match state_file::read(&path) {
        Ok(found) => found,
        Err(error) => return Err(CtlError::State { path, error }),
    };
    let url = found.url.ok_or_else(|| "it names no control_url".to_owned());
    let url = url.and_then(|url| url.parse().map_err(|why| format!("its control_url {url}: {why}")));
    match url {
        Ok(url) => Ok((url, found.token)),
        Err(why) => Err(CtlError::NoControlServer { path, why }),
    }
}

/// Method, command and parameters. What need not be said is not: Puma 5 finds its
/// token only where it is the whole query.
fn request(order: &Order) -> (&'static str, &'static str, Vec<String>) {
    let set = |name: &str, value: &Option<usize>| value.map(|value| format!("{name}={value}"));
    let parameters: Vec<Option<String>> = match order {
        Order::Timeline { after } => vec![after.map(|seq| format!("after={seq}"))],
        Order::Reap { older_than } => vec![older_than.map(|age| format!("older-than={}", age.as_secs_f64()))],
        Order::Resize { min, max } => vec![set("min", min), set("max", max)],
        Order::MaxStreamAge { age: OrOff(None) } => vec![Some("secs=off".to_owned())],
        Order::MaxStreamAge { age: OrOff(Some(age)) } => vec![Some(format!("secs={}", age.as_secs_f64()))],
        _ => vec![],
    };
    let (method, name) = match order {
        Order::Stats => ("GET", "stats"),
        Order::Threads => ("GET", "threads"),
        Order::ThreadBacktraces => ("GET", "thread-backtraces"),
        Order::Timeline { .. } => ("GET", "timeline"),
        Order::Status => ("GET", "status"),
        Order::Stop => ("GET", "stop"),
        Order::Halt => ("GET", "halt"),
        Order::Restart => ("GET", "restart"),
        Order::PhasedRestart => ("GET", "phased-restart"),
        Order::Gc => ("GET", "gc"),
        Order::GcStats => ("GET", "gc-stats"),
        Order::Reap { .. } => ("POST", "reap"),
        Order::Resize { .. } => ("POST", "resize"),
        Order::MaxStreamAge { .. } => ("POST", "max-stream-age"),
    };
    (method, name, parameters.into_iter().flatten().collect())
}
