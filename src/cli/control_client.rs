//! What speaks to a control server, of ours or of Puma.
//!
//! It speaks as pumactl does: one request of HTTP/1.0 without a single field, on a
//! connection that ends with the answer, over TCP or a Unix socket. So it is no
//! browser to the server's guard, and every Puma understands it.
//!
//! A name leads where it does in a browser, see [`address`]: `localhost` to ::1 and
//! to 127.0.0.1.
//!
//! [`ControlUrl::ask`] blocks for the time that it is given at the most, apart from
//! the name resolver, which answers in its own time.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::IpAddr;
use std::str::FromStr;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};
use thiserror::Error;

use super::values::without_scheme;

use crate::lab::http::address;

/// The most bytes that an answer may have.
const MAX_ANSWER_BYTES: u64 = 64 * 1024 * 1024;

/// Where a control server listens, in Puma's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControlUrl {
    /// `tcp://HOST:PORT`.
    Tcp { host: String, port: u16 },
    /// `unix://PATH`; `unix://@NAME` is an abstract socket, which has no file.
    Unix(String),
}

/// An answer, whatever its status.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// Without the line's end.
    pub body: String,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum AskError {
    #[error("cannot connect: {0}")]
    Unreachable(io::Error),
    #[error("it was reached, and then: {0}")]
    Broken(io::Error),
    #[error("it gave no whole answer in {0:?}")]
    TimedOut(Duration),
    #[error("its answer is not HTTP/1.x, or not whole: does a control server listen there?")]
    NoControlServer,
}

impl FromStr for ControlUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<ControlUrl, String> {
        let way_out = || "give tcp://HOST:PORT, such as tcp://127.0.0.1:9293, or unix://PATH".to_owned();
        if let Some(path) = text.strip_prefix("unix://") {
            let is_a_name = !path.is_empty() && path != "@" && !path.contains('\0');
            return if is_a_name { Ok(ControlUrl::Unix(path.to_owned())) } else { Err(way_out()) };
        }
        let bare = without_scheme(text);
        let (host, port) = bare.trim_end_matches('/').rsplit_once(':').ok_or_else(way_out)?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port = port.parse().ok().filter(|port| *port > 0);
        match port {
            Some(port) if !host.is_empty() && !host.contains(['/', '?', '#', '@', ' ']) => {
                Ok(ControlUrl::Tcp { host: host.to_owned(), port })
            }
            _ => Err(way_out()),
        }
    }
}

impl fmt::Display for ControlUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ControlUrl::Tcp { host, port } if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            ControlUrl::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
            ControlUrl::Unix(path) => write!(f, "unix://{path}"),
        }
    }
}

impl ControlUrl {
    /// Connects, and is content with that.
    pub fn touch(&self, patience: Duration) -> Result<(), AskError> {
        self.connect(Deadline::after(patience)).map(drop)
    }

    /// Asks, and takes the whole answer. `target` is a path and a query as they are sent.
    pub fn ask(&self, method: &str, target: &str, patience: Duration) -> Result<Answer, AskError> {
        let deadline = Deadline::after(patience);
        let mut socket = self.connect(deadline)?;
        socket.set_write_timeout(Some(deadline.left()?)).map_err(AskError::Broken)?;
        let asked = socket.write_all(format!("{method} {target} HTTP/1.0\r\n\r\n").as_bytes());
        asked.map_err(|error| deadline.broken(error))?;
        answer_in(&read_to_end(&mut socket, deadline)?).ok_or(AskError::NoControlServer)
    }

    /// The first of the name's addresses that takes the connection.
    fn connect(&self, deadline: Deadline) -> Result<Socket, AskError> {
        let addresses: Vec<SockAddr> = match self {
            ControlUrl::Tcp { host, port } => {
                let found = address::resolve(host, *port).map_err(AskError::Unreachable)?;
                found.into_iter().map(SockAddr::from).collect()
            }
            ControlUrl::Unix(path) => {
                let name = path.strip_prefix('@').map_or_else(|| path.clone(), |name| format!("\0{name}"));
                vec![SockAddr::unix(name).map_err(AskError::Unreachable)?]
            }
        };
        let mut failures = Vec::new();
        for (tried, address) in addresses.iter().enumerate() {
            let domain = Domain::from(i32::from(address.family()));
            let connected = Socket::new(domain, Type::STREAM, None).and_then(|socket| {
                let within = address::share(deadline.at, addresses.len() - tried);
                let within = within.ok_or_else(|| io::Error::from(ErrorKind::TimedOut))?;
                socket.connect_timeout(address, within).map(|()| socket)
            });
            match connected {
                Ok(socket) => return Ok(socket),
                Err(error) => failures.push(error),
            }
        }
        let tried: Vec<_> = addresses.iter().filter_map(SockAddr::as_socket).collect();
        let error = address::most_telling(failures).unwrap_or_else(|| io::Error::other("no address"));
        match self {
            // A name is told with what it stands for.
            ControlUrl::Tcp { host, port } if host.parse::<IpAddr>().is_err() => {
                let at = address::spoken(host, *port, &tried);
                Err(AskError::Unreachable(io::Error::new(error.kind(), format!("{error} at {at}"))))
            }
            _ => Err(AskError::Unreachable(error)),
        }
    }
}

