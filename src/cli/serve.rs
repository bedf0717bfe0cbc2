//! `serve`: the app, its pool, and the control server beside it.
//!
//! [`ServeArgs`] is what was typed ([`super::serve_args`]); [`run`] checks what the types cannot, starts
//! everything ([`super::boot`]), says what to try, and waits for a reason to stop.

use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::thread;
use std::time::SystemTime;

use crossbeam_channel::{Receiver, bounded, never, select};

use super::boot::{self, Running};
use super::same_path::same_path;
use super::serve_args::{FrontDoor, Notice, ServeArgs};
use super::values::MinMax;
use super::{failed, interrupt, misused};
use crate::control::Stop;
use crate::timestamp;

pub(super) const EXAMPLES: &str = "\
Examples:
  ninetabs serve                       eight threads, and nine tabs to run them dry
  ninetabs serve --threads 3:3         a new Rails app: the fourth tab waits
  ninetabs serve --max-stream-age 5    the cure: more tabs than threads take turns
  ninetabs serve --db-pool 5           the pool behind the pool: the sixth tab gets an empty 200
  ninetabs serve --loop faithful       the loop that loses models
  RUST_LOG=warn ninetabs serve         a quieter log";

/// Serves until a signal, an order to the control server, the end of standard
/// input, or the front door's death.
pub fn run(args: ServeArgs) -> ExitCode {
    boot::start_logging();
    if args.front == FrontDoor::TinyHttp
        && let Some(refusal) = beyond_tiny_http(&args)
    {
        return misused(refusal);
    }
    if let Some(same) = same_path(&[
        ("--database", Some(&args.database)),
        ("--state", args.state.as_deref()),
        ("--trace", args.trace.as_deref()),
    ]) {
        return misused(same);
    }
    let signals = match interrupt::first_of_two() {
        Ok(signals) => signals,
        Err(error) => return failed(format_args!("cannot listen for signals: {error}")),
    };
    let stdin = if args.stop_with_stdin { end_of_stdin() } else { never() };
    let mut running = match Running::start(&args) {
        Ok(running) => running,
        Err(error) => return failed(error),
    };
    say_what_to_try(&args, &running);

    let why = select! {
        recv(signals.first) -> _ => Ok(Stop::Gracefully),
        recv(stdin) -> _ => Ok(Stop::Gracefully),
        recv(running.stops) -> stop => Ok(stop.unwrap_or(Stop::Gracefully)),
        recv(running.app.died()) -> died => Err(died),
        recv(running.control.died()) -> died => Err(died),
    };
    // Who presses Ctrl-C while it stops, for whatever reason, means it.
    signals.count_as_first();
    let mut how = why.clone().unwrap_or(Stop::Gracefully);
    if how == Stop::Gracefully {
        say("- Gracefully stopping, waiting for requests to finish");
        how = running.stop(args.force_shutdown_after);
    }
    match how {
        Stop::Gracefully => drop(running),
        Stop::AtOnce => {
            say("* Stopping immediately!");
            running.halt();
        }
    }
    match why {
        Ok(_) => {
            say(&format!("=== puma shutdown: {} ===", now()));
            say("- Goodbye!");
            ExitCode::SUCCESS
        }
        Err(Ok(died)) => failed(died),
        Err(Err(_)) => failed("the front door ended without a word"),
    }
}

/// What was asked for and tiny_http cannot do, in a line that names who can.
fn beyond_tiny_http(args: &ServeArgs) -> Option<String> {
    let address = args.bind;
    if !address.ip().is_loopback() {
        return Some(format!(
            "--bind tcp://{address}: the tiny-http front has no limit on what a client sends and listens on loopback only; give tcp://127.0.0.1:{}, or --front puma",
            address.port()
        ));
    }
    let flags = [
        ("--first-data-timeout", args.first_data_timeout.is_some()),
        ("--head-timeout", args.head_timeout.is_some()),
        ("--persistent-timeout", args.persistent_timeout.is_some()),
        ("--max-head-bytes", args.max_head_bytes.is_some()),
        ("--max-connections", args.max_connections.is_some()),
        ("--push-buffer", args.push_buffer.is_some()),
        ("--notice-close poll", args.notice_close == Notice::Poll),
    ];
    let (flag, _) = flags.iter().find(|(_, is_given)| *is_given)?;
    Some(format!("{flag}: the tiny-http front cannot do that; give --front puma, or leave it out"))
}

fn say_what_to_try(args: &ServeArgs, running: &Running) {
    let (app, control) = (running.app.address(), running.control.address());
    let MinMax(min, max) = args.threads;
    let query = if args.control_token.0.is_none() { "" } else { "/?token=…" };
    let (version, port) = (env!("CARGO_PKG_VERSION"), app.port());
    say(&format!(
        "ninetabs {version}, a model of Puma 8: threads {min}:{max}
* The app:            http://{app}
* The dashboard:      http://{control}{query}
* The control server: http://{control}/stats
* Nine tabs on nine hosts, and the ninth waits for a thread:
    http://tab1.localhost:{port}/?tab=1 … http://tab9.localhost:{port}/?tab=9
* Nine tabs on one address, and the seventh waits for the browser:
    http://{app}
Use Ctrl-C to stop"
    ));
}

/// As Ruby writes it, in UTC: `2026-01-31 23:59:59 +0000`.
fn now() -> String {
    timestamp::seconds(SystemTime::now()).to_string().replace('T', " ").replace('Z', " +0000")
}

/// A server serves on when nobody reads what it says.
fn say(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// Receives when standard input has ended.
fn end_of_stdin() -> Receiver<()> {
    let (tell, ended) = bounded(1);
    let watcher = thread::Builder::new().name("stdin".into()).spawn(move || {
        let mut read = [0; 1024];
        while io::stdin().lock().read(&mut read).is_ok_and(|read| read > 0) {}
        // Whoever waits may have stopped for another reason.
        let _ = tell.send(());
    });
    match watcher {
        Ok(_) => ended,
        Err(error) => {
            log::warn!("standard input is not watched: {error}");
            never()
        }
    }
}
