//! Measures the processor time of a request and of an event. While the clock runs, no socket is read or
//! written, and nothing blocks.
//!
//! - From the bytes of a request's head to the head of the answer: parsing, framing of the body, writing the
//!   head.
//! - From a live event to its bytes on the wire, and back to an event in an EventSource's parser.
//!
//! Only a front door can make a request of this kind, so the first part runs inside an app, on a request that
//! arrived over loopback before the clock started. Each line shows the median and the 99th percentile of many
//! samples. A sample is the mean of enough calls to make the cost of reading the clock negligible.

use std::error::Error;
use std::hint::black_box;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use std::{env, mem};

use http::StatusCode;
use ninetabs::lab::event_stream::Parser;
use ninetabs_server::Event;
use ninetabs_server::configuration::{MAX_BODY_BYTES, MAX_HEAD_BYTES};
use ninetabs_server::framing::AfterAnswer;
use ninetabs_server::head::Parsed;
use ninetabs_server::{Request, Response, Server, framing, head, response};

/// A request as wrk sends it.
const SMALL: &str = "GET /up HTTP/1.1\r\nHost: 127.0.0.1:9292\r\n\r\n";
/// A request as a browser sends it.
const BROWSER: &str = "GET /models HTTP/1.1\r\nHost: 127.0.0.1:9292\r\nConnection: keep-alive\r\n\
    sec-ch-ua: \"Chromium\";v=\"148\", \"Not;A=Brand\";v=\"24\"\r\nsec-ch-ua-mobile: ?0\r\n\
    sec-ch-ua-platform: \"Linux\"\r\nUpgrade-Insecure-Requests: 1\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/148.0.0.0 Safari/537.36\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
    Sec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-User: ?1\r\nSec-Fetch-Dest: document\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-GB,en;q=0.9\r\n\r\n";

const CALLS: usize = 200;

/// How many samples are taken for each line.
fn samples() -> usize {
    // Without `--bench`, which `cargo bench` passes, this only checks that the program runs.
    if env::args().any(|it| it == "--bench") { 1_000 } else { 2 }
}

/// Measures `call` and prints a line for it.
fn measure(what: &str, mut call: impl FnMut()) {
    let sample = |call: &mut dyn FnMut()| {
        let began = Instant::now();
        for _ in 0..CALLS {
            call();
        }
        began.elapsed().as_secs_f64() * 1e9 / CALLS as f64
    };
    // The first sample runs on cold caches and does not count.
    sample(&mut call);
    let mut taken: Vec<f64> = (0..samples()).map(|_| sample(&mut call)).collect();
    taken.sort_by(f64::total_cmp);
    let at = |percent: usize| taken[(taken.len() - 1) * percent / 100];
    println!("{what:50} {:9.0} {:9.0}", at(50), at(99));
}

/// Measures the part that needs a request.
fn heads(request: &Request) {
    for (what, text) in [("small head", SMALL), ("browser's head", BROWSER)] {
        measure(&format!("{what}, parsed"), || {
            black_box(head::parse(black_box(text.as_bytes()), MAX_HEAD_BYTES));
        });
        measure(&format!("{what}, to the answer's head"), || {
            let Parsed::Whole(head, _) = head::parse(black_box(text.as_bytes()), MAX_HEAD_BYTES) else {
                panic!("the head is complete");
            };
            black_box(framing::of_request(&head, MAX_BODY_BYTES).is_ok());
            let answer = Response::new(StatusCode::OK, "text/html; charset=utf-8", "up\n");
            let framing = response::framing(request, &answer);
            black_box(response::head(request, &answer, framing, AfterAnswer::kept_if(request.keeps_alive())));
        });
    }
}

fn events() {
    let model =
        r#"[{"id":1234567,"name":"a model of middling length","created_at":"2026-01-02T03:04:05.678Z"}]"#;
    let lines = "a line of data that is not very long\n".repeat(100);
    for (what, data) in [("event of one model", model), ("event of 100 lines", &lines)] {
        let mut bytes = String::new();
        measure(&format!("{what}, encoded"), || {
            bytes.clear();
            Event::data(black_box(data)).id(1_234_567).encode(&mut bytes);
            black_box(&bytes);
        });
        let mut parser = Parser::default();
        measure(&format!("{what}, parsed whole"), || {
            black_box(parser.feed(black_box(bytes.as_bytes()), |event| drop(black_box(event))).is_ok());
        });
        measure(&format!("{what}, parsed in pieces of 16 bytes"), || {
            for piece in bytes.as_bytes().chunks(16) {
                black_box(parser.feed(black_box(piece), |event| drop(black_box(event))).is_ok());
            }
        });
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("{:50} {:>9} {:>9}", "ns", "median", "p99");
    let app = |request: &Request| {
        heads(request);
        Response::status(StatusCode::OK)
    };
    let server = Server::bind("127.0.0.1:0").name("bench").start(app)?;
    let mut stream = TcpStream::connect(server.addr())?;
    stream.write_all(SMALL.as_bytes())?;
    let mut answer = [0; 512];
    let read = stream.read(&mut answer)?;
    mem::drop(stream);
    server.shutdown(Duration::from_secs(10));
    if !answer[..read].starts_with(b"HTTP/1.1 200 ") {
        return Err("cannot measure the heads: the app did not answer 200".into());
    }
    events();
    Ok(())
}
