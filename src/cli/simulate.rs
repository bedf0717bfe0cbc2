//! `simulate`: what happens to many tabs on many servers, computed with the rules of the real pool.
//!
//! The arguments become a [`Scenario`]; [`crate::lab::simulate`] does the rest. The exit status is 0 if every law held,
//! 1 if one did not, and 130 after an interrupt.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::files::whole::WholeFile;
use super::serve_args::Notice;
use super::values::{self, OrOff};
use super::{duration, failed, interrupt, misused, output};
use crate::lab::narrator::wrapped;
use crate::lab::signs::Signs;
use crate::lab::simulate::report::{self, SimulationReport};
use crate::lab::simulate::scenario::{MOST_SERVERS, MOST_TABS};
use crate::lab::simulate::{
    self, Balance, Flaw, HeldBy, Kept, Noticed, Outage, Scenario, Simulated, picture,
};
use ninetabs_server::escape;
use ninetabs_server::thread_pool::PoolSize;

pub(super) const EXAMPLES: &str = "\
Exit status: 0 if every law holds, 1 if one does not, 130 if interrupted.

Examples:
  ninetabs simulate                                  nine tabs, eight threads
  ninetabs simulate --max-stream-age 5               the tabs take turns
  ninetabs simulate --tabs 1000000 --servers 20 --max-stream-age 5 --for 86400
  ninetabs simulate --tabs 1000000 --servers 40 --held-by event-loop --kill 1@60
  ninetabs simulate --tabs 60 --max-stream-age 5 --svg lanes.svg
  ninetabs simulate --tabs 64 --max-stream-age 5 --break-rule lifo";

/// Columns of the terminal that are used.
const WIDTH: usize = 80;
/// The longest simulated time: a year.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);
/// The maximum number of pages per second.
const MOST_PAGES: f64 = 100_000.0;

/// How the balancer chooses a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BalanceArg {
    /// The server with the fewest connections, like HAProxy's leastconn.
    Leastconn,
    /// Each server in turn.
    Roundrobin,
}

/// The holder of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum HeldByArg {
    /// A pool thread, for the whole stream.
    Thread,
    /// The event loop, as with the fix push: the thread is freed once the stream is open.
    EventLoop,
}

/// A rule to break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FlawArg {
    /// The newest request is served first.
    Lifo,
    /// One notification in fifty wakes no thread.
    LostWakeUp,
    /// Every stream gets the whole maximum age.
    NoJitter,
}

