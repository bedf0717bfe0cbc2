//! `ctl`: asks a control server, of ninetabs or of Puma, or gives it an order.
//!
//! Does what pumactl does, and what only our control server knows. The answer
//! goes to standard output as it came, one line of JSON, so that it can be piped
//! into `jq`. Exit status 1 when nobody is there or the server refused, with one
//! line that says the way out. Blocks for 30 s at the most.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::control_server::{ControlError, ControlServerArgs};
use super::pretty::pretty;
use super::typed::FromEnvironment;
use super::values::{self, OrOff};
use super::{duration, failed, misused, output};
use crate::control::orders;
use ninetabs_server::escape;

/// How long an answer may take: opening thousands of database connections is part of a resize.
const PATIENCE: Duration = Duration::from_secs(30);

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
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, arg_required_else_help = false)]
pub struct CtlArgs {
    #[command(flatten)]
    pub server: ControlServerArgs,
    /// Lay the answer out for a person, a value a line.
    #[arg(id = "ctl_pretty", long = "pretty", global = true)]
    pub pretty: bool,
    #[command(subcommand)]
    pub order: CtlOrder,
}

/// What is asked for.
#[derive(Debug, Clone, Subcommand)]
pub enum CtlOrder {
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
        #[arg(long, value_name = "N", value_parser = values::number_from(0_u64))]
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
        /// Minimum of threads, a number from 0 to 10000 [default: as it is].
        #[arg(long, value_name = "N", value_parser = values::threads)]
        min: Option<usize>,
        /// Maximum of threads, a number from 1 to 10000 [default: as it is].
        #[arg(long, value_name = "N", value_parser = values::number(1..=values::MOST))]
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

/// Asks, and prints the answer.
pub fn run(args: &CtlArgs, from_environment: &FromEnvironment) -> ExitCode {
    if let CtlOrder::Resize { min: Some(min), max: Some(max) } = args.order
        && min > max
    {
        return misused(format_args!("--min {min} is more than --max {max}; give a minimum that is no more"));
    }
    match answer(args) {
        Ok(line) => {
            let text = if args.pretty { pretty(&line) } else { line };
            // It may repeat what a client of the server has sent.
            output::print(format!("{}\n", escape::json(&text)).as_bytes())
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

/// Method, command and parameters. What need not be said is not: Puma 5 finds its
/// token only where it is the whole query.
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
    // pumactl's own commands are all asked for by GET.
    let method = known(name).map_or("GET", |order| order.method.as_str());
    (method, name, parameters.into_iter().flatten().collect())
}

/// The row of our control server's table, for what is ours.
fn known(name: &str) -> Option<&'static orders::Order> {
    orders::ALL.iter().find(|order| order.path.strip_prefix('/') == Some(name))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Arguments;

    /// Each order of ours with all of its parameters.
    #[test]
    fn what_ctl_sends_is_what_the_control_server_takes() {
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
            let known = known(name).unwrap_or_else(|| panic!("{name} is in no table"));
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
    fn every_order_of_ours_outside_the_lab_has_a_command_with_its_parameters() {
        let arguments = Arguments::command();
        let ctl = arguments.find_subcommand("ctl").unwrap();
        let of_pages = |path: &str| path.starts_with("/lab") || path == "/events";
        for order in orders::ALL.iter().filter(|order| !of_pages(order.path)) {
            let command = ctl.find_subcommand(&order.path[1..]);
            let command = command.unwrap_or_else(|| panic!("ctl has no {}", order.path));
            let own = command.get_arguments().filter(|flag| !flag.is_global_set());
            let own = own.filter(|flag| !matches!(flag.get_id().as_str(), "help" | "ctl_pretty"));
            assert_eq!(own.count(), order.parameters.len(), "{}", order.path);
        }
    }
}
