//! `serve`: the app, its pool, and the control server beside it.
//!
//! [`run`] makes the checks that the types of [`ServeArgs`] cannot express, starts everything ([`super::boot`]),
//! prints the start-up message (`greeting`), and waits for a reason to stop.

mod refusals;
mod watch;

use std::fmt::Display;
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::ValueEnum;
use console::Term;
use crossbeam_channel::{Receiver, RecvError, bounded, never, select, unbounded};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::boot::Running;
use super::greeting::{Greeting, OpenedAddress};
use super::logging::Log;
use super::outlet::Outlet;
use super::serve_args::{DbLease, FrontDoor, LiveModel, Notice, ServeArgs, StreamLoop};
use super::temporary_folder::TemporaryFolder;
use super::typed::{self, FromEnvironment};
use super::values::OrNoToken;
use super::{failed, interrupt, logging, signals, token_file};
use crate::app::database_place::{DatabasePlace, MEMORY};
use crate::control::Stop;
use crate::fixes::other_server;
use crate::timestamp;
use ninetabs_server::escape;
use ninetabs_server::handle::ListenerDied;
use ninetabs_server::services::Ended;
use ninetabs_server::threads::{self, SpawnError};
use watch::Watch;

pub(super) const EXAMPLES: &str = "\
Examples:
  ninetabs serve                       eight threads: tab 9 waits
  ninetabs serve --threads 3:3         Rails' default: tab 4 waits
  ninetabs serve --max-stream-age 5    more tabs than threads take turns
  ninetabs serve --db-pool 5           tab 6 gets an empty 200
  ninetabs serve --loop faithful       the article's loop, which loses rows
  RUST_LOG=warn ninetabs serve         a quieter log

`ninetabs serve --help` explains the flags and lists the limits. Each flag has an
environment variable, such as NINETABS_MAX_STREAM_AGE.";

/// Serves until a signal arrives, the control server is ordered to stop, standard input ends, or a listener or
/// service thread ends.
pub fn run(args: ServeArgs, from_environment: &FromEnvironment) -> ExitCode {
    // Set before any thread starts, since threads inherit the signal mask.
    if let Err(error) = signals::block_all_others() {
        return failed(format_args!("cannot set the signal mask: {error}"));
    }
    let (log, said) = match logging::start().and_then(|log| Ok((log, Announced::start()?))) {
        Ok(started) => started,
        Err(error) => return failed(error),
    };
    // Unknown variables are not errors, since Kubernetes sets some for a service with this name.
    for line in typed::unknown_variables(std::env::vars_os().map(|(name, _)| name)) {
        log::warn!("{line}");
    }
    let status = match with_token(args).and_then(|args| serve(&args, &said, &log)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(end) => {
            if let Some(why) = end.why {
                log.complain(&from_environment.named(&why));
            }
            ExitCode::from(end.status)
        }
    };
    said.flush();
    log.flush();
    status
}

/// A failure: the exit status, and the line that gives the reason.
struct FailedEnd {
    status: u8,
    why: Option<String>,
}

impl FailedEnd {
    fn failed(why: impl ToString) -> FailedEnd {
        FailedEnd { status: 1, why: Some(why.to_string()) }
    }

    fn misused(why: impl ToString) -> FailedEnd {
        FailedEnd { status: 2, why: Some(why.to_string()) }
    }
}

/// Reads the file of the control token, if one is given.
fn with_token(mut args: ServeArgs) -> Result<ServeArgs, FailedEnd> {
    if let Some(path) = &args.control_token_file {
        args.control.token = OrNoToken(Some(token_file::read(path).map_err(FailedEnd::failed)?));
    }
    Ok(args)
}

