//! A relay to PostgreSQL that delivers every byte late, as a link to another continent does.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// The relay. When this is dropped, it accepts no more connections; the open ones stay until an end closes them.
pub struct Relay {
    pub address: SocketAddr,
    is_over: Arc<AtomicBool>,
}

impl Relay {
    /// Starts a relay from a free port to this socket. It delays each direction by this time.
    pub fn start(socket: PathBuf, delay: Duration) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let is_over = Arc::new(AtomicBool::new(false));
        let relay = Relay { address, is_over: Arc::clone(&is_over) };
        thread::spawn(move || {
            for client in listener.incoming() {
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                let (client, engine) = (client.unwrap(), UnixStream::connect(&socket).unwrap());
                client.set_nodelay(true).unwrap();
                let (to_client, to_engine) = (client.try_clone().unwrap(), engine.try_clone().unwrap());
                carry(client, to_engine, delay, |it| it.shutdown(Shutdown::Write));
                carry(engine, to_client, delay, |it: &TcpStream| it.shutdown(Shutdown::Write));
            }
        });
        relay
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

/// Carries bytes in one direction. A second thread writes them when they are due, so that the bytes behind them are not
/// delayed twice.
fn carry<R, W>(mut from: R, mut to: W, delay: Duration, close: fn(&W) -> std::io::Result<()>)
where
    R: Read + Send + 'static,
    W: Write + Send + 'static,
{
    let (send, queue) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        let mut buffer = [0; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if send.send((Instant::now() + delay, buffer[..count].to_vec())).is_err() {
                return;
            }
        }
    });
    thread::spawn(move || {
        for (due, bytes) in queue {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                return;
            }
        }
        let _ = close(&to);
    });
}
