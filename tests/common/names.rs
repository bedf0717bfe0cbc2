//! A name server that stops answering, and a server that uses it.
//!
//! The C library always asks port 53 of the address in `/etc/resolv.conf`. The server therefore gets a mount namespace
//! of its own, in which that file is replaced, and the test must run in a network namespace, where port 53 is free.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// The address of the name server.
const SERVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 53);
/// The time after which the C library repeats a question is much longer than any limit of ninetabs.
const RESOLVER: &str = "options timeout:30 attempts:2\n";
/// `A` in a question.
const ADDRESS: [u8; 4] = [0, 1, 0, 1];

/// The name server.
pub struct NameServer {
    answers: Arc<AtomicBool>,
}

impl NameServer {
    /// Starts a name server that knows this address for every name. It runs until the process ends.
    pub fn start(address: Ipv4Addr) -> NameServer {
        let socket = UdpSocket::bind((SERVER, 53)).unwrap();
        let answers = Arc::new(AtomicBool::new(true));
        let server = NameServer { answers: Arc::clone(&answers) };
        thread::spawn(move || {
            let mut question = [0; 512];
            loop {
                let (count, client) = socket.recv_from(&mut question).unwrap();
                if answers.load(Ordering::SeqCst) {
                    socket.send_to(&answer(&question[..count], address), client).unwrap();
                }
            }
        });
        server
    }

    /// Whether questions are answered from now on.
    pub fn answers(&self, answers: bool) {
        self.answers.store(answers, Ordering::SeqCst);
    }
}

/// The answer to a question: this address, or nothing if another kind of record is asked for.
fn answer(question: &[u8], address: Ipv4Addr) -> Vec<u8> {
    // The name ends with an empty label. Type and class follow it.
    let end = 12 + question[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
    let count = u8::from(question[end - 4..end] == ADDRESS);
    // An answer without an error, with one question and `count` records, and without the question's own options.
    let header = [question[0], question[1], 0x81, 0x80, 0, 1, 0, count, 0, 0, 0, 0];
    let mut answer = [&header, &question[12..end]].concat();
    if count == 1 {
        // The name of the question, the type and the class, for 0 s, four bytes.
        answer.extend([&[0xC0, 12], &ADDRESS[..], &[0, 0, 0, 0, 0, 4], &address.octets()].concat());
    }
    answer
}

/// A command that runs this one with the name server instead of that of the machine. `folder` keeps its settings.
pub fn with_names(command: &Command, folder: &Path) -> Command {
    let (resolver, switch) = (folder.join("resolv.conf"), folder.join("nsswitch.conf"));
    fs::write(&resolver, format!("nameserver {SERVER}\n{RESOLVER}")).unwrap();
    fs::write(&switch, "hosts: dns\n").unwrap();
    let mount = "mount --bind \"$1\" /etc/resolv.conf && mount --bind \"$2\" /etc/nsswitch.conf && shift 2 && exec \"$@\"";
    let mut inside = Command::new("unshare");
    inside.args(["--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh"]);
    inside.args([resolver, switch]).arg(command.get_program()).args(command.get_args());
    inside.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
    inside
}
