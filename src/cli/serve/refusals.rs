//! Refuses combinations of `serve` arguments that are each valid on their own. Each refusal is one line that says
//! what to give instead.

use crate::app::database_place::DatabasePlace;
use crate::cli::files::clash::{Use, same_file};
use crate::cli::serve_args::{FrontDoor, LiveModel, Notice, ServeArgs};
use crate::control::{SAFE_TOKEN, SHORTEST_TOKEN, Token};

/// The first reason why `serve` must not start.
pub fn of(args: &ServeArgs) -> Option<String> {
    let on_tiny_http = || (args.front == FrontDoor::TinyHttp).then(|| beyond_tiny_http(args)).flatten();
    exposed(args)
        .or_else(|| no_cable(args))
        .or_else(|| beyond_own_threads(args))
        .or_else(on_tiny_http)
        .or_else(|| clash(args))
}

/// The reason why the control server must not start: a token that is too short, or no token at an address that other
/// hosts can reach.
fn exposed(args: &ServeArgs) -> Option<String> {
    let address = args.control_url;
    let is_local = address.ip().to_canonical().is_loopback();
    match args.control.token.0.as_ref().map(Token::length) {
        None if is_local => None,
        None => Some(format!(
            "--control-url tcp://{address} is reachable from other hosts, and any of them could stop the server; give a token with --control-token or --control-token-file, or listen on tcp://127.0.0.1:{}",
            address.port()
        )),
        Some(length) if length < SHORTEST_TOKEN => Some(format!(
            "the control token has only {length} characters; give at least {SHORTEST_TOKEN} with --control-token or --control-token-file, preferably {SAFE_TOKEN} random ones"
        )),
        Some(length) => {
            if length < SAFE_TOKEN && !is_local {
                log::warn!(
                    "--control-url tcp://{address} is reachable from other hosts, and a token of {length} characters can be guessed; give {SAFE_TOKEN} or more random ones"
                );
            }
            None
        }
    }
}

/// The refusal of a `--cable-database` that is not a URL, or that is not needed.
fn no_cable(args: &ServeArgs) -> Option<String> {
    let given = args.cable_database.as_ref()?;
    match (given, &args.database) {
        (DatabasePlace::Server(_), DatabasePlace::Server(_)) => None,
        (DatabasePlace::Server(_), _) => Some(format!(
            "--cable-database {given}: it is used only with a postgresql:// URL for --database; leave it out"
        )),
        _ => Some(format!("--cable-database {given}: give the postgresql:// URL of the server itself")),
    }
}

/// The refusal of a flag that tiny_http does not support.
fn beyond_tiny_http(args: &ServeArgs) -> Option<String> {
    let address = args.bind;
    if !address.ip().is_loopback() {
        return Some(format!(
            "--bind tcp://{address}: the tiny-http front cannot limit what a client sends, so it listens on loopback only; give tcp://127.0.0.1:{}, or --front puma",
            address.port()
        ));
    }
    let flags = [
        ("--first-data-timeout", args.first_data_timeout.is_some()),
        ("--head-timeout", args.head_timeout.is_some()),
        ("--persistent-timeout", args.persistent_timeout.is_some()),
        ("--max-head-bytes", args.max_head_bytes.is_some()),
        ("--max-pending-bytes", args.max_pending_bytes.is_some()),
        ("--max-connections", args.max_connections.is_some()),
        ("--push-buffer", args.push_buffer.is_some()),
        ("--max-answer-time", args.max_answer_time.is_some()),
        ("--notice-close poll", args.notice_close == Notice::Poll),
    ];
    let (flag, _) = flags.iter().find(|(_, is_given)| *is_given)?;
    Some(format!("{flag}: not supported by --front tiny-http; give --front puma, or leave the flag out"))
}

/// The refusal of a flag that does nothing if each action has its own thread.
fn beyond_own_threads(args: &ServeArgs) -> Option<String> {
    (args.live == LiveModel::Rails && args.notice_close == Notice::Poll).then(|| {
        "--notice-close poll: not supported by --live rails, whose actions have no access to the socket; give --notice-close write, or --live pool"
            .to_owned()
    })
}

/// The refusal of two flags that lead to the same file.
fn clash(args: &ServeArgs) -> Option<String> {
    same_file(&[
        ("--views", Use::Views, args.views.as_deref()),
        ("--database", Use::Database, args.database.file()),
        ("--control-token-file", Use::File, args.control_token_file.as_deref()),
        ("--state", Use::File, args.state.as_deref()),
        ("--trace", Use::File, args.trace.as_deref()),
    ])
}