fn serve(args: &ServeArgs, said: &Announced, log: &Log) -> Result<(), FailedEnd> {
    if let Some(refusal) = refusals::of(args) {
        return Err(FailedEnd::misused(refusal));
    }
    let no_signals =
        |error: &dyn Display| FailedEnd::failed(format_args!("cannot listen for signals: {error}"));
    let signals = interrupt::first_of_two().map_err(|error| no_signals(&error))?;
    // Unbounded, because an order that waits to be received would hold a thread of the control server.
    let (order, orders) = unbounded();
    signals::listen(order.clone()).map_err(|error| no_signals(&error))?;
    let stdin = if args.stop_with_stdin { end_of_stdin() } else { never() };

    let no_folder = |error| {
        FailedEnd::failed(format_args!(
            "--database {MEMORY}: cannot create a temporary folder: {error}; set TMPDIR, or give a path"
        ))
    };
    let folder = TemporaryFolder::of(&args.database).map_err(no_folder)?;
    let storage = folder.storage(&args.database);
    let watch = Watch {
        signal: signals.first.clone(),
        orders: orders.clone(),
        stdin: stdin.clone(),
        temporary: folder.path().map(Path::to_owned),
        last_words: [said.0.clone(), log.outlet()],
    };
    let (running, asked) = watch.over(|| Running::start(args, &storage, (order.clone(), orders)))?;
    let mut running = running.map_err(FailedEnd::failed)?;
    // The state file is removed at the end of this function, whatever the result of the stop.
    let _state = running.state.take();
    let mut why = Ok(asked.unwrap_or(Stop::Gracefully));
    if asked.is_none() {
        said.say(&greeting(args, &running));
        why = select! {
            recv(signals.first) -> _ => Ok(Stop::Gracefully),
            recv(stdin) -> _ => Ok(Stop::Gracefully),
            recv(running.stops) -> stop => Ok(stop.unwrap_or(Stop::Gracefully)),
            recv(running.app.died()) -> died => Err(of_front_door(died)),
            recv(running.control.died()) -> died => Err(of_front_door(died)),
            recv(running.services.ended()) -> ended => Err(of_service(ended)),
        };
    }
    // From now on, the next signal ends the process immediately.
    signals.count_as_first();
    let how = why.clone().unwrap_or(Stop::Gracefully);
    let ended = stop(running, how, args.force_shutdown_after, said);
    select! {
        recv(ended) -> ended => ended.map_err(|_| FailedEnd::failed("the stop panicked; see the log"))?,
        recv(signals.second) -> _ => {
            // A halt also writes the end of the trace.
            let _ = order.send(Stop::AtOnce);
            let _ = ended.recv_timeout(interrupt::WITHIN);
            return Err(FailedEnd { status: interrupt::INTERRUPTED, why: None });
        }
    }
    match why {
        Ok(_) => {
            said.say(&format!("=== puma shutdown: {} ===", now()));
            said.say("- Goodbye!");
            Ok(())
        }
        Err(died) => Err(FailedEnd::failed(died)),
    }
}

/// Stops everything on a separate thread, because a stop may take minutes and this thread has to wait for a second
/// signal. The returned channel receives a message at the end of the stop.
fn stop(running: Running, how: Stop, force_shutdown_after: Duration, said: &Announced) -> Receiver<()> {
    let (tell, ended) = bounded(1);
    let said = said.clone();
    let stop = move |mut running: Running| {
        let mut how = how;
        if how == Stop::Gracefully {
            said.say("- Gracefully stopping, waiting for requests to finish");
            how = running.stop(force_shutdown_after);
        }
        match how {
            Stop::Gracefully => drop(running),
            Stop::AtOnce => {
                said.say("* Stopping immediately!");
                running.halt();
            }
        }
        // After a second signal, the receiver is gone.
        let _ = tell.send(());
    };
    let (hand, handed) = bounded(1);
    let stop_handed = stop.clone();
    let stopper = threads::spawn("stopper", move || {
        if let Ok(running) = handed.recv() {
            stop_handed(running);
        }
    });
    match stopper {
        Ok(_) => drop(hand.send(running)),
        Err(error) => {
            log::warn!("{error}; a second signal during the stop would leave files behind");
            stop(running);
        }
    }
    ended
}