#[derive(Debug, Args)]
pub struct SimulateArgs {
    /// Number of tabs, from 1 to 10,000,000 [default: 9]
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = values::number(1..=MOST_TABS))]
    pub tabs: u32,
    /// Number of servers, from 1 to 1000 [default: 1]
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = values::number(1..=MOST_SERVERS))]
    pub servers: u16,
    /// Minimum and maximum of each server's pool threads [default: 8:8]
    #[arg(long, value_name = "MIN:MAX", default_value = "8:8", value_parser = values::pool_size)]
    pub threads: PoolSize,
    /// What holds a stream open [thread or event-loop; default: thread]
    #[arg(long, value_name = "WHAT", default_value = "thread")]
    pub held_by: HeldByArg,
    /// Maximum age of a stream [seconds or off; default: off]
    #[arg(long, value_name = "SECS|off", default_value = "off", value_parser = values::time_or_off)]
    pub max_stream_age: OrOff,
    /// Maximum random reduction of that age [default: 10%]
    #[arg(long, value_name = "%", default_value = "10%", value_parser = values::percentage)]
    pub max_stream_age_jitter: f64,
    /// Interval of the stream reaper [seconds; default: 1]
    #[arg(long, value_name = "SECS", default_value = "1", value_parser = values::some_time)]
    pub reap_every: Duration,
    /// Delay after which a tab reconnects [seconds; default: 3]
    #[arg(long, value_name = "SECS", default_value = "3", value_parser = duration::seconds)]
    pub retry: Duration,
    /// Sleep between two queries of a stream [seconds; default: 2]
    #[arg(long, value_name = "SECS", default_value = "2", value_parser = values::some_time)]
    pub update_rate: Duration,
    /// Interval between new rows [seconds or off; default: 1]
    #[arg(long, value_name = "SECS|off", default_value = "1", value_parser = values::time_or_off)]
    pub produce_every: OrOff,
    /// How a server detects a closed client [write or poll; default: write]
    #[arg(long, value_name = "HOW", default_value = "write")]
    pub notice_close: Notice,
    /// Interval at which idle threads are trimmed [seconds; default: 30]
    #[arg(long, value_name = "SECS", default_value = "30", value_parser = values::some_time)]
    pub auto_trim_time: Duration,
    /// Pages that are requested per second, on average [default: 1]
    #[arg(long, value_name = "N", default_value = "1", value_parser = rate)]
    pub pages_per_second: f64,
    /// Time within which all tabs are opened [seconds; default: 1]
    #[arg(long, value_name = "SECS", default_value = "1", value_parser = duration::seconds)]
    pub open_within: Duration,
    /// Mean time until a connection is cut [seconds or off; default: off]
    #[arg(long, value_name = "SECS|off", default_value = "off", value_parser = values::time_or_off)]
    pub cut_every: OrOff,
    /// How a server is chosen [leastconn or roundrobin; default: leastconn]
    #[arg(long, value_name = "HOW", default_value = "leastconn")]
    pub balance: BalanceArg,
    /// Time until the balancer detects a change [seconds; default: 1]
    #[arg(long, value_name = "SECS", default_value = "1", value_parser = duration::seconds)]
    pub check: Duration,
    /// Server to kill, and when (such as 2@30 or 2@30..40)
    ///
    /// Servers are counted from 1, and times in seconds from the start of the run. With a second time, the server
    /// starts again. Repeat the flag for several.
    #[arg(long, value_name = "N@T[..T]", value_parser = outage)]
    pub kill: Vec<Outage>,
    /// Server to stop by a signal, and when (such as 1@60..75)
    ///
    /// Its connections stay open. It continues at the second time.
    #[arg(long, value_name = "N@T..T", value_parser = pause)]
    pub stop: Vec<Outage>,
    /// Period in which the database answers no query (such as 60..90)
    #[arg(long, value_name = "T..T", value_parser = span)]
    pub engine_gone: Vec<(Duration, Duration)>,
    /// Maximum wait for the database [seconds; default: 5]
    #[arg(long, value_name = "SECS", default_value = "5", value_parser = values::some_time)]
    pub db_query_timeout: Duration,
    /// Simulated time, at most a year [seconds; default: 600]
    #[arg(long = "for", value_name = "SECS", default_value = "600", value_parser = length)]
    pub length: Duration,
    /// Seed of all random numbers [default: 1]
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = values::number(0..=u64::MAX))]
    pub seed: u64,
    /// Rule to break, to see a law fail [lifo, lost-wake-up or no-jitter]
    #[arg(long, value_name = "RULE")]
    pub break_rule: Option<FlawArg>,
    /// Print only one JSON object
    #[arg(long)]
    pub json: bool,
    /// SVG file for the beginning of the first server's lanes
    #[arg(long, visible_alias = "picture", value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

impl SimulateArgs {
    /// What to simulate, or an error that names the flag.
    fn scenario(&self) -> Result<Scenario, String> {
        for (flag, outages) in [("--kill", &self.kill), ("--stop", &self.stop)] {
            if let Some(outage) = outages.iter().find(|outage| outage.server > self.servers) {
                let (server, servers) = (outage.server, self.servers);
                return Err(format!(
                    "{flag}: there is no server {server}; give one from 1 to {servers}, or a larger --servers"
                ));
            }
        }
        Ok(Scenario {
            tabs: self.tabs,
            servers: self.servers,
            threads: self.threads,
            held_by: match self.held_by {
                HeldByArg::Thread => HeldBy::Thread,
                HeldByArg::EventLoop => HeldBy::EventLoop,
            },
            max_stream_age: self.max_stream_age.0,
            max_stream_age_jitter: self.max_stream_age_jitter,
            reap_every: self.reap_every,
            retry: self.retry,
            update_rate: self.update_rate,
            produce_every: self.produce_every.0,
            noticed: match self.notice_close {
                Notice::Write => Noticed::BySecondWrite,
                Notice::Poll => Noticed::ByPoll,
            },
            auto_trim_time: self.auto_trim_time,
            pages_per_second: self.pages_per_second,
            open_within: self.open_within,
            cut_every: self.cut_every.0,
            balance: match self.balance {
                BalanceArg::Leastconn => Balance::LeastConnections,
                BalanceArg::Roundrobin => Balance::RoundRobin,
            },
            check: self.check,
            killed: self.kill.clone(),
            stopped: self.stop.clone(),
            engine_gone: self.engine_gone.clone(),
            query_timeout: self.db_query_timeout,
            length: self.length,
            seed: self.seed,
            flaw: self.break_rule.map(|rule| match rule {
                FlawArg::Lifo => Flaw::Lifo,
                FlawArg::LostWakeUp => Flaw::LostWakeUp,
                FlawArg::NoJitter => Flaw::NoJitter,
            }),
            ..Scenario::default()
        })
    }
}

