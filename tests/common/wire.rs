//! A server made of a listener and a script, for tests that control each byte.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Longer than any step takes on a slow machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A request's head, as received.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The index of its connection, from 0, in the order of acceptance.
    pub number: usize,
    pub peer_port: u16,
    pub head: String,
}

impl Asked {
    pub fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    /// The value of a header. Names are case-insensitive.
    pub fn header(&self, name: &str) -> Option<&str> {
        super::header(&self.head, name)
    }
}

/// A running server. Each connection gets a thread, which reads a request's head and then runs the script. The
/// connection is closed when the script returns.
pub struct Server {
    pub port: u16,
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start(script: impl Fn(&Asked, &mut TcpStream) + Send + Sync + 'static) -> Server {
        Server::on(TcpListener::bind("127.0.0.1:0").unwrap(), script)
    }

    pub fn on(
        listener: TcpListener,
        script: impl Fn(&Asked, &mut TcpStream) + Send + Sync + 'static,
    ) -> Server {
        let address = listener.local_addr().unwrap();
        let port = address.port();
        let (accepted, stopping) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let script = Arc::new(script);
        let thread = thread::spawn({
            let (accepted, stopping) = (accepted.clone(), stopping.clone());
            move || {
                for stream in listener.incoming() {
                    if stopping.load(Ordering::SeqCst) {
                        break;
                    }
                    let number = accepted.fetch_add(1, Ordering::SeqCst);
                    let (script, mut stream) = (script.clone(), stream.unwrap());
                    thread::spawn(move || {
                        if let Some(asked) = read_head(number, &stream) {
                            script(&asked, &mut stream);
                        }
                    });
                }
            }
        });
        Server { port, address, accepted, stopping, thread: Some(thread) }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn read_head(number: usize, stream: &TcpStream) -> Option<Asked> {
    let peer_port = stream.peer_addr().ok()?.port();
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if reader.read_until(b'\n', &mut head).ok()? == 0 {
            return None;
        }
    }
    Some(Asked { number, peer_port, head: String::from_utf8(head).unwrap() })
}

/// The head of a stream that ends with its connection.
pub const STREAM: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";

/// Writes text. A closed peer is not a failure of the test.
pub fn write(stream: &mut TcpStream, text: impl AsRef<[u8]>) {
    let _ = stream.write_all(text.as_ref());
}

/// Blocks until the peer has closed, or reset, the connection.
pub fn wait_for_close(stream: &mut TcpStream) {
    let mut buffer = [0; 1024];
    while matches!(stream.read(&mut buffer), Ok(1..)) {}
}

/// Makes the next close send an RST instead of a FIN.
pub fn reset(stream: &TcpStream) {
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// Blocks until `condition` holds. Panics with `what` if this takes longer than [`PATIENCE`].
pub fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "did not happen within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}
