//! One connection to a server, which another thread can end.
//!
//! The socket has one owner: when the [`Connection`] (or the [`Body`] that it became) is dropped, the socket
//! is closed, even if a [`Closer`] still exists.
//!
//! Opening blocks for at most the timeout, including TLS, however many addresses the host has (see
//! [`super::address`]). Sending and reading block until the deadline, or forever without one. [`Closer::close`] ends
//! any of them immediately.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};
use url::{Host, Url};

use super::framing::Framing;
use super::head::{self, Reading, TELLING, may_become_http, status_line_start};
use super::tls::Tls;
use super::wire::{Closer, Line, PlainWire, Wire};
use super::{
    Body, ClientRequest, Head, HttpError, MAX_ANSWER_BYTES, MAX_HEAD_BYTES, Schemes, address, check_url,
};

/// How a connection is made, and how its answers are read.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long connecting may take, over all of the host's addresses, TLS included.
    pub connect_timeout: Duration,
    /// How strictly answers are read.
    pub reading: Reading,
    /// The address to connect to. `None` resolves the host. The host is still the one that TLS verifies.
    pub to: Option<SocketAddr>,
    /// The local address to connect from. `None` leaves it to the system.
    pub from: Option<IpAddr>,
    /// Size of the socket's receive buffer in bytes, which the system may round. `None` means the system's default.
    pub receive_buffer: Option<usize>,
    /// How `https` URLs are secured. `None` refuses them.
    pub tls: Option<Tls>,
}

impl Options {
    /// Options with this timeout and strict reading.
    pub fn within(connect_timeout: Duration) -> Options {
        Options {
            connect_timeout,
            reading: Reading::Strict,
            to: None,
            from: None,
            receive_buffer: None,
            tls: None,
        }
    }
}

/// A connection for one request.
#[derive(Debug)]
pub struct Connection {
    wire: BufReader<Wire>,
    reading: Reading,
}

impl Connection {
    /// Connects to the URL's host and port within `timeout`, and reads strictly.
    pub fn open(url: &Url, timeout: Duration) -> Result<Connection, HttpError> {
        Connection::open_with(url, &Options::within(timeout), |_| true)
    }

    /// Connects. Before each attempt, passes a [`Closer`] to `attempt`, so that another thread can end an
    /// attempt that hangs. `attempt` returns whether to continue.
    pub fn open_with(
        url: &Url,
        options: &Options,
        attempt: impl FnMut(Closer) -> bool,
    ) -> Result<Connection, HttpError> {
        check_url(url, options.tls.as_ref().map_or(Schemes::Http, |_| Schemes::HttpOrHttps))?;
        let tls = options.tls.as_ref().filter(|_| url.scheme() == "https");
        Connection::open_named(&host(url), url.port_or_known_default().unwrap_or(80), tls, options, attempt)
    }

    /// Like [`open_with`](Self::open_with), with a host without brackets and a port, and without TLS.
    pub fn open_host(
        host: &str,
        port: u16,
        options: &Options,
        attempt: impl FnMut(Closer) -> bool,
    ) -> Result<Connection, HttpError> {
        Connection::open_named(host, port, None, options, attempt)
    }

    fn open_named(
        host: &str,
        port: u16,
        tls: Option<&Tls>,
        options: &Options,
        attempt: impl FnMut(Closer) -> bool,
    ) -> Result<Connection, HttpError> {
        let resolved = options.to.map_or_else(|| address::resolve(host, port), |to| Ok(vec![to]));
        let resolved = resolved.map_err(|source| HttpError::Resolve { host: host.to_owned(), source })?;
        let addresses: Vec<SockAddr> = resolved.iter().map(|it| SockAddr::from(*it)).collect();
        let to = || address::spoken(host, port, &resolved);
        let deadline = Instant::now() + options.connect_timeout;
        let line = connect_any(&addresses, deadline, options, attempt, to)?;
        let Some(tls) = tls else {
            return Ok(Connection::over(Wire::Plain(PlainWire::new(line, None)), options));
        };
        let secured = tls.handshake(PlainWire::new(line, Some(deadline)), host, &to());
        let mut wire = Wire::Tls(secured.map_err(|error| match error {
            HttpError::TimedOut => HttpError::ConnectTimedOut { to: to(), after: options.connect_timeout },
            error => error,
        })?);
        wire.set_deadline(None);
        Ok(Connection::over(wire, options))
    }

    fn over(wire: Wire, options: &Options) -> Connection {
        Connection { wire: BufReader::new(wire), reading: options.reading }
    }

