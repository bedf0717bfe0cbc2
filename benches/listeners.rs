//! Measures how long a server takes to send one message to thousands of listeners.
//!
//! `listeners SERVERS KIND LISTENERS ROUNDS PID` opens LISTENERS connections to a server, publishes a
//! message ROUNDS times, and records when each listener receives it. It prints the median and the p99 in
//! milliseconds (each the median over the rounds), how long the publisher waits for its answer, and how many
//! KB each listener costs the server process PID. For the kind `hold`, nothing is published: it prints the time of a
//! page, the server's processor time while it is idle (percent of a core), the memory, and how many seconds the
//! listeners took to connect, one after the other. SERVERS is HOST:PORT. For several servers on one database, it is
//! HOST:PORT/HOST:PORT,HOST:PORT…: the server that gets the messages, and those whose listeners receive them.
//! `listeners --serve PORT` is a minimal server to compare with: a loop of `write` over all sockets.
//! benches/listeners.sh and benches/servers.sh run both; without arguments, as under `cargo bench`, the program does
//! nothing.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use socket2::SockRef;
use tungstenite::{ClientRequestBuilder, Message};

const PATIENCE: Duration = Duration::from_secs(60);
/// For `large` and `stopped`: the size of a message in bytes, the share of the listeners that never read, and
/// the size of their receive buffers in bytes.
const LARGE: usize = 8 * 1024;
const STOPPED: f64 = 0.1;
const STOPPED_BUFFER: usize = 4 * 1024;
/// How many pages are requested while listeners are connected.
const PAGES: usize = 200;
/// For `hold`: how long the server's processor time is measured while nothing is published.
const IDLE: Duration = Duration::from_secs(20);
/// The pause between two rounds.
const PAUSE: Duration = Duration::from_millis(150);

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).filter(|arg| *arg != "--bench").collect();
    match args[..] {
        [] => println!("listeners: run by benches/listeners.sh and benches/servers.sh"),
        ["--serve", port] => serve(port.parse().expect("a port")),
        [servers, kind, listeners, rounds, pid] => {
            let number = |text: &str| text.parse::<usize>().expect("a number");
            measure(&Servers::of(servers), kind, number(listeners), number(rounds), pid);
        }
        _ => panic!(
            "listeners SERVERS push|large|stopped|hold|cable|nchan|bare LISTENERS ROUNDS PID, or --serve PORT"
        ),
    }
}

/// The addresses of the servers.
struct Servers<'a> {
    /// Where messages are published and pages are requested.
    published: &'a str,
    /// Where the listeners connect, in turn.
    heard: Vec<&'a str>,
}

impl Servers<'_> {
    fn of(text: &str) -> Servers<'_> {
        let (published, heard) = text.split_once('/').unwrap_or((text, text));
        Servers { published, heard: heard.split(',').collect() }
    }
}

/// Accepts one connection at a time. A POST is sent to all connected listeners.
fn serve(port: u16) {
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("a free port");
    let mut all: Vec<TcpStream> = Vec::new();
    for client in listener.incoming() {
        let mut client = client.expect("a client");
        let mut bytes = [0; 4096];
        let read = client.read(&mut bytes).unwrap_or(0);
        let request = String::from_utf8_lossy(&bytes[..read]).into_owned();
        if request.starts_with("POST ") {
            let body = request.rsplit("\r\n\r\n").next().unwrap_or_default();
            let event = format!("id: 1\ndata: [{{\"id\":1,\"name\":\"{body}\"}}]\n\n");
            all.retain_mut(|listener| listener.write_all(event.as_bytes()).is_ok());
            let _ =
                client.write_all(b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        } else {
            let _ = client.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n:\n\n");
            all.push(client);
        }
    }
}

fn measure(servers: &Servers, kind: &str, listeners: usize, rounds: usize, pid: &str) {
    let before = resident(pid);
    let stopped = if kind == "stopped" { (listeners as f64 * STOPPED) as usize } else { 0 };
    let _stopped: Vec<TcpStream> = (0..stopped)
        .map(|_| {
            let stream = listen(servers.heard[0], kind);
            SockRef::from(&stream).set_recv_buffer_size(STOPPED_BUFFER).expect("a socket");
            stream
        })
        .collect();
    let address = |n: usize| servers.heard[n % servers.heard.len()];
    let began = Instant::now();
    let mut all: Vec<TcpStream> = (stopped..listeners).map(|n| listen(address(n), kind)).collect();
    let joined = began.elapsed();
    thread::sleep(PAUSE);
    let each = (resident(pid) - before) / listeners as f64;
    if kind == "hold" {
        let mut pages: Vec<f64> = (0..PAGES).map(|_| page(servers.published)).collect();
        pages.sort_by(f64::total_cmp);
        let before = processor_time(pid);
        thread::sleep(IDLE);
        let idle = (processor_time(pid) - before) / IDLE.as_secs_f64() * 100.0;
        let joined = joined.as_secs_f64();
        return println!("{:.2} {:.2} {idle:.2} {each:.2} {joined:.2}", at(&pages, 0.5), at(&pages, 0.99));
    }
    let mut poll = Poll::new().expect("a poll");
    for (n, stream) in all.iter().enumerate() {
        stream.set_nonblocking(true).expect("a socket");
        let fd = stream.as_raw_fd();
        poll.registry().register(&mut SourceFd(&fd), Token(n), Interest::READABLE).expect("room");
    }
    let mut medians = Vec::new();
    let (mut ends, mut senders) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let (heard, sender) = tell_all(&mut poll, &mut all, servers.published, kind, round);
        // The first round warms up.
        if round > 0 {
            medians.push(at(&heard, 0.5));
            ends.push(at(&heard, 0.99));
            senders.push(sender);
        }
    }
    medians.sort_by(f64::total_cmp);
    ends.sort_by(f64::total_cmp);
    senders.sort_by(f64::total_cmp);
    println!("{:.2} {:.2} {:.2} {each:.2}", at(&medians, 0.5), at(&ends, 0.5), at(&senders, 0.5));
}

