//! A vanished peer: its cable is unplugged, and it sends nothing more, not even a FIN. The kernel retransmits for
//! about 15 minutes before it gives up, unless `--tcp-user-timeout` shortens this time.
#![cfg(target_os = "linux")]

use crate::common::models::{STREAM, timeline};
use crate::common::network::{HERE, There, with_another_machine};
use crate::common::{Server, program};
use ninetabs::lab::program::Program;
use ninetabs_server::timeline::What;

/// Starts a client on the other machine that reads a stream of this server.
fn open_stream(there: &There, server: &Server) -> Program {
    let client = there.start(&format!("curl -q -sN --noproxy * {}", server.url(STREAM)));
    server.wait_for_stats("stream", |stats| stats["streams"]["open"] == 1);
    client
}

#[test]
fn a_vanished_peer_is_given_up_after_the_tcp_user_timeout() {
    if program("curl").is_some() {
        let name = "vanished_peer::a_vanished_peer_is_given_up_after_the_tcp_user_timeout";
        with_another_machine(name, compare);
    }
}

/// Compares two servers, one of which has a TCP user timeout.
fn compare(there: There) {
    let address = format!("{HERE}:0");
    let flags = ["--front", "puma", "--allow-host", HERE, "--update-rate", "100ms", "--write-timeout", "600"];
    let patient = Server::bound_to(&address, &flags);
    let limited = Server::bound_to(&address, &[&flags[..], &["--tcp-user-timeout", "1"]].concat());
    let clients = [&patient, &limited].map(|server| open_stream(&there, server));

    there.pull_the_cable();
    limited.wait_for_stats("return of the thread that the vanished peer held", |stats| {
        stats["pool_capacity"] == 8 && stats["streams"]["disconnected"] == 1
    });
    let given_up = timeline(&limited).into_iter().find_map(|moment| match moment.what {
        What::Disconnected { error, .. } => Some(error),
        _ => None,
    });
    let error = given_up.unwrap();
    eprintln!("the server gave up on the vanished peer with {error}");
    assert!(
        error != "EAGAIN" && error != "EPIPE",
        "{error} is not the error with which the kernel gives up on a peer"
    );
    let stats = patient.stats();
    assert_eq!((&stats["streams"]["open"], &stats["pool_capacity"]), (&1.into(), &7.into()), "{stats}");
    drop(clients);
}
