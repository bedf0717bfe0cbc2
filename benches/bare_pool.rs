//! The bare pool: a minimal server with the same structure as the front, to measure the front against.
//!
//! A reactor thread accepts and watches connections, todo is a list under a mutex with a condition variable, eight
//! threads take from it, httparse parses the head, and the answer is a constant with keep-alive. It has no limits,
//! deadlines, app or event record, and it would mistake a body for the next head. The time that the front needs beyond
//! this server is the cost of the model; the time that this server needs is the cost of the structure. Sockets never
//! block: a pool thread reads the bytes that have arrived and is free again.
//!
//! ```console
//! $ cargo bench --bench bare_pool -- --port 9400 --for 60
//! ```
//!
//! With port 0, the system chooses a free port. The server prints the address it listens on as one line to standard
//! output, and exits after the given number of seconds.

use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{env, thread};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Protocol, Socket, Type};

const THREADS: usize = 8;
const LISTEN_BACKLOG: i32 = 1_024;
const READ_BYTES: usize = 16 * 1024;
const LISTENER: Token = Token(0);
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/html; charset=utf-8\r\ncontent-length: 3\r\n\r\nup\n";

/// A connection. It closes when both the reactor and the pool have dropped it.
struct Client {
    stream: TcpStream,
    /// Bytes that were read but do not form a complete head yet.
    unfinished: Mutex<Vec<u8>>,
    is_queued: AtomicBool,
}

#[derive(Default)]
struct Todo {
    list: Mutex<VecDeque<Arc<Client>>>,
    not_empty: Condvar,
}

impl Todo {
    fn push(&self, client: Arc<Client>) {
        lock(&self.list).push_back(client);
        self.not_empty.notify_one();
    }

    fn take(&self) -> Arc<Client> {
        let mut list = lock(&self.list);
        loop {
            match list.pop_front() {
                Some(client) => return client,
                None => list = self.not_empty.wait(list).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

impl Client {
    /// Answers every request that is complete. After an error it shuts the socket down, and the reactor is
    /// notified of that.
    fn serve(&self, buffer: &mut [u8]) {
        let mut unfinished = lock(&self.unfinished);
        // Cleared before the read, so that bytes that arrive after it queue the client again.
        self.is_queued.store(false, Ordering::SeqCst);
        if self.read_and_answer(&mut unfinished, buffer).is_err() {
            // This fails if the client closed first.
            let _ = self.stream.shutdown(Shutdown::Both);
        }
    }

    fn read_and_answer(&self, unfinished: &mut Vec<u8>, buffer: &mut [u8]) -> io::Result<()> {
        loop {
            let read = match (&self.stream).read(buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            unfinished.extend_from_slice(&buffer[..read]);
            while let Some(length) = head(unfinished)? {
                unfinished.drain(..length);
                (&self.stream).write_all(ANSWER)?;
            }
            // A short read has emptied the socket, so bytes that arrive now raise a new event.
            if read < buffer.len() {
                return Ok(());
            }
        }
    }
}

/// The length of the head at the front of `bytes`, if it is complete.
fn head(bytes: &[u8]) -> io::Result<Option<usize>> {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    match httparse::Request::new(&mut fields).parse(bytes) {
        Ok(httparse::Status::Complete(length)) => Ok(Some(length)),
        Ok(httparse::Status::Partial) => Ok(None),
        Err(_) => Err(ErrorKind::InvalidData.into()),
    }
}

/// Accepts, watches and fills todo. Returns only on an error.
fn react(mut poll: Poll, listener: TcpListener, todo: &Todo) -> io::Result<()> {
    let mut events = Events::with_capacity(1_024);
    let mut clients: HashMap<Token, Arc<Client>> = HashMap::new();
    let mut next = 1;
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in &events {
            if event.token() == LISTENER {
                while let Some(mut stream) = accept(&listener)? {
                    let token = Token(next);
                    next += 1;
                    poll.registry().register(&mut stream, token, Interest::READABLE)?;
                    let client =
                        Client { stream, unfinished: Mutex::default(), is_queued: AtomicBool::new(false) };
                    clients.insert(token, Arc::new(client));
                }
            } else if event.is_read_closed() || event.is_error() {
                clients.remove(&event.token());
            } else if let Some(client) = clients.get(&event.token())
                && !client.is_queued.swap(true, Ordering::SeqCst)
            {
                todo.push(Arc::clone(client));
            }
        }
    }
}

fn accept(listener: &TcpListener) -> io::Result<Option<TcpStream>> {
    match listener.accept() {
        Ok((stream, _)) => Ok(Some(stream)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

fn serve(port: u16, time: Duration) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit both options.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    socket.listen(LISTEN_BACKLOG)?;
    let mut listener = TcpListener::from_std(socket.into());
    let poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    println!("the bare pool listens on {}", listener.local_addr()?);

    let todo = Arc::new(Todo::default());
    for number in 1..=THREADS {
        let todo = Arc::clone(&todo);
        thread::Builder::new().name(format!("bare tp {number:03}")).spawn(move || {
            let mut buffer = vec![0; READ_BYTES];
            loop {
                todo.take().serve(&mut buffer);
            }
        })?;
    }
    let (ended, end) = crossbeam_channel::bounded(1);
    thread::Builder::new().name("bare reactor".to_owned()).spawn(move || {
        // The receiver is gone once the time is up.
        let _ = ended.send(react(poll, listener, &todo));
    })?;
    end.recv_timeout(time).unwrap_or(Ok(()))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().collect();
    let value = |flag: &str| -> Option<u64> {
        let at = arguments.iter().position(|it| it == flag)?;
        arguments.get(at + 1)?.parse().ok()
    };
    let (Some(port), Some(seconds)) = (value("--port"), value("--for")) else {
        // `cargo bench` without arguments runs this file as well; it must not block there.
        eprintln!("bare_pool: not started: it needs --port PORT --for SECS");
        return ExitCode::SUCCESS;
    };
    let served = u16::try_from(port)
        .map_err(|_| io::Error::new(ErrorKind::InvalidInput, "the port must be at most 65535"))
        .and_then(|port| serve(port, Duration::from_secs(seconds)));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bare_pool: {error}");
            ExitCode::FAILURE
        }
    }
}
