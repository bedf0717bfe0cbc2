//! The examples work as documented.

use std::env;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::common::{self, get, read_head, read_until, send, split, wait_for};

/// A running example, which is killed when dropped.
struct Example {
    child: Child,
    at: SocketAddr,
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Example {
    /// Starts an example at a free address.
    fn start(name: &str, more: &[&str]) -> Example {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        Example::start_at(free, name, &[&[&*free.to_string()], more].concat())
    }

    fn start_at(at: SocketAddr, name: &str, args: &[&str]) -> Example {
        let child = Command::new(built(name)).args(args).stdout(Stdio::null()).spawn().unwrap();
        let example = Example { child, at };
        wait_for("the example's listener", || TcpStream::connect(at).ok());
        example
    }

    fn stream(&self, request: &str) -> TcpStream {
        let mut stream = send(self.at, request.as_bytes());
        let head = read_head(&mut stream);
        assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("text/event-stream"), "{head}");
        stream
    }
}

/// The path of an example, which cargo puts in a folder next to that of the tests. Builds the example if it does
/// not exist, as when only this test runs.
fn built(name: &str) -> PathBuf {
    let test = env::current_exe().unwrap();
    let folder = test.ancestors().nth(2).unwrap().join("examples");
    let path = folder.join(name);
    if !path.exists() {
        let status = Command::new(env!("CARGO")).args(["build", "--example", name]).status().unwrap();
        assert!(status.success());
    }
    path
}

#[test]
fn hello_greets_by_name() {
    let example = Example::start("hello", &[]);
    assert_eq!(get(example.at, "/"), (200, "hello, world\n".into()));
    assert_eq!(get(example.at, "/?name=nine%20tabs"), (200, "hello, nine tabs\n".into()));
    assert_eq!(get(example.at, "/elsewhere").0, 404);
}

#[test]
fn sse_resumes_where_its_client_was_cut_off() {
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, 3000));
    if let Err(error) = TcpListener::bind(at) {
        assert!(env::var_os("CI").is_none(), "{at}: {error}");
        return eprintln!("skipped: {at}: {error}");
    }
    let example = Example::start_at(at, "sse", &[]);
    assert_eq!(get(at, "/"), (200, "hello".into()));
    let mut first = example.stream("GET /ticks HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(read_until(&mut first, "data: 1\n\n").contains("id: 0\ndata: 0\n\n"));
    drop(first);
    let mut again = example.stream("GET /ticks HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: 41\r\n\r\n");
    read_until(&mut again, "id: 41\ndata: 41\n\n");
}

#[test]
fn the_ninth_of_nine_tabs_waits_until_the_reaper_frees_a_thread() {
    let open = |example: &Example| send(example.at, b"GET /numbers HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let example = Example::start("nine_tabs", &[]);
    assert!(get(example.at, "/").1.contains("tab9.localhost"));
    let mut eight: Vec<_> = (0..8).map(|_| open(&example)).collect();
    eight.iter_mut().for_each(|tab| drop(read_until(tab, "data: 1\n\n")));
    let mut ninth = open(&example);
    // The ninth tab gets its first byte only after one of the eight has closed.
    ninth.set_nonblocking(true).unwrap();
    assert!(std::io::Read::read(&mut ninth, &mut [0]).is_err(), "the ninth tab received something");
    ninth.set_nonblocking(false).unwrap();
    drop(eight.pop());
    read_until(&mut ninth, "data: 1\n\n");

    let reaped = Example::start("nine_tabs", &["1"]);
    let mut nine: Vec<_> = (0..9).map(|_| open(&reaped)).collect();
    nine.iter_mut().for_each(|tab| drop(read_until(tab, "data: 1\n\n")));
}

#[test]
fn llm_streams_an_answer_word_by_word_and_keeps_threads_for_pages() {
    let example = Example::start("llm", &[]);
    let ask = |question: &str| {
        let length = question.len();
        format!("POST /chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{question}")
    };
    let mut answer = example.stream(&ask("why does it wait"));
    let all = read_until(&mut answer, "data: [done]\n\n");
    let words: Vec<_> = all.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    assert_eq!(words, ["why", "does", "it", "wait", "[done]"]);

    let long = "word ".repeat(200);
    let mut answers: Vec<_> = (0..6).map(|_| example.stream(&ask(&long))).collect();
    answers.iter_mut().for_each(|answer| drop(read_until(answer, "data: word\n\n")));
    let refused = split(&common::ask(example.at, &ask("one more").replace("HTTP/1.1", "HTTP/1.0"))).1;
    assert!(refused.contains("retry: ") && !refused.contains("data: one"), "{refused}");
    assert_eq!(get(example.at, "/").0, 200);
}
