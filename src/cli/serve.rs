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
use super::serve_args::ServeArgs;
use super::values::MinMax;
use super::{failed, interrupt, misused};
use crate::control::Stop;

/// Serves until a signal, an order to the control server, the end of standard
/// input, or the front door's death.
pub fn run(args: ServeArgs) -> ExitCode {
    boot::start_logging();
    for (flag, address) in [("--bind", args.bind), ("--control-url", args.control_url)] {
        if !address.ip().is_loopback() {
            return misused(format_args!(
                "{flag} tcp://{address}: the tiny-http front has no limit on what a client sends and listens on loopback only; give tcp://127.0.0.1:{}",
                address.port()
            ));
        }
    }
    let signal = match interrupt::first_of_two() {
        Ok(signal) => signal,
        Err(error) => return failed(format_args!("cannot listen for signals: {error}")),
    };
    let stdin = if args.stop_with_stdin { end_of_stdin() } else { never() };
    let mut running = match Running::start(&args) {
        Ok(running) => running,
        Err(error) => return failed(error),
    };
    say_what_to_try(&args, &running);

    let why = select! {
        recv(signal) -> _ => Ok(Stop::Gracefully),
        recv(stdin) -> _ => Ok(Stop::Gracefully),
        recv(running.stops) -> stop => Ok(stop.unwrap_or(Stop::Gracefully)),
        recv(running.app.died()) -> died => Err(died),
        recv(running.control.died()) -> died => Err(died),
    };
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

/// As Ruby writes it, in UTC: `2026-01-31 23:59:59 +0000`.
fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string().replace('T', " ").replace('Z', " +0000")
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