fn listen(address: &str, kind: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    if kind == "cable" {
        let uri = format!("ws://{address}/cable").parse().expect("an address");
        let request = ClientRequestBuilder::new(uri)
            .with_header("Origin", format!("http://{address}"))
            .with_sub_protocol("actioncable-v1-json");
        let (mut socket, _) = tungstenite::client(request, stream).expect("a handshake");
        let subscribe = r#"{"command":"subscribe","identifier":"{\"channel\":\"ModelsChannel\"}"}"#;
        socket.send(Message::text(subscribe)).expect("a subscription");
        while !socket.read().expect("an answer").to_string().contains("confirm_subscription") {}
        return socket.into_inner();
    }
    let path = match kind {
        "push" | "large" | "stopped" | "hold" => "/fixes/push/stream",
        "nchan" => "/sub",
        _ => "/",
    };
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
        .expect("a request");
    let mut head = Vec::new();
    let mut bytes = [0; 4096];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let read = stream.read(&mut bytes).expect("an answer");
        assert!(read > 0, "no stream: {}", String::from_utf8_lossy(&head));
        head.extend_from_slice(&bytes[..read]);
    }
    assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
    stream
}

/// How long a page takes, in milliseconds, on a new connection.
fn page(address: &str) -> f64 {
    let began = Instant::now();
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.write_all(b"GET /up HTTP/1.0\r\n\r\n").expect("a request");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    assert!(answer.starts_with(b"HTTP/1.0 200"), "{}", String::from_utf8_lossy(&answer));
    began.elapsed().as_secs_f64() * 1e3
}

/// Publishes one message. Returns the milliseconds until each listener received it, sorted, and the
/// milliseconds until the publisher was answered.
fn tell_all(
    poll: &mut Poll,
    all: &mut [TcpStream],
    address: &str,
    kind: &str,
    round: usize,
) -> (Vec<f64>, f64) {
    thread::sleep(PAUSE);
    // Bytes that arrived since the last round do not count.
    let mut bytes = [0; 16 * 1024];
    for stream in all.iter_mut() {
        while matches!(stream.read(&mut bytes), Ok(read) if read > 0) {}
    }
    let marker = format!("round-{round}-");
    let (path, body) = match kind {
        "push" | "cable" => ("/models", format!("name={marker}")),
        "large" | "stopped" => ("/models", format!("name={marker}{}", "x".repeat(LARGE))),
        "nchan" => ("/pub", marker.clone()),
        _ => ("/", marker.clone()),
    };
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut publisher = TcpStream::connect(address).expect("a connection");
    let began = Instant::now();
    publisher.write_all(request.as_bytes()).expect("a request");
    // The answer is read on another thread, so that it does not delay the listeners.
    let answered = thread::spawn(move || {
        let mut answer = Vec::new();
        let _ = publisher.read_to_end(&mut answer);
        assert!(answer.starts_with(b"HTTP/1.1 20"), "{}", String::from_utf8_lossy(&answer));
        began.elapsed().as_secs_f64() * 1e3
    });
    let mut heard: Vec<Option<f64>> = vec![None; all.len()];
    let mut left = all.len();
    let mut events = Events::with_capacity(1024);
    while left > 0 {
        assert!(began.elapsed() < PATIENCE, "{left} listeners have not received the message");
        poll.poll(&mut events, Some(Duration::from_secs(1))).expect("events");
        for event in &events {
            let n = event.token().0;
            while let Ok(read) = all[n].read(&mut bytes) {
                assert!(read > 0, "a listener was cut off");
                let is_it = bytes[..read].windows(marker.len()).any(|part| part == marker.as_bytes());
                if is_it && heard[n].is_none() {
                    heard[n] = Some(began.elapsed().as_secs_f64() * 1e3);
                    left -= 1;
                }
            }
        }
    }
    let sender = answered.join().expect("an answer");
    let mut heard: Vec<f64> = heard.into_iter().flatten().collect();
    heard.sort_by(f64::total_cmp);
    (heard, sender)
}

fn at(sorted: &[f64], part: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * part).round() as usize]
}

/// The processor time in seconds that a process has used. The kernel counts it in hundredths of a second.
fn processor_time(pid: &str) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name of the process, in parentheses, may contain spaces. User and system time are the 12th and the 13th
    // value after it.
    let after = stat.rsplit(") ").next().unwrap_or_default();
    after.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// Resident memory in KB of a process and its children: nginx has workers.
fn resident(pid: &str) -> f64 {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let of = |pid: &str| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
        line.trim().trim_end_matches(" kB").trim().parse::<f64>().unwrap_or(0.0)
    };
    std::iter::once(pid).chain(children.split_whitespace()).map(of).sum()
}
