//! A server whose behavior a test scripts: how it accepts, reads, queues, refuses, delays, buffers and cuts off,
//! and with how many workers.
//!
//! Each accepted connection has a thread, which runs the script. Each limit of the server (threads, connections, a
//! database pool) is a [`Slots`] from which the script takes. The server records the requests that it received, and
//! how many connections were open at the same time.

mod client;
mod http2;
mod record;
mod slots;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use socket2::{Domain, Socket, Type};

pub use client::{Client, GAP, Request};
pub use http2::{Beyond, Http2};
pub use record::Record;
pub use slots::Slots;

/// A running server. When dropped, it closes every connection and accepts no more.
pub struct Scripted {
    pub address: SocketAddr,
    pub record: Arc<Record>,
}

impl Scripted {
    /// Runs the script on each connection as soon as it arrives.
    pub fn start(script: impl Fn(&mut Client) + Send + Sync + 'static) -> Scripted {
        Scripted::admitting(|| (), move |client, ()| script(client))
    }

    /// Accepts a connection only after `admit` has returned. The script owns the value that `admit` returned.
    pub fn admitting<T: Send + 'static>(
        admit: impl FnMut() -> T + Send + 'static,
        script: impl Fn(&mut Client, T) + Send + Sync + 'static,
    ) -> Scripted {
        Scripted::queueing(1024, admit, script)
    }

    /// Like `admitting`, with an accept queue of this length.
    pub fn queueing<T: Send + 'static>(
        backlog: i32,
        mut admit: impl FnMut() -> T + Send + 'static,
        script: impl Fn(&mut Client, T) + Send + Sync + 'static,
    ) -> Scripted {
        let listener = listen(backlog);
        let address = listener.local_addr().unwrap();
        let record = Arc::new(Record::default());
        let (script, kept) = (Arc::new(script), Arc::clone(&record));
        std::thread::spawn(move || {
            loop {
                // Calls `admit` only for a connection that has arrived. The connection waits in the kernel's queue
                // until it is admitted.
                let mut polled = [PollFd::new(&listener, PollFlags::IN)];
                if poll(&mut polled, None).is_err() {
                    continue;
                }
                let admitted = admit();
                let Ok((socket, peer)) = listener.accept() else { return };
                let Some(mut client) = Client::new(socket, peer, &kept) else { return };
                let script = Arc::clone(&script);
                std::thread::spawn(move || script(&mut client, admitted));
            }
        });
        Scripted { address, record }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.record.stop();
        // Wakes the acceptor, unless it is blocked in `admit`.
        let _ = TcpStream::connect(self.address);
    }
}

fn listen(backlog: i32) -> TcpListener {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(backlog).unwrap();
    socket.into()
}
