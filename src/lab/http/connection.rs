//! One connection to a server, and the means to end it from outside.
//!
//! `localhost` and every name under it are 127.0.0.1 without asking anybody, as
//! in Chromium and Firefox, so `tab3.localhost` needs no set-up. The socket is
//! held once: when the [`Connection`] (or the [`Body`] that it became) is dropped
//! the socket is closed, even while a [`Closer`] of it still exists.
//!
//! Opening blocks for the timeout at the most; sending and reading until the
//! deadline, for ever without one. All of it ends at once by [`Closer::close`].

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use url::{Host, Position, Url};

use super::body::Framing;
use super::{Body, Head, HttpError, MAX_HEAD_BYTES, MAX_HEADERS, Request, check_url};

/// How a connection is made.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long each of the host's addresses may take to answer.
    pub connect_timeout: Duration,
    /// Bytes for SO_RCVBUF, set before connecting; `None` leaves the system's own.
    pub receive_buffer: Option<usize>,
}

/// A connection that carries one request at a time.
#[derive(Debug)]
pub struct Connection {
    wire: BufReader<Wire>,
}

/// Ends a connection from another thread. Does not keep the socket open.
#[derive(Debug, Clone)]
pub struct Closer(Weak<Socket>);

impl Closer {
    /// Sends FIN and wakes whoever connects, reads or writes. Does nothing when the
    /// connection has ended already. Never blocks.
    pub fn close(&self) {
        if let Some(socket) = self.0.upgrade() {
            // It fails when the peer was first, and then there is nothing to do.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

impl Connection {
    /// Connects to the URL's host and port; `timeout` is for each of its addresses.
    pub fn open(url: &Url, timeout: Duration) -> Result<Connection, HttpError> {
        let options = Options { connect_timeout: timeout, receive_buffer: None };
        Connection::open_with(url, &options, |_| ())
    }

    /// Connects, and hands out a [`Closer`] before each attempt, so that another
    /// thread can end an attempt that hangs.
    pub fn open_with(
        url: &Url,
        options: &Options,
        mut attempt: impl FnMut(Closer),
    ) -> Result<Connection, HttpError> {
        check_url(url)?;
        let mut refusal = HttpError::BadUrl { url: url.to_string() };
        for address in addresses(url)? {
            match connect(address, options, &mut attempt) {
                Ok(socket) => {
                    return Ok(Connection::from_wire(BufReader::new(Wire { socket, deadline: None })));
                }
                Err(source) => refusal = connect_error(address, options, source),
            }
        }
        Err(refusal)
    }

    pub(super) fn from_wire(wire: BufReader<Wire>) -> Connection {
        Connection { wire }
    }

    /// Something that ends this connection from another thread.
    pub fn closer(&self) -> Closer {
        Closer(Arc::downgrade(&self.wire.get_ref().socket))
    }

    /// The port on this side: how the server's records name the connection. 0 once
    /// the connection is gone.
    pub fn local_port(&self) -> u16 {
        let address = self.wire.get_ref().socket.local_addr().ok();
        address.and_then(|address| address.as_socket()).map_or(0, |address| address.port())
    }

    /// From now on reading and writing fail when `deadline` has passed; `None`: never.
    pub fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.wire.get_mut().deadline = deadline;
    }

    /// Sends a request for `url`, head and body. Blocks while the server's side of
    /// the socket is full.
    pub fn send(&mut self, url: &Url, request: &Request) -> Result<(), HttpError> {
        let bytes = encode(url, request)?;
        self.wire.get_mut().write_all(&bytes).map_err(HttpError::from_body)
    }

    /// Blocks until the answer's first byte is here.
    pub fn wait_for_first_byte(&mut self) -> Result<(), HttpError> {
        loop {
            match self.wire.fill_buf() {
                Ok([]) => return Err(HttpError::NoAnswer),
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Err(HttpError::NoFirstByte);
                }
                Err(error) => return Err(HttpError::from_body(error)),
            }
        }
    }

    /// Blocks until the answer's head is whole; the connection becomes its body.
    /// Interim answers (1xx) are passed over.
    pub fn response(mut self) -> Result<(Head, Body), HttpError> {
        self.wait_for_first_byte()?;
        let mut room = MAX_HEAD_BYTES;
        loop {
            let head = self.head(&mut room)?;
            if !(100..200).contains(&head.status) {
                let keep_alive = keeps_alive(&head);
                let body = Body::new(Framing::of(&head)?, self.wire, keep_alive);
                return Ok((head, body));
            }
        }
    }

    fn head(&mut self, room: &mut usize) -> Result<Head, HttpError> {
        let mut bytes = Vec::new();
        loop {
            let begin = bytes.len();
            let line = self.wire.by_ref().take(*room as u64).read_until(b'\n', &mut bytes);
            *room -= line.map_err(HttpError::from_body)?;
            match &bytes[begin..] {
                b"\r\n" | b"\n" if begin > 0 => return parse_head(&bytes),
                line if line.ends_with(b"\n") => {}
                _ if *room == 0 => return Err(HttpError::HeadTooLarge),
                _ => return Err(HttpError::EndedEarly),
            }
        }
    }
}

fn parse_head(bytes: &[u8]) -> Result<Head, HttpError> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut fields);
    match response.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(HttpError::EndedEarly),
        Err(httparse::Error::TooManyHeaders) => return Err(HttpError::HeadTooLarge),
        Err(source) => return Err(HttpError::BadHead { source }),
    }
    let headers = response.headers.iter().map(|field| (field.name.to_owned(), field.value.to_vec()));
    Ok(Head {
        status: response.code.unwrap_or_default(),
        headers: headers.collect(),
        minor_version: response.version.unwrap_or_default(),
    })
}

