//! Sends requests and reads answers as raw bytes, for tests that check the bytes themselves. All other tests use
//! the lab's client ([`super::call`]).

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use socket2::{Domain, Socket, Type};

use super::PATIENCE;

/// Opens a connection and writes these bytes on it.
pub fn send(to: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    stream
}

/// Like [`send`], with a receive buffer of a few kilobytes, so that the server's writes soon block unless the
/// client reads.
pub fn send_with_small_buffer(to: SocketAddr, bytes: &[u8]) -> TcpStream {
    send_with_buffer(to, 4096, bytes)
}

/// Like [`send`], with a receive buffer of this size.
pub fn send_with_buffer(to: SocketAddr, buffer: usize, bytes: &[u8]) -> TcpStream {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(buffer).unwrap();
    socket.connect(&to.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    stream
}

/// Sends an HTTP/1.0 request and reads until the connection ends.
pub fn ask(to: SocketAddr, request: &str) -> String {
    read_to_end(&mut send(to, request.as_bytes()))
}

/// Reads until the connection ends.
pub fn read_to_end(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    stream.read_to_end(&mut read).unwrap();
    String::from_utf8_lossy(&read).into_owned()
}

/// Status and body of an answer.
pub fn split(answer: &str) -> (u16, String) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or_else(|| panic!("no status in {answer:?}")), body.to_owned())
}

/// Opens a stream and reads until its first event is complete.
pub fn open_stream(to: SocketAddr) -> TcpStream {
    let mut stream = send(to, b"GET /models/live_stream HTTP/1.1\r\nHost: localhost\r\n\r\n");
    read_until(&mut stream, "data: ");
    stream
}

/// Reads until the text has arrived, and returns everything that was read.
pub fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut read = Vec::new();
    let mut buffer = [0; 4096];
    let mut looked_at = 0;
    // The text may begin in bytes that have already been searched.
    while !String::from_utf8_lossy(&read[read.len().min(looked_at)..]).contains(text) {
        looked_at = read.len().saturating_sub(text.len());
        // After a signal, the kernel does not restart a read with a timeout.
        let count = match stream.read(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            read => read.unwrap(),
        };
        assert!(count > 0, "the connection ended before {text:?}: {:?}", String::from_utf8_lossy(&read));
        read.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8_lossy(&read).into_owned()
}

/// One answer, framed by its `content-length`. The connection may stay open.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    /// The value of a header. Names are case-insensitive.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

/// The value of a header in this head. Names are case-insensitive.
pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (given, value) = line.split_once(": ")?;
        given.eq_ignore_ascii_case(name).then_some(value)
    })
}

/// Reads exactly one answer.
pub fn read_answer(stream: &mut TcpStream) -> Answer {
    let head = read_head(stream);
    let mut answer = Answer { status: split(&head).0, head, body: String::new() };
    let length =
        answer.header("content-length").unwrap_or_else(|| panic!("no content-length: {}", answer.head));
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    answer.body = String::from_utf8(body).unwrap();
    answer
}

/// Reads a head up to and including its empty line, and not a byte more.
pub fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap_or_else(|error| {
            panic!("{error} while reading a head, after {:?}", String::from_utf8_lossy(&head));
        });
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}
