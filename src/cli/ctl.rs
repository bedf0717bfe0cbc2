//! `ctl`: queries or controls a running ninetabs or Puma.
//!
//! It has the commands of pumactl, and others that only our control server supports. The answer goes to standard
//! output unchanged, as one line of JSON that can be piped into `jq`. If no server answers or the server refuses
//! the request, the exit status is 1, and one line on standard error says what to do. Blocks for at most 30 s.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::control_server::{ControlError, ControlServerArgs};
use super::typed::FromEnvironment;
use super::values::{self, OrOff};
use super::{duration, failed, misused, output};
use crate::control::orders;
use ninetabs_server::escape;

/// The maximum time for an answer. A resize may open thousands of database connections.
const PATIENCE: Duration = Duration::from_secs(30);

const EXAMPLES: &str = "\
Examples:
  ninetabs ctl stats
  ninetabs ctl --state tmp/puma.state stop
  ninetabs ctl --control-url unix:///srv/app/tmp/pumactl.sock --control-token T thread-backtraces
  ninetabs ctl reap --older-than 30";

/// Query or control a running ninetabs or Puma
///
/// The answer is one line of JSON on standard output. threads, timeline, reap, resize and max-stream-age need a
/// ninetabs; the other commands also work with Puma.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, arg_required_else_help = false)]
pub struct CtlArgs {
    #[command(flatten)]
    pub server: ControlServerArgs,
    #[command(subcommand)]
    pub order: CtlOrder,
}

/// A command.
#[derive(Debug, Clone, Subcommand)]
pub enum CtlOrder {
    /// Show the statistics of the pool
    Stats,
    /// Show each pool thread of ninetabs and the request that holds it
    Threads,
    /// Show what each thread does; for Puma, its backtrace
    ThreadBacktraces,
    /// Show the recorded events of ninetabs
    #[command(after_help = "Example: ninetabs ctl timeline --after 100")]
    Timeline {
        /// Only events after this number [default: all]
        #[arg(long, value_name = "N", value_parser = values::number_from(0_u64))]
        after: Option<u64>,
    },
    /// Check whether a server is listening, without sending a request
    Status,
    /// Stop when the running requests have finished
    Stop,
    /// Stop immediately, and cut off the running responses
    Halt,
    /// Restart Puma in the same process; not for ninetabs
    Restart,
    /// Restart Puma's workers one by one; not for ninetabs
    PhasedRestart,
    /// Run Puma's garbage collector; not for ninetabs
    Gc,
    /// Show the statistics of Puma's garbage collector; not for ninetabs
    GcStats,
    /// End streams of ninetabs; their tabs reconnect at the end of the queue
    #[command(after_help = "Example: ninetabs ctl reap --older-than 30")]
    Reap {
        /// Only streams that are at least this old [seconds; default: all]
        #[arg(long, value_name = "SECS", value_parser = duration::seconds)]
        older_than: Option<Duration>,
    },
    /// Set the minimum and maximum number of threads of a running ninetabs
    #[command(after_help = "Example: ninetabs ctl resize --min 8 --max 12")]
    #[group(required = true, multiple = true)]
    Resize {
        /// Minimum number of threads, from 0 to 10000 [default: unchanged]
        #[arg(long, value_name = "N", value_parser = values::threads)]
        min: Option<usize>,
        /// Maximum number of threads, from 1 to 10000 [default: unchanged]
        #[arg(long, value_name = "N", value_parser = values::number(1..=values::MOST))]
        max: Option<usize>,
    },
    /// Set the maximum age of a stream of ninetabs
    #[command(after_help = "Example: ninetabs ctl max-stream-age 30")]
    MaxStreamAge {
        /// Maximum age [seconds or off]
        #[arg(value_name = "SECS|off", value_parser = values::time_or_off)]
        age: OrOff,
    },
}

/// Sends the request and prints the answer.
pub fn run(args: &CtlArgs, from_environment: &FromEnvironment) -> ExitCode {
    if let CtlOrder::Resize { min: Some(min), max: Some(max) } = args.order
        && min > max
    {
        return misused(format_args!(
            "--min {min} is greater than --max {max}; give a --min of at most {max}"
        ));
    }
    match answer(args) {
        Ok(line) => {
            // The answer may repeat text that a client sent to the server.
            output::print(format!("{}\n", escape::json(&line)).as_bytes())
        }
        Err(error) => failed(from_environment.named(&error.to_string())),
    }
}