fn keeps_alive(head: &Head) -> bool {
    let options = head.header("connection").unwrap_or_default().to_ascii_lowercase();
    let said = |word: &str| options.split(',').any(|option| option.trim() == word);
    if head.minor_version == 0 { said("keep-alive") } else { !said("close") }
}

fn encode(url: &Url, request: &Request) -> Result<Vec<u8>, HttpError> {
    let method = if request.method.is_empty() { "GET" } else { request.method };
    let target = &url[Position::BeforePath..Position::AfterQuery];
    let host = &url[Position::BeforeHost..Position::AfterPort];
    let mut bytes = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n").into_bytes();
    for (name, value) in &request.headers {
        if value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            return Err(HttpError::BadHeaderValue { name });
        }
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value);
        bytes.extend_from_slice(b"\r\n");
    }
    if let Some(body) = &request.body {
        bytes.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(request.body.as_deref().unwrap_or_default());
    Ok(bytes)
}

fn addresses(url: &Url) -> Result<Vec<SocketAddr>, HttpError> {
    let port = url.port_or_known_default().unwrap_or(80);
    let one = |ip: IpAddr| Ok(vec![SocketAddr::new(ip, port)]);
    match url.host() {
        Some(Host::Ipv4(ip)) => one(ip.into()),
        Some(Host::Ipv6(ip)) => one(ip.into()),
        Some(Host::Domain(name)) if is_local(name) => one(Ipv4Addr::LOCALHOST.into()),
        Some(Host::Domain(name)) => match (name, port).to_socket_addrs() {
            Ok(addresses) => Ok(addresses.collect()),
            Err(source) => Err(HttpError::Resolve { host: name.to_owned(), source }),
        },
        None => Err(HttpError::BadUrl { url: url.to_string() }),
    }
}

fn is_local(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name == "localhost" || name.ends_with(".localhost")
}

fn connect(
    address: SocketAddr,
    options: &Options,
    attempt: &mut impl FnMut(Closer),
) -> io::Result<Arc<Socket>> {
    let socket = Arc::new(Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?);
    if let Some(bytes) = options.receive_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    attempt(Closer(Arc::downgrade(&socket)));
    socket.connect_timeout(&address.into(), options.connect_timeout)?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket)
}

fn connect_error(address: SocketAddr, options: &Options, source: io::Error) -> HttpError {
    let to = address.to_string();
    match source.kind() {
        ErrorKind::ConnectionRefused => HttpError::Refused { to },
        ErrorKind::ConnectionReset => HttpError::Reset { source },
        ErrorKind::TimedOut => HttpError::ConnectTimedOut { to, after: options.connect_timeout },
        _ => HttpError::Connect { to, source },
    }
}

/// The socket with a deadline: each read and write may take what is left of it.
#[derive(Debug)]
pub(super) struct Wire {
    socket: Arc<Socket>,
    deadline: Option<Instant>,
}

impl Wire {
    fn time_left(&self) -> io::Result<Option<Duration>> {
        let Some(deadline) = self.deadline else { return Ok(None) };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(Some(left)) }
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.set_read_timeout(self.time_left()?)?;
        (&*self.socket).read(buffer)
    }
}

impl Write for Wire {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.socket.set_write_timeout(self.time_left()?)?;
        (&*self.socket).write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(url: &str, request: &Request) -> String {
        String::from_utf8(encode(&Url::parse(url).unwrap(), request).unwrap()).unwrap()
    }

    #[test]
    fn a_request_names_its_host_and_leaves_the_fragment_at_home() {
        let request = Request { headers: vec![("A", b"b".to_vec())], ..Request::default() };
        let expected = "GET /a?b=c HTTP/1.1\r\nHost: tab1.localhost:9292\r\nA: b\r\n\r\n";
        assert_eq!(sent("http://user@tab1.localhost:9292/a?b=c#d", &request), expected);
        assert!(
            sent("http://[::1]:80", &Request::default()).starts_with("GET / HTTP/1.1\r\nHost: [::1]\r\n")
        );
    }

    #[test]
    fn a_header_cannot_smuggle_a_line() {
        let url = Url::parse("http://localhost/").unwrap();
        for value in [&b"a\r\nB: c"[..], b"a\nb", b"a\0b"] {
            let request = Request { headers: vec![("A", value.to_vec())], ..Request::default() };
            assert!(matches!(encode(&url, &request), Err(HttpError::BadHeaderValue { name: "A" })));
        }
    }

    #[test]
    fn names_under_localhost_need_no_resolver() {
        for (url, expected) in [
            ("http://localhost:1/", "127.0.0.1:1"),
            ("http://tab9.localhost./", "127.0.0.1:80"),
            ("http://127.0.0.2/", "127.0.0.2:80"),
            ("http://[::1]:8/", "[::1]:8"),
        ] {
            let found = addresses(&Url::parse(url).unwrap()).unwrap();
            assert_eq!(found, [expected.parse().unwrap()], "{url}");
        }
    }

    #[test]
    fn the_head_says_whether_another_request_may_follow() {
        for (head, expected) in [
            ("HTTP/1.1 200 OK\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\nConnection: Close\r\n\r\n", false),
            ("HTTP/1.0 200 OK\r\n\r\n", false),
            ("HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\n\r\n", true),
        ] {
            assert_eq!(keeps_alive(&parse_head(head.as_bytes()).unwrap()), expected, "{head}");
        }
    }
}