fn of_front_door(died: Result<ListenerDied, RecvError>) -> String {
    died.map_or_else(|_| "the front door ended unexpectedly; see the log".to_owned(), |died| died.to_string())
}

fn of_service(ended: Result<Ended, RecvError>) -> String {
    ended.map_or_else(|_| "a thread ended unexpectedly; see the log".to_owned(), |ended| ended.to_string())
}

/// The start-up message for the running servers.
fn greeting(args: &ServeArgs, running: &Running) -> String {
    let (app, control) = (running.app.addr(), running.control.addr());
    let pages = OpenedAddress(app).origins();
    let streams_at = args
        .streams_at
        .as_deref()
        .map(|origin| (origin, other_server::command(origin, &pages.join(","), &args.database)));
    let threads = args.threads.max() + args.max_io_threads;
    let greeting = Greeting {
        app,
        control,
        needs_token: args.control.token.0.is_some(),
        allowed_hosts: &args.allow_host,
        threads: args.threads,
        max_io_threads: args.max_io_threads,
        fix: args.fix.and_then(|fix| fix.to_possible_value()).map(|value| value.get_name().to_owned()),
        stream_cap: args.stream_cap.0,
        max_stream_age: args.max_stream_age.0,
        reap_every: args.reap_every,
        retry: args.retry,
        leased_connections: (args.db_lease == DbLease::Action).then_some(args.db_pool.0.unwrap_or(threads)),
        checkout_timeout: args.db_checkout_timeout,
        streams_at,
        is_tiny_http: args.front == FrontDoor::TinyHttp,
        notices_by_poll: args.notice_close == Notice::Poll,
        has_own_threads: args.live == LiveModel::Rails,
        is_faithful: args.stream_loop == StreamLoop::Faithful,
        database: escape::printable(&args.database.to_string()).to_string(),
        database_note: if args.database == DatabasePlace::Memory {
            "deleted when the server stops".to_owned()
        } else {
            running.earlier_rows.to_string()
        },
    };
    // In a pipe or a file, each sentence stays on one line.
    let terminal = Term::stdout();
    let width = terminal.is_term().then(|| terminal.size_checked()).flatten();
    greeting.text(width.map(|(_, columns)| columns.into()))
}

/// The current time as Ruby writes it, in UTC: `2026-01-31 23:59:59 +0000`.
fn now() -> String {
    timestamp::seconds(SystemTime::now()).to_string().replace('T', " ").replace('Z', " +0000")
}

/// The messages on standard output. If they cannot be written, the server continues.
#[derive(Clone)]
struct Announced(Outlet);

impl Announced {
    fn start() -> Result<Announced, SpawnError> {
        let failed = |error: &io::Error| log::warn!("cannot write to standard output: {error}");
        Ok(Announced(Outlet::start("stdout", io::stdout(), failed)?))
    }

    fn say(&self, text: &str) {
        self.0.queue(format!("{text}\n").as_bytes());
    }

    fn flush(&self) {
        self.0.flush(logging::LAST_WORDS);
    }
}

/// Returns a channel that receives a message when standard input has ended.
fn end_of_stdin() -> Receiver<()> {
    let (tell, ended) = bounded(1);
    let watcher = threads::spawn("stdin", move || {
        if let Err(error) = read_to_its_end(io::stdin()) {
            log::warn!("cannot read standard input, which counts as its end: {error}");
        }
        // The server may already be stopping for another reason.
        let _ = tell.send(());
    });
    match watcher {
        Ok(_) => ended,
        Err(error) => {
            log::warn!("{error}; the end of standard input will not stop the server");
            never()
        }
    }
}

/// Reads to the end of a file. Blocks even if another process has made the shared description non-blocking.
fn read_to_its_end(mut from: impl Read + AsFd) -> io::Result<()> {
    let mut read = [0; 1024];
    loop {
        match from.read(&mut read) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                match poll(&mut [PollFd::new(&from, PollFlags::IN)], None) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Err(error) => return Err(error),
        }
    }
}
