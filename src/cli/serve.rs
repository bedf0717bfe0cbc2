//! `serve`: the app, its pool, and the control server beside it.
//!
//! [`ServeArgs`] is what was typed ([`super::serve_args`]); [`run`] checks what the types cannot, starts
//! everything ([`super::boot`]), says what to try, and waits for a reason to stop.

use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::thread;

use crossbeam_channel::{Receiver, bounded, never, select};

use super::boot::{self, Running};
use super::serve_args::{FrontDoor, Notice, ServeArgs};
use super::values::MinMax;
use super::{failed, interrupt, misused};

pub(super) const EXAMPLES: &str = "\
Examples:
  ninetabs serve                       eight threads, and nine tabs to run them dry
  ninetabs serve --threads 3:3         a new Rails app: the fourth tab waits
  ninetabs serve --max-stream-age 5    the cure: more tabs than threads take turns
  ninetabs serve --db-pool 5           the pool behind the pool: the sixth tab gets an empty 200
  ninetabs serve --loop faithful       the loop that loses models
  RUST_LOG=warn ninetabs serve         a quieter log";

/// Serves until a signal, the end of standard input, or the front door's death.
pub fn run(args: ServeArgs) -> ExitCode {
    boot::start_logging();
    if args.front == FrontDoor::TinyHttp
        && let Some(refusal) = beyond_tiny_http(&args)
    {
        return misused(refusal);
    }
    let signal = match interrupt::first_of_two() {
        Ok(signal) => signal,
        Err(error) => return failed(format_args!("cannot listen for signals: {error}")),
    };
    let stdin = if args.stop_with_stdin { end_of_stdin() } else { never() };
    let running = match Running::start(&args) {
        Ok(running) => running,
        Err(error) => return failed(error),
    };
    say_what_to_try(&args, &running);

    let why = select! {
        recv(signal) -> _ => Ok(()),
        recv(stdin) -> _ => Ok(()),
        recv(running.app.died()) -> died => Err(died),
        recv(running.control.died()) -> died => Err(died),
    };
    say("- Gracefully stopping, waiting for requests to finish");
    running.stop(args.force_shutdown_after);
    match why {
        Ok(()) => {
            say("- Goodbye!");
            ExitCode::SUCCESS
        }
        Err(Ok(died)) => failed(died),
        Err(Err(_)) => failed("the front door ended without a word"),
    }
}

/// What was asked for and tiny_http cannot do, in a line that names who can.
fn beyond_tiny_http(args: &ServeArgs) -> Option<String> {
    for (flag, address) in [("--bind", args.bind), ("--control-url", args.control_url)] {
        if !address.ip().is_loopback() {
            return Some(format!(
                "{flag} tcp://{address}: the tiny-http front has no limit on what a client sends and listens on loopback only; give tcp://127.0.0.1:{}, or --front puma",
                address.port()
            ));
        }
    }
    let flags = [
        ("--first-data-timeout", args.first_data_timeout.is_some()),
        ("--head-timeout", args.head_timeout.is_some()),
        ("--persistent-timeout", args.persistent_timeout.is_some()),
        ("--max-head-bytes", args.max_head_bytes.is_some()),
        ("--max-connections", args.max_connections.is_some()),
        ("--notice-close poll", args.notice_close == Notice::Poll),
    ];
    let (flag, _) = flags.iter().find(|(_, is_given)| *is_given)?;
    Some(format!("{flag}: the tiny-http front cannot do that; give --front puma, or leave it out"))
}

fn say_what_to_try(args: &ServeArgs, running: &Running) {
    let (app, control) = (running.app.address(), running.control.address());
    let MinMax(min, max) = args.threads;
    let (version, port) = (env!("CARGO_PKG_VERSION"), app.port());
    say(&format!(
        "ninetabs {version}, a model of Puma 8: threads {min}:{max}
* The app:            http://{app}
* The control server: http://{control}/stats
* Nine tabs on nine hosts, and the ninth waits for a thread:
    http://tab1.localhost:{port}/?tab=1 … http://tab9.localhost:{port}/?tab=9
* Nine tabs on one address, and the seventh waits for the browser:
    http://{app}
Use Ctrl-C to stop"
    ));
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
