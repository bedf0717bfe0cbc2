use std::io::{self, Read};
use std::net::TcpStream;
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::*;
use crate::Server;
use crate::streams::StreamSettings;

/// A writer that blocks each write until the test releases it.
struct Held {
    begins: Sender<()>,
    goes_on: Receiver<()>,
}

impl Write for Held {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.begins.send(()).map_err(io::Error::other)?;
        self.goes_on.recv().map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn two_concurrent_requests_with_the_same_thread_number_do_not_share_a_count() {
    let app = Arc::new(|_: &Request| Response::text("ok"));
    let timeline = Arc::new(Timeline::disabled());
    let streams = Arc::new(Streams::new(&StreamSettings::default(), Arc::clone(&timeline)));
    let limits = AnswerLimits { write_timeout: Duration::from_secs(60), max_answer_time: None };
    let serving = Serving::new(app, timeline, streams, limits);
    let request = |thread| Request::builder().thread(thread).build().unwrap();
    let (begins, begun) = bounded(0);
    let (go_on, goes_on) = bounded(0);
    thread::scope(|scope| {
        let first = scope.spawn(|| serving.serve_to(&request(1), Box::new(Held { begins, goes_on })));
        begun.recv().unwrap();
        assert!(serving.unsent_bytes() > 0);
        serving.serve_to(&request(1), Box::new(io::sink()));
        go_on.send(()).unwrap();
        first.join().unwrap();
    });
    assert_eq!(serving.unsent_bytes(), 0);
    // The slots are a map by thread number, so a large number takes no memory.
    serving.serve_to(&request(usize::MAX), Box::new(io::sink()));
}

#[test]
fn a_connection_is_kept_alive_after_a_stream_that_panicked_before_its_first_write() {
    let app = |request: &Request| match request.path() {
        "/page" => Response::text("ok"),
        _ => Response::events(|_| panic!("at once")).with_header("connection", "close"),
    };
    let server = Server::bind("127.0.0.1:0").start(app).unwrap();
    for version in ["HTTP/1.0", "HTTP/1.1"] {
        let mut client = TcpStream::connect(server.addr()).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        // The 500 that replaces the stream, then a page on the same connection.
        for path in ["/stream", "/page"] {
            write!(client, "GET {path} {version}\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n")
                .unwrap();
        }
        let mut answers = Vec::new();
        while !answers.ends_with(b"\r\n\r\nok") {
            let mut bytes = [0; 512];
            let read = client.read(&mut bytes).unwrap();
            assert_ne!(read, 0, "{version}: {}", String::from_utf8_lossy(&answers));
            answers.extend_from_slice(&bytes[..read]);
        }
        assert!(answers.starts_with(format!("{version} 500 ").as_bytes()), "{version}");
    }
}

#[test]
fn an_app_that_writes_its_own_head_also_writes_it_for_a_head_request() {
    let app = |_: &Request| {
        Response::detach_without_head(|detached| {
            let _ = detached.write_all(b"HTTP/1.1 202 Mine\r\n\r\n", Duration::from_secs(60));
        })
    };
    let server = Server::bind("127.0.0.1:0").start(app).unwrap();
    for method in ["GET", "HEAD"] {
        let mut client = TcpStream::connect(server.addr()).unwrap();
        write!(client, "{method} / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut all = String::new();
        client.read_to_string(&mut all).unwrap();
        assert_eq!(all, "HTTP/1.1 202 Mine\r\n\r\n", "{method}");
    }
}