/// Simulates, and prints the result.
pub fn run(args: &SimulateArgs) -> ExitCode {
    let scenario = match args.scenario() {
        Ok(scenario) => scenario,
        Err(error) => return misused(error),
    };
    let interrupted = match interrupt::ends_all() {
        Ok(interrupted) => interrupted,
        Err(error) => return failed(format_args!("cannot listen for signals: {error}")),
    };
    let file = match args.svg.as_deref().map(|path| WholeFile::at("--svg", path)).transpose() {
        Ok(file) => file,
        Err(error) => return failed(error),
    };
    let watched = if file.is_some() { picture::KEPT } else { Kept::None };
    let Ok(simulated) = simulate::run(&scenario, watched, &interrupted) else {
        super::complain("interrupted");
        return ExitCode::from(interrupt::INTERRUPTED);
    };
    let held = report::held(&simulated);
    if let Err(error) = output::check(print(args, &scenario, &simulated)) {
        return failed(error);
    }
    if let Some(file) = file {
        let drawn = picture::svg(&scenario, simulated).map_err(|error| format!("--svg: {error}"));
        let written = drawn.and_then(|svg| file.write(svg.as_bytes()).map_err(|error| error.to_string()));
        if let Err(error) = written {
            return failed(error);
        }
    }
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn print(args: &SimulateArgs, scenario: &Scenario, simulated: &Simulated) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if args.json {
        let line = serde_json::to_string(&SimulationReport::of(scenario, simulated))?;
        writeln!(out, "{}", escape::json(&line))?;
        return out.flush();
    }
    let signs = Signs::from_environment();
    let mut say =
        |text: &str| wrapped(&signs.text(text), WIDTH).iter().try_for_each(|line| writeln!(out, "{line}"));
    say(&report::title(scenario))?;
    say("")?;
    report::table(&simulated.figures).iter().try_for_each(|line| writeln!(out, "{}", line.trim_end()))?;
    writeln!(out)?;
    for claim in &simulated.laws {
        let line = format!("{} {}", signs.mark(claim.held), signs.text(&claim.sentence()));
        wrapped(&line, WIDTH).iter().try_for_each(|line| writeln!(out, "{line}"))?;
    }
    writeln!(out)?;
    let verdict = report::verdict(scenario, &simulated.figures);
    wrapped(&signs.text(&verdict), WIDTH).iter().try_for_each(|line| writeln!(out, "{line}"))?;
    out.flush()
}

/// A number of pages per second.
fn rate(text: &str) -> Result<f64, String> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let number = text.parse().ok().filter(|number| plain && (0.0..=MOST_PAGES).contains(number));
    number.ok_or_else(|| format!("give a number from 0 to {MOST_PAGES}"))
}

/// A simulated time.
fn length(text: &str) -> Result<Duration, String> {
    let time = values::some_time(text)?;
    if time > LONGEST {
        return Err(format!("give at most {} seconds, which is a year", LONGEST.as_secs()));
    }
    Ok(time)
}

/// A server and a time, such as `2@30`, or two times.
fn outage(text: &str) -> Result<Outage, String> {
    let parse = || {
        let (server, times) = text.split_once('@')?;
        let server = server.parse().ok().filter(|server| *server > 0)?;
        match times.split_once("..") {
            None => Some(Outage { server, from: duration::seconds(times).ok()?, until: None }),
            Some(_) => {
                let (from, until) = span(times).ok()?;
                Some(Outage { server, from, until: Some(until) })
            }
        }
    };
    parse().ok_or_else(|| "give a server and a time in seconds, such as 2@30, or 2@30..40".to_owned())
}

/// A server and two times, such as `1@60..75`.
fn pause(text: &str) -> Result<Outage, String> {
    let paused = outage(text).ok().filter(|outage| outage.until.is_some());
    paused.ok_or_else(|| "give a server and two times in seconds, such as 1@60..75".to_owned())
}

/// Two times, such as `60..90`.
fn span(text: &str) -> Result<(Duration, Duration), String> {
    let times = text.split_once("..").and_then(|(from, until)| {
        Some((duration::seconds(from).ok()?, duration::seconds(until).ok()?))
            .filter(|(from, until)| from < until)
    });
    times.ok_or_else(|| "give two times in seconds, the earlier one first, such as 60..90".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outages_name_a_server_and_times() {
        let seconds = Duration::from_secs;
        assert_eq!(outage("2@30"), Ok(Outage { server: 2, from: seconds(30), until: None }));
        let pause_of_15 = Outage { server: 1, from: seconds(60), until: Some(seconds(75)) };
        assert_eq!(pause("1@60..75"), Ok(pause_of_15));
        assert_eq!(span("0.5..2s"), Ok((Duration::from_millis(500), seconds(2))));
        for text in ["", "2", "@30", "0@30", "2@", "2@30..", "2@30..20", "x@1", "2@x"] {
            assert!(outage(text).is_err_and(|says| says.contains("2@30..40")), "{text}");
        }
        assert!(pause("1@60").is_err() && span("5..5").is_err() && rate("1e3").is_err() && rate("").is_err());
        assert!(length("31536001").is_err_and(|says| says.contains("31536000")));
    }
}