    /// Connects to a Unix socket: by its path, or by `@NAME` if it is abstract.
    pub fn open_unix(path: &str, options: &Options) -> Result<Connection, HttpError> {
        let to = || format!("unix://{path}");
        let name = path.strip_prefix('@').map_or_else(|| path.to_owned(), |name| format!("\0{name}"));
        let address = SockAddr::unix(name).map_err(|source| HttpError::Connect { to: to(), source })?;
        let deadline = Instant::now() + options.connect_timeout;
        let line = connect_any(&[address], deadline, options, |_| true, to)?;
        Ok(Connection::over(Wire::Plain(PlainWire::new(line, None)), options))
    }

    /// Returns a handle that ends this connection from another thread.
    pub fn closer(&self) -> Closer {
        self.wire.get_ref().closer()
    }

    /// Returns the local port, by which the server's records identify the connection, or 0 once the
    /// connection is gone.
    pub fn local_port(&self) -> u16 {
        self.local_addr().map_or(0, |address| address.port())
    }

    /// Returns the local address, or `None` for a Unix socket and once the connection is gone.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.wire.get_ref().local_addr()
    }

    /// Returns whether the server has neither closed nor reset the connection. Never blocks. On systems other than
    /// Linux, unread bytes hide the end of the connection.
    pub fn is_open(&self) -> bool {
        self.wire.get_ref().is_open()
    }

    /// Makes reading and writing fail once `deadline` has passed. `None` means no deadline.
    pub fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.wire.get_mut().set_deadline(deadline);
    }

    /// Sends a request for `url` with its head and body. Blocks while the server's buffers are full.
    pub fn send(&mut self, url: &Url, request: &ClientRequest) -> Result<(), HttpError> {
        let bytes = request.encode(url)?;
        self.write(&bytes)
    }

    /// Sends an HTTP/1.0 request without header fields, as pumactl does. A control server cannot mistake it for a
    /// browser's request. `target` is an encoded path with a query.
    pub fn send_plain(&mut self, method: &str, target: &str) -> Result<(), HttpError> {
        let bytes = format!("{method} {target} HTTP/1.0\r\n\r\n");
        self.write(bytes.as_bytes())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), HttpError> {
        let wire = self.wire.get_mut();
        // TLS may hold back bytes until they are flushed.
        wire.write_all(bytes).and_then(|()| wire.flush()).map_err(HttpError::from_body)
    }

    /// Blocks until the answer's first byte has arrived.
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

    /// Blocks until the answer's head is complete. The connection becomes the answer's body. Interim answers
    /// (1xx) are skipped.
    pub fn response(mut self) -> Result<(Head, Body), HttpError> {
        self.wait_for_first_byte()?;
        let mut room = MAX_HEAD_BYTES;
        loop {
            let head = self.head(&mut room)?;
            // 101 is not interim: it answers a request to switch protocols, which this client never sends.
            let is_interim = (100..200).contains(&head.status) && head.status != 101;
            if !is_interim {
                let framing = Framing::of(&head, self.reading)?;
                return Ok((head, Body::new(framing, self.wire)));
            }
        }
    }

    /// Blocks until the answer is complete. Returns its head and its body, without the transfer coding.
    pub fn answer(self) -> Result<(Head, Vec<u8>), HttpError> {
        let (head, body) = self.response()?;
        let mut bytes = Vec::new();
        body.take(MAX_ANSWER_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(HttpError::from_body)?;
        if bytes.len() > MAX_ANSWER_BYTES { Err(HttpError::AnswerTooLarge) } else { Ok((head, bytes)) }
    }

    fn head(&mut self, room: &mut usize) -> Result<Head, HttpError> {
        let mut bytes = Vec::new();
        let mut start = 0;
        if self.reading == Reading::Browser {
            // The first bytes already show whether an answer is HTTP. Another protocol may never send a line.
            let read = self.wire.by_ref().take(TELLING as u64).read_to_end(&mut bytes);
            *room = room.saturating_sub(read.map_err(HttpError::from_body)?);
            match status_line_start(&bytes) {
                Some(at) => start = at,
                None if bytes.len() < TELLING && may_become_http(&bytes) => {
                    return Err(HttpError::EndedEarly);
                }
                None => return head::parse(&bytes, self.reading),
            }
        }
        loop {
            let line = self.wire.by_ref().take(*room as u64).read_until(b'\n', &mut bytes);
            let read = line.map_err(HttpError::from_body)?;
            *room -= read;
            let head = &bytes[start..];
            if head.ends_with(b"\n\n") || head.ends_with(b"\n\r\n") {
                return head::parse(&bytes, self.reading);
            }
            match *room {
                0 => return Err(HttpError::HeadTooLarge),
                _ if read == 0 => return self.cut_short(&bytes),
                _ => {}
            }
        }
    }

    /// Handles a connection that ended in the middle of the head. A status that ends a tab for good is
    /// reported nevertheless, as in Chromium; 200 and redirects need the rest of the head.
    fn cut_short(&self, bytes: &[u8]) -> Result<Head, HttpError> {
        if self.reading == Reading::Browser && bytes.contains(&b'\n') {
            let head = head::parse(bytes, self.reading)?;
            if !matches!(head.status, 100..=200 | 300..=399 | 401) {
                return Ok(head);
            }
        }
        Err(HttpError::EndedEarly)
    }
}

