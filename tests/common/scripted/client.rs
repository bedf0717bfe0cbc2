//! One accepted connection, as a script sees it.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use super::record::{Record, has_left, is_readable};

/// The pause between two events of a stream.
pub const GAP: Duration = Duration::from_millis(250);

/// A request that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    /// Without the query.
    pub path: String,
    pub query: Option<String>,
    pub version: String,
    /// The request line and all fields.
    pub head: String,
    pub body: String,
    pub peer: SocketAddr,
}

impl Request {
    fn parse(head: &str, peer: SocketAddr) -> Option<Request> {
        let mut line = head.lines().next()?.split(' ').map(str::to_owned);
        let (method, target, version) = (line.next()?, line.next()?, line.next()?);
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path.to_owned(), Some(query.to_owned())),
            None => (target, None),
        };
        Some(Request { method, path, query, version, head: head.to_owned(), body: String::new(), peer })
    }

    /// The value of a header. Names are case-insensitive.
    pub fn header(&self, name: &str) -> Option<&str> {
        crate::common::header(&self.head, name)
    }

    pub fn is_stream(&self) -> bool {
        self.path.starts_with("/stream")
    }

    pub fn accepts_gzip(&self) -> bool {
        self.header("accept-encoding").is_some_and(|codings| codings.contains("gzip"))
    }

    pub fn wants_close(&self) -> bool {
        let connection = self.header("connection").unwrap_or_default();
        connection.eq_ignore_ascii_case("close") || self.version == "HTTP/1.0"
    }
}

/// A connection. It is closed when the script returns.
pub struct Client {
    socket: Arc<TcpStream>,
    pub peer: SocketAddr,
    record: Arc<Record>,
    /// Bytes that were read but are not yet part of a request.
    rest: Vec<u8>,
    /// Whether the last request asked for a stream that has not received an event.
    waits: bool,
}

impl Client {
    pub(super) fn new(socket: TcpStream, peer: SocketAddr, record: &Arc<Record>) -> Option<Client> {
        socket.set_nodelay(true).ok()?;
        let (socket, record) = (Arc::new(socket), Arc::clone(record));
        let is_open = record.opened(&socket);
        is_open.then_some(Client { socket, peer, record, rest: Vec::new(), waits: false })
    }

    pub fn address(&self) -> IpAddr {
        self.peer.ip()
    }

    pub(super) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Makes a write fail after blocking for this long, which ends the stream. `None` means never.
    pub fn give_up_writes_after(&self, time: Option<Duration>) {
        let _ = self.socket.set_write_timeout(time);
    }

    /// Blocks until there is something to read, and does not read it. Returns false if the connection ended.
    pub fn wait_for_a_byte(&self) -> bool {
        !self.rest.is_empty() || self.socket.peek(&mut [0]).is_ok_and(|read| read > 0)
    }

    /// Whether there is something to read, or the connection has ended.
    pub fn has_byte(&self) -> bool {
        !self.rest.is_empty() || is_readable(&self.socket)
    }

    /// Reads a request with its body. Returns `None` if the connection ended.
    pub fn request(&mut self) -> Option<Request> {
        let end = loop {
            if let Some(at) = self.rest.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            self.read_more()?;
        };
        let head: Vec<u8> = self.rest.drain(..end).collect();
        let mut request = Request::parse(&String::from_utf8(head).ok()?, self.peer)?;
        let length = request.header("content-length").map_or(Some(0), |length| length.parse().ok())?;
        while self.rest.len() < length {
            self.read_more()?;
        }
        request.body = String::from_utf8(self.rest.drain(..length).collect()).ok()?;
        self.record.read(&request);
        if request.is_stream() {
            self.waits = true;
            self.record.stream_waits();
        }
        Some(request)
    }

    fn read_more(&mut self) -> Option<()> {
        let mut buffer = [0; 4096];
        let read = (&*self.socket).read(&mut buffer).ok().filter(|read| *read > 0)?;
        self.rest.extend_from_slice(&buffer[..read]);
        Some(())
    }

    /// Answers requests until one asks for the connection to be closed, or until `answer` returns false.
    pub fn each(&mut self, mut answer: impl FnMut(&mut Client, &Request) -> bool) {
        while let Some(request) = self.request() {
            if !answer(self, &request) || request.wants_close() {
                return;
            }
        }
    }

    /// Sends these bytes. Returns false if the connection failed.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        (&*self.socket).write_all(bytes.as_ref()).is_ok()
    }

    /// Sends a complete answer. `fields` has lines that end in CRLF.
    pub fn answer(&mut self, status: &str, fields: &str, body: &str) -> bool {
        let length = body.len();
        self.end_of_waiting();
        self.send(format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {length}\r\n\r\n{body}"))
    }

    /// Sends the page: 200 and a body of three bytes.
    pub fn page(&mut self) -> bool {
        self.answer("200 OK", "Content-Type: text/plain\r\n", "up\n")
    }

    /// Sends the head of a stream. `fields` has lines that end in CRLF.
    pub fn begin(&mut self, fields: &str) -> bool {
        self.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n{fields}\r\n"
        ))
    }

    /// Sends one chunk of a stream.
    pub fn chunk(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let bytes = bytes.as_ref();
        let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
        chunk.extend_from_slice(bytes);
        chunk.extend_from_slice(b"\r\n");
        self.send(chunk)
    }

    /// Sends one event as a chunk.
    pub fn event(&mut self, number: usize) -> bool {
        self.end_of_waiting();
        self.chunk(format!("data: {number}\n\n"))
    }

    /// Sends the last chunk, which ends the stream.
    pub fn finish(&mut self) -> bool {
        self.send("0\r\n\r\n")
    }

    /// Sends a head and then an event every [`GAP`], until a write fails or the server is stopped.
    pub fn ticks(&mut self) {
        self.ticks_while(|_| true);
    }

    /// Like `ticks`, but only while `go_on` returns true for the number of the next event, which starts at 1.
    pub fn ticks_while(&mut self, mut go_on: impl FnMut(usize) -> bool) {
        let mut number = 1;
        let mut is_open = self.begin("");
        while is_open && go_on(number) && self.event(number) {
            is_open = self.pause(GAP);
            number += 1;
        }
    }

    /// Makes the connection end with a reset when it is closed.
    pub fn reset(&self) {
        let _ = socket2::SockRef::from(&*self.socket).set_linger(Some(Duration::ZERO));
    }

    /// Sleeps. Returns false if the server was stopped before the time was over.
    pub fn pause(&self, time: Duration) -> bool {
        self.record.sleep(time)
    }

    /// Whether the client has closed its end.
    pub fn has_left(&self) -> bool {
        has_left(&self.socket)
    }

    fn end_of_waiting(&mut self) {
        if std::mem::take(&mut self.waits) {
            self.record.stream_waits_no_more();
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.end_of_waiting();
        self.record.closed(&self.socket);
    }
}
