//! The connections and requests that a scripted server has seen.

use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Request;

/// A record of what has happened so far. Connections count once they are accepted.
#[derive(Default)]
pub struct Record {
    state: Mutex<State>,
    stopped: Condvar,
}

#[derive(Default)]
struct State {
    is_stopped: bool,
    open: Vec<Arc<TcpStream>>,
    accepted: usize,
    most_open: usize,
    requests: Vec<Request>,
    /// Streams that were requested and have not received an event.
    without_event: usize,
    most_without_event: usize,
}

impl Record {
    /// The maximum number of connections that clients held at the same time.
    pub fn most_open(&self) -> usize {
        self.state.lock().unwrap().most_open
    }

    /// The number of connections that clients hold now.
    pub fn open(&self) -> usize {
        self.state.lock().unwrap().count_open()
    }

    pub fn accepted(&self) -> usize {
        self.state.lock().unwrap().accepted
    }

    /// The maximum number of streams that were waiting for their first event at the same time.
    pub fn most_without_event(&self) -> usize {
        self.state.lock().unwrap().most_without_event
    }

    /// All requests, in the order in which they were read.
    pub fn requests(&self) -> Vec<Request> {
        self.state.lock().unwrap().requests.clone()
    }

    /// How many requests had this path, ignoring the query.
    pub fn asked(&self, path: &str) -> usize {
        self.state.lock().unwrap().requests.iter().filter(|request| request.path == path).count()
    }

    /// Sleeps until the time is over or the server is stopped. Returns false if the server was stopped.
    pub fn sleep(&self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        let mut state = self.state.lock().unwrap();
        while !state.is_stopped {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            state = self.stopped.wait_timeout(state, left).unwrap().0;
        }
        false
    }

    pub(super) fn stop(&self) {
        let mut state = self.state.lock().unwrap();
        state.is_stopped = true;
        for socket in state.open.drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
        self.stopped.notify_all();
    }

    /// Returns false if the server has been stopped.
    pub(super) fn opened(&self, socket: &Arc<TcpStream>) -> bool {
        let mut state = self.state.lock().unwrap();
        if !state.is_stopped {
            state.open.push(Arc::clone(socket));
            state.accepted += 1;
            state.most_open = state.most_open.max(state.count_open());
        }
        !state.is_stopped
    }

    pub(super) fn closed(&self, socket: &Arc<TcpStream>) {
        self.state.lock().unwrap().open.retain(|open| !Arc::ptr_eq(open, socket));
    }

    pub(super) fn read(&self, request: &Request) {
        self.state.lock().unwrap().requests.push(request.clone());
    }

    pub(super) fn stream_waits(&self) {
        let mut state = self.state.lock().unwrap();
        state.without_event += 1;
        state.most_without_event = state.most_without_event.max(state.without_event);
    }

    pub(super) fn stream_waits_no_more(&self) {
        self.state.lock().unwrap().without_event -= 1;
    }
}

impl State {
    fn count_open(&self) -> usize {
        self.open.iter().filter(|socket| !has_left(socket)).count()
    }
}

/// Whether the client has closed its end, even if some data is still unread.
pub(super) fn has_left(socket: &TcpStream) -> bool {
    is_ready(socket, PollFlags::RDHUP)
}

/// Whether a read would not block.
pub(super) fn is_readable(socket: &TcpStream) -> bool {
    is_ready(socket, PollFlags::IN)
}

fn is_ready(socket: &TcpStream, flags: PollFlags) -> bool {
    let mut polled = [PollFd::new(socket, flags)];
    poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
}
