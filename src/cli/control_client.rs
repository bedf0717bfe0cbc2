//! A client of the control server, ours or Puma's.
//!
//! It sends requests as pumactl does: HTTP/1.0 without header fields, over TCP or a Unix socket, one per
//! connection. The server's guard does not mistake such a request for a browser's, and every version of Puma
//! accepts it. The connection is the lab's ([`Connection`]). It resolves names as a browser does: `localhost` to
//! ::1 and to 127.0.0.1.
//!
//! [`ControlUrl::ask`] blocks for at most the given time, plus the time that the name resolver takes.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::values::without_scheme;
use crate::lab::http::{Connection, HttpError, Options};

/// The address of a control server, in Puma's notation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControlUrl {
    /// `tcp://HOST:PORT`.
    Tcp { host: String, port: u16 },
    /// `unix://PATH`; `unix://@NAME` is an abstract socket, which is not a file.
    Unix(String),
}

/// An answer with any status.
#[derive(Debug, PartialEq, Eq)]
pub struct ControlAnswer {
    pub status: u16,
    /// The body, without the line break at its end.
    pub body: String,
}

/// Why a request was not answered.
#[derive(Debug, Error)]
pub enum AskError {
    #[error("cannot connect: {0}")]
    Unreachable(HttpError),
    #[error("the connection broke: {0}")]
    Broken(HttpError),
    #[error("no complete answer within {0:?}")]
    TimedOut(Duration),
    #[error("its answer is not a complete HTTP/1.x response, so it is probably not a control server")]
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
    /// Connects, without sending a request.
    pub fn touch(&self, patience: Duration) -> Result<(), AskError> {
        self.connect(patience).map(drop)
    }

    /// Sends a request and reads the complete answer. `target` is a path and a query, already encoded.
    pub fn ask(&self, method: &str, target: &str, patience: Duration) -> Result<ControlAnswer, AskError> {
        let deadline = Instant::now() + patience;
        let mut connection = self.connect(patience)?;
        connection.set_deadline(Some(deadline));
        let answer = connection.send_plain(method, target).and_then(|()| connection.answer());
        let (head, body) = answer.map_err(|error| match error {
            HttpError::NoFirstByte | HttpError::TimedOut => AskError::TimedOut(patience),
            HttpError::Reset { .. } | HttpError::Failed { .. } => AskError::Broken(error),
            _ => AskError::NoControlServer,
        })?;
        let body = String::from_utf8_lossy(&body).trim_end_matches(['\r', '\n']).to_owned();
        Ok(ControlAnswer { status: head.status, body })
    }

    fn connect(&self, patience: Duration) -> Result<Connection, AskError> {
        let options = Options::within(patience);
        let connected = match self {
            ControlUrl::Tcp { host, port } => Connection::open_host(host, *port, &options, |_| true),
            ControlUrl::Unix(path) => Connection::open_unix(path, &options),
        };
        connected.map_err(AskError::Unreachable)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr as StdAddr, UnixListener};
    use std::thread;

    use super::*;

    #[test]
    fn a_url_may_be_tcp_http_or_unix() {
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
    fn a_unix_socket_is_reached_by_path_and_by_abstract_name() {
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
            assert_eq!(answer, ControlAnswer { status: 200, body: "{}".to_owned() }, "{url}");
            assert_eq!(&other.join().unwrap(), b"GET /stats HTTP/1.0\r\n\r\n");
        }
    }

    #[test]
    fn localhost_is_tried_on_both_loopback_addresses() {
        for ip in ["[::1]", "127.0.0.1"] {
            let Ok(listener) = TcpListener::bind(format!("{ip}:0")) else {
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
    fn an_incomplete_answer_is_an_error() {
        let answer = |status, body: &str| Some(ControlAnswer { status, body: body.to_owned() });
        for (bytes, wanted) in [
            ("HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\n{}\n", answer(200, "{}")),
            ("HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno", answer(404, "no")),
            ("HTTP/1.0 200 OK\r\n\r\nto the end", answer(200, "to the end")),
            ("HTTP/1.0 200 OK\r\ncontent-length: 4\r\n\r\n{}", None),
            ("HTTP/1.0 200 OK\r\ncontent-le", None),
            ("", None),
            ("SSH-2.0-OpenSSH\r\n", None),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("tcp://{}", listener.local_addr().unwrap());
            let other = thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                // If the request were not read, the close would reset the connection.
                stream.read_exact(&mut [0; 23]).unwrap();
                stream.write_all(bytes.as_bytes()).unwrap();
            });
            let answer = url.parse::<ControlUrl>().unwrap().ask("GET", "/stats", Duration::from_secs(30));
            other.join().unwrap();
            match wanted {
                Some(wanted) => assert_eq!(answer.unwrap(), wanted, "{bytes:?}"),
                None => assert!(matches!(answer, Err(AskError::NoControlServer)), "{bytes:?}: {answer:?}"),
            }
        }
    }
}
