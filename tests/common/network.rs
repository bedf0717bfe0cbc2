//! A network of two machines for a test, and a link that can be cut.
//!
//! The cable is a pair of virtual interfaces between two network namespaces. The test runs itself again in the first
//! of them, so it changes nothing on the machine. Users other than root get the necessary rights in a user namespace of
//! their own. Namespaces are anonymous here: the kernel removes them and the cable with their last process, however the
//! test ends.
#![cfg(target_os = "linux")]

use std::env;
use std::fs;
use std::process::{Command, Stdio};

use ninetabs::lab::program::Program;

use super::{program, wait_for};

/// This variable is set when the test runs inside the namespaces.
const INSIDE: &str = "NINETABS_TEST_IN_A_NAMESPACE";
/// The address of this end of the cable.
pub const HERE: &str = "10.99.0.1";
/// The address of the other end.
pub const THERE: &str = "10.99.0.2";

/// Runs a command line, which must succeed.
fn run(line: &str) {
    let words: Vec<_> = line.split_whitespace().collect();
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The second machine, connected to ours by a cable. It exists until this is dropped.
pub struct There {
    program: Program,
}

impl There {
    fn new() -> There {
        let mut command = Command::new("unshare");
        // cat waits for the end of its input, which is closed when this test ends.
        command.args(["--net", "cat"]).stdin(Stdio::piped()).stdout(Stdio::null());
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
        there.run(&format!("ip addr add {THERE}/24 dev there"));
        there.run("ip link set there up");
        there
    }

    /// The words before a command that make it run on the second machine.
    pub fn prefix(&self) -> Vec<String> {
        ["nsenter", "-t", &self.program.id().to_string(), "-n"].map(str::to_owned).into()
    }

    fn run(&self, line: &str) {
        run(&format!("{} {line}", self.prefix().join(" ")));
    }

    /// Starts a program on the second machine.
    pub fn start(&self, line: &str) -> Program {
        let mut words = self.prefix();
        words.extend(line.split_whitespace().map(str::to_owned));
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null());
        Program::start(&mut command).unwrap()
    }

    /// Neither end receives anything from the other, or learns of it.
    pub fn pull_the_cable(&self) {
        self.run("ip link set there down");
    }

    /// Gives this further address to the second machine.
    #[cfg(feature = "postgresql")]
    pub fn add_address(&self, address: &str) {
        self.run(&format!("ip addr add {address}/24 dev there"));
    }

    /// Removes this address. Whatever is sent to it is lost without an error.
    #[cfg(feature = "postgresql")]
    pub fn remove_address(&self, address: &str) {
        self.run(&format!("ip addr del {address}/24 dev there"));
        run(&format!("ip neigh replace {address} lladdr 02:00:00:00:00:01 dev here nud permanent"));
    }

    /// Connects both machines again.
    #[cfg(feature = "postgresql")]
    pub fn plug_the_cable_in(&self) {
        self.run("ip link set there up");
    }
}

/// Runs the test with this path in a process of its own, with a second machine. If namespaces are not allowed here,
/// prints a message and returns. With `CI` set, the test of root fails instead.
pub fn with_another_machine(test: &str, body: impl FnOnce(There)) {
    if env::var_os(INSIDE).is_some() {
        return body(There::new());
    }
    if ["unshare", "nsenter", "ip"].iter().any(|name| program(name).is_none()) {
        return;
    }
    let is_root = rustix::process::geteuid().is_root();
    let namespaces: &[&str] =
        if is_root { &["--net"] } else { &["--user", "--map-current-user", "--keep-caps", "--net"] };
    let tried = Command::new("unshare").args(namespaces).args(["ip", "link", "set", "lo", "up"]).output();
    let tried = tried.unwrap();
    if !tried.status.success() {
        let said = String::from_utf8_lossy(&tried.stderr);
        assert!(!is_root || env::var_os("CI").is_none(), "network namespaces do not work: {said}");
        eprintln!("skipped: network namespaces are not allowed here: {said}");
        return;
    }
    let output = Command::new("unshare")
        .args(namespaces)
        .arg(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    eprintln!("{said}");
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}