fn answer(args: &CtlArgs) -> Result<String, ControlError> {
    let server = args.server.find()?;
    let (method, order, parameters) = request(&args.order);
    if matches!(args.order, CtlOrder::Status) {
        return server.touch(PATIENCE).map(|()| r#"{ "status": "started" }"#.to_owned());
    }
    server.ask(method, order, parameters, PATIENCE)
}

/// Method, command and parameters. Parameters that were not given are left out: Puma 5 accepts a token only if
/// it is the whole query.
fn request(order: &CtlOrder) -> (&'static str, &'static str, Vec<String>) {
    let set = |name: &str, value: &Option<usize>| value.map(|value| format!("{name}={value}"));
    let parameters: Vec<Option<String>> = match order {
        CtlOrder::Timeline { after } => vec![after.map(|seq| format!("after={seq}"))],
        CtlOrder::Reap { older_than } => {
            vec![older_than.map(|age| format!("older-than={}", age.as_secs_f64()))]
        }
        CtlOrder::Resize { min, max } => vec![set("min", min), set("max", max)],
        CtlOrder::MaxStreamAge { age: OrOff(None) } => vec![Some("secs=off".to_owned())],
        CtlOrder::MaxStreamAge { age: OrOff(Some(age)) } => vec![Some(format!("secs={}", age.as_secs_f64()))],
        _ => vec![],
    };
    let name = match order {
        CtlOrder::Stats => "stats",
        CtlOrder::Threads => "threads",
        CtlOrder::ThreadBacktraces => "thread-backtraces",
        CtlOrder::Timeline { .. } => "timeline",
        CtlOrder::Status => "status",
        CtlOrder::Stop => "stop",
        CtlOrder::Halt => "halt",
        CtlOrder::Restart => "restart",
        CtlOrder::PhasedRestart => "phased-restart",
        CtlOrder::Gc => "gc",
        CtlOrder::GcStats => "gc-stats",
        CtlOrder::Reap { .. } => "reap",
        CtlOrder::Resize { .. } => "resize",
        CtlOrder::MaxStreamAge { .. } => "max-stream-age",
    };
    // pumactl sends all of its own commands by GET.
    let method = known(name).map_or("GET", |order| order.method.as_str());
    (method, name, parameters.into_iter().flatten().collect())
}

/// The entry for this command in our control server's table of orders, if there is one.
fn known(name: &str) -> Option<&'static orders::Order> {
    orders::ALL.iter().find(|order| order.path.strip_prefix('/') == Some(name))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Arguments;

    #[test]
    fn ctl_sends_the_methods_and_parameters_that_the_control_server_takes() {
        let some = Some(Duration::from_millis(1500));
        for order in [
            CtlOrder::Threads,
            CtlOrder::Timeline { after: Some(3) },
            CtlOrder::Reap { older_than: some },
            CtlOrder::Resize { min: Some(1), max: Some(2) },
            CtlOrder::MaxStreamAge { age: OrOff(some) },
            CtlOrder::MaxStreamAge { age: OrOff(None) },
        ] {
            let (method, name, parameters) = request(&order);
            let known = known(name).unwrap_or_else(|| panic!("{name} is not in the table"));
            assert_eq!(method, known.method.as_str(), "{name}");
            let sent: Vec<_> = parameters.iter().map(|it| it.split_once('=').unwrap()).collect();
            let names: Vec<_> = sent.iter().map(|(name, _)| *name).collect();
            assert_eq!(names, known.parameters.iter().map(|it| it.name).collect::<Vec<_>>(), "{name}");
            for ((_, value), parameter) in sent.iter().zip(known.parameters) {
                assert!(parameter.takes.read(value).is_ok(), "{name} {value}");
            }
        }
    }

    #[test]
    fn every_order_outside_the_lab_has_a_command_with_its_parameters() {
        let arguments = Arguments::command();
        let ctl = arguments.find_subcommand("ctl").unwrap();
        // A report and a trace are files, not answers of one line.
        let of_pages = |path: &str| {
            path.starts_with("/lab") || ["/events", "/pool", "/report", "/trace"].contains(&path)
        };
        for order in orders::ALL.iter().filter(|order| !of_pages(order.path)) {
            let command = ctl.find_subcommand(&order.path[1..]);
            let command = command.unwrap_or_else(|| panic!("ctl has no {}", order.path));
            let own = command.get_arguments().filter(|flag| !flag.is_global_set());
            let own = own.filter(|flag| flag.get_id() != "help");
            assert_eq!(own.count(), order.parameters.len(), "{}", order.path);
        }
    }
}