fn read_to_end(socket: &mut Socket, deadline: Deadline) -> Result<Vec<u8>, AskError> {
    let (mut answer, mut buffer) = (Vec::new(), [0; 16 * 1024]);
    loop {
        socket.set_read_timeout(Some(deadline.left()?)).map_err(AskError::Broken)?;
        match socket.read(&mut buffer) {
            Ok(0) => return Ok(answer),
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(deadline.broken(error)),
        }
        if answer.len() as u64 > MAX_ANSWER_BYTES {
            return Err(AskError::NoControlServer);
        }
    }
}

/// None if it is not HTTP/1.x, or ended before its length.
fn answer_in(bytes: &[u8]) -> Option<Answer> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(length) = head.parse(bytes).ok()? else { return None };
    let body = &bytes[length..];
    let promised = head.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
    let promised = promised.and_then(|field| std::str::from_utf8(field.value).ok()?.trim().parse().ok());
    if promised.is_some_and(|promised: usize| promised != body.len()) {
        return None;
    }
    let body = String::from_utf8_lossy(body).trim_end_matches(['\r', '\n']).to_owned();
    Some(Answer { status: head.code?, body })
}

/// Until when an answer is waited for.
#[derive(Clone, Copy)]
struct Deadline {
    at: Instant,
    patience: Duration,
}

impl Deadline {
    fn after(patience: Duration) -> Deadline {
        Deadline { at: Instant::now() + patience, patience }
    }

    fn left(self) -> Result<Duration, AskError> {
        let left = self.at.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(AskError::TimedOut(self.patience)) } else { Ok(left) }
    }

    fn broken(self, error: io::Error) -> AskError {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => AskError::TimedOut(self.patience),
            _ => AskError::Broken(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr as StdAddr, UnixListener};
    use std::thread;

    use super::*;

    #[test]
    fn where_each_url_leads() {
        for (text, wanted) in [
            ("tcp://127.0.0.1:9293", "tcp://127.0.0.1:9293"),
            ("localhost:80", "tcp://localhost:80"),
            ("tcp://[::1]:9293/", "tcp://[::1]:9293"),
            ("unix:///tmp/a b.sock", "unix:///tmp/a b.sock"),
            ("http://127.0.0.1:9293/", "tcp://127.0.0.1:9293"),
            ("unix://@puma", "unix://@puma"),
        ] {
            assert_eq!(text.parse::<ControlUrl>().map(|url| url.to_string()), Ok(wanted.to_owned()));
        }
        for wrong in
            ["", "tcp://", "tcp://h", "tcp://h:0", "tcp://:1", "tcp://h:65536", "http://h:1/x", "unix://"]
        {
            assert!(wrong.parse::<ControlUrl>().is_err_and(|says| says.contains("9293")), "{wrong}");
        }
        assert!("ssl://h:1".parse::<ControlUrl>().is_err());
    }

    #[test]
    fn a_unix_socket_by_path_and_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ctl.sock").display().to_string();
        let name = format!("ninetabs-control-client-{}", std::process::id());
        let abstract_name = StdAddr::from_abstract_name(&name).unwrap();
        for (url, listener) in [
            (format!("unix://{path}"), UnixListener::bind(&path)),
            (format!("unix://@{name}"), UnixListener::bind_addr(&abstract_name)),
        ] {
            let listener = listener.unwrap();
            let other = thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut asked = [0; 23];
                stream.read_exact(&mut asked).unwrap();
                stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n{}").unwrap();
                asked
            });
            let answer =
                url.parse::<ControlUrl>().unwrap().ask("GET", "/stats", Duration::from_secs(30)).unwrap();
            assert_eq!(answer, Answer { status: 200, body: "{}".to_owned() }, "{url}");
            assert_eq!(&other.join().unwrap(), b"GET /stats HTTP/1.0\r\n\r\n");
        }
    }

    #[test]
    fn localhost_is_tried_on_both_loopback_addresses() {
        for ip in ["[::1]", "127.0.0.1"] {
            let Ok(listener) = std::net::TcpListener::bind(format!("{ip}:0")) else {
                eprintln!("not tested: this machine has no {ip}");
                continue;
            };
            let port = listener.local_addr().unwrap().port();
            for host in ["localhost", "tab1.LOCALHOST"] {
                let url: ControlUrl = format!("tcp://{host}:{port}").parse().unwrap();
                assert!(url.touch(Duration::from_secs(30)).is_ok(), "{url} on {ip}");
            }
            drop(listener);
            let url: ControlUrl = format!("tcp://localhost:{port}").parse().unwrap();
            let error = url.touch(Duration::from_secs(30)).unwrap_err().to_string();
            assert!(error.contains(&format!("localhost:{port} ([::1] and 127.0.0.1)")), "{error}");
        }
    }

    #[test]
    fn an_answer_is_whole_or_none() {
        let answer = |status, body: &str| Some(Answer { status, body: body.to_owned() });
        for (bytes, wanted) in [
            ("HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\n{}\n", answer(200, "{}")),
            ("HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno", answer(404, "no")),
            ("HTTP/1.0 200 OK\r\n\r\nto the end", answer(200, "to the end")),
            ("HTTP/1.0 200 OK\r\ncontent-length: 4\r\n\r\n{}", None),
            ("HTTP/1.0 200 OK\r\ncontent-le", None),
            ("", None),
            ("SSH-2.0-OpenSSH\r\n", None),
        ] {
            assert_eq!(answer_in(bytes.as_bytes()), wanted, "{bytes:?}");
        }
    }
}
