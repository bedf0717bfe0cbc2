//! A vanished peer: its cable is unplugged, and it sends nothing more, not even a FIN. The kernel retransmits for
//! about 15 minutes before it gives up, unless `--tcp-user-timeout` shortens this time.
//!
//! The cable is a pair of virtual interfaces between two network namespaces. The test runs itself again in the first
//! of them, as root of its own user namespace, so it changes nothing on the machine and needs no privileges. If
//! namespaces are not allowed, the test is skipped with a message.
#![cfg(target_os = "linux")]

use std::fs;
use std::process::{Command, Stdio};

use crate::common::models::{STREAM, timeline};
use crate::common::{Server, program, wait_for};
use ninetabs::lab::program::Program;
use ninetabs_server::timeline::What;

/// This variable is set when the test runs inside the namespaces.
const INSIDE: &str = "NINETABS_TEST_IN_A_NAMESPACE";
const HERE: &str = "10.99.0.1";
const THERE: &str = "10.99.0.2";

/// Runs a command line, which must succeed.
fn run(line: &str) {
    let words: Vec<_> = line.split_whitespace().collect();
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A second namespace, connected to ours by a cable. It exists until the program ends.
struct There {
    program: Program,
}

impl There {
    fn new() -> There {
        let mut command = Command::new("unshare");
        // cat waits for the end of its input, which is closed when this test ends.
        command.args(["-n", "cat"]).stdin(Stdio::piped()).stdout(Stdio::null());
        let there = There { program: Program::start(&mut command).unwrap() };
        let id = there.program.id();
        let ours = fs::read_link("/proc/self/ns/net").unwrap();
        wait_for("the creation of a namespace", || {
            (fs::read_link(format!("/proc/{id}/ns/net")).ok()? != ours).then_some(())
        });
        run("ip link set lo up");
        run("ip link add here type veth peer name there");
        run(&format!("ip link set there netns {id}"));
        run(&format!("ip addr add {HERE}/24 dev here"));
        run("ip link set here up");
        run(&format!("{} ip addr add {THERE}/24 dev there", there.inside()));
        run(&format!("{} ip link set there up", there.inside()));
        there
    }

    /// The prefix for a command line that runs in the second namespace.
    fn inside(&self) -> String {
        format!("nsenter -t {} -n", self.program.id())
    }

    /// Starts a client in the second namespace that reads a stream of this server.
    fn open_stream(&self, server: &Server) -> Program {
        let line = format!("{} curl -q -sN --noproxy * {}", self.inside(), server.url(STREAM));
        let words: Vec<_> = line.split_whitespace().collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null());
        let client = Program::start(&mut command).unwrap();
        server.wait_for_stats("stream", |stats| stats["streams"]["open"] == 1);
        client
    }

    fn pull_the_cable(&self) {
        run(&format!("{} ip link set there down", self.inside()));
    }
}

#[test]
fn a_vanished_peer_is_given_up_after_the_tcp_user_timeout() {
    if std::env::var_os(INSIDE).is_some() {
        return in_the_namespace();
    }
    if ["unshare", "nsenter", "ip", "curl"].iter().any(|name| program(name).is_none()) {
        return;
    }
    let namespaces = ["-U", "-r", "-n"];
    let may = Command::new("unshare").args(namespaces).args(["ip", "link", "set", "lo", "up"]).output();
    if !may.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: namespaces are not allowed here");
        return;
    }
    let name = "vanished_peer::a_vanished_peer_is_given_up_after_the_tcp_user_timeout";
    let output = Command::new("unshare")
        .args(namespaces)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    eprintln!("{said}");
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

/// Compares two servers, one of which has a TCP user timeout.
fn in_the_namespace() {
    let there = There::new();
    let address = format!("{HERE}:0");
    let flags = ["--front", "puma", "--allow-host", HERE, "--update-rate", "100ms", "--write-timeout", "600"];
    let patient = Server::bound_to(&address, &flags);
    let limited = Server::bound_to(&address, &[&flags[..], &["--tcp-user-timeout", "1"]].concat());
    let clients = [&patient, &limited].map(|server| there.open_stream(server));

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