/// The host without brackets.
pub(crate) fn host(url: &Url) -> String {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.to_string(),
        Some(Host::Ipv6(ip)) => ip.to_string(),
        Some(Host::Domain(name)) => name.to_owned(),
        None => String::new(),
    }
}

/// Connects to the first of these addresses that accepts. `to` names them in an error.
fn connect_any(
    addresses: &[SockAddr],
    deadline: Instant,
    options: &Options,
    mut attempt: impl FnMut(Closer) -> bool,
    to: impl FnOnce() -> String,
) -> Result<Arc<Line>, HttpError> {
    let mut failures = Vec::new();
    for (tried, address) in addresses.iter().enumerate() {
        let Some(within) = address::share(deadline, addresses.len() - tried) else {
            failures.push(ErrorKind::TimedOut.into());
            break;
        };
        match connect(address, within, options, &mut attempt) {
            Ok(Some(line)) => return Ok(line),
            Ok(None) => return Err(HttpError::GivenUp),
            Err(error) => failures.push(error),
        }
    }
    Err(connect_error(to(), options, failures))
}

/// Connects to one address. Returns `None` if `attempt` does not allow it.
fn connect(
    address: &SockAddr,
    within: Duration,
    options: &Options,
    attempt: &mut impl FnMut(Closer) -> bool,
) -> io::Result<Option<Arc<Line>>> {
    let domain = Domain::from(i32::from(address.family()));
    let line = Line::new(Socket::new(domain, Type::STREAM, None)?);
    if !attempt(Closer::new(&line)) {
        return Ok(None);
    }
    // The window that is offered to the server depends on the buffer at the time of connecting.
    if let Some(bytes) = options.receive_buffer {
        line.socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(from) = options.from {
        line.socket.bind(&SockAddr::from(SocketAddr::new(from, 0)))?;
    }
    line.socket.connect_timeout(address, within)?;
    if !address.is_unix() {
        line.socket.set_tcp_nodelay(true)?;
    }
    Ok(Some(line))
}

fn connect_error(to: String, options: &Options, failures: Vec<io::Error>) -> HttpError {
    let source = address::most_telling(failures);
    let source = source.unwrap_or_else(|| io::Error::other("the name does not resolve to an address"));
    match source.kind() {
        ErrorKind::ConnectionRefused => HttpError::Refused { to },
        ErrorKind::ConnectionReset => HttpError::Reset { source },
        ErrorKind::TimedOut => HttpError::ConnectTimedOut { to, after: options.connect_timeout },
        _ => HttpError::Connect { to, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_urls_host_is_resolved_as_in_a_browser() {
        for (url, expected) in [
            ("http://localhost:1/", &["[::1]:1", "127.0.0.1:1"][..]),
            ("http://TAB9.localhost./", &["[::1]:80", "127.0.0.1:80"]),
            ("http://127.0.0.2/", &["127.0.0.2:80"]),
            ("http://127.1/", &["127.0.0.1:80"]),
            ("http://0x7f000001/", &["127.0.0.1:80"]),
            ("http://[::1]:8/", &["[::1]:8"]),
        ] {
            let url = Url::parse(url).unwrap();
            let found = address::resolve(&host(&url), url.port_or_known_default().unwrap()).unwrap();
            let expected: Vec<std::net::SocketAddr> = expected.iter().map(|it| it.parse().unwrap()).collect();
            assert_eq!(found, expected, "{url}");
        }
    }

    #[test]
    fn an_attempt_that_is_not_allowed_is_not_made() {
        let url = Url::parse("http://localhost:1/").unwrap();
        let mut attempts = 0;
        let refused = Connection::open_with(&url, &Options::within(Duration::from_secs(9)), |_| {
            attempts += 1;
            false
        });
        assert!(matches!(refused, Err(HttpError::GivenUp)));
        assert_eq!(attempts, 1);
    }
}
