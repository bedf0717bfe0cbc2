//! The latency of a page, for two walls side by side: one request for a small page at a time, over a real socket to
//! the app's own address.
//!
//! The page that shows the latency orders a request every second, and reads the duration from the record. While a
//! request waits in the queue, no other one is sent. The wall does not count it as waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::laboratory::{CONNECT_WITHIN, LabError, Laboratory, PAGE_WITHIN, read_whole};
use crate::lab::http::{ClientRequest, Connection, Options, field, parse_url};
use ninetabs_server::threads;

/// The target of the request. The script of the wall recognizes its name (`PROBE`).
const TARGET: &str = "/up?tab=page-latency";

/// The client that measures.
pub(super) struct Latency {
    url: String,
    waits: Arc<AtomicBool>,
}

/// The right to have a request under way; returned when dropped.
struct LatencyTurn(Arc<AtomicBool>);

impl Drop for LatencyTurn {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Latency {
    /// Creates a client for the app of this laboratory.
    pub fn new(laboratory: &Laboratory) -> Latency {
        Latency { url: laboratory.url(TARGET), waits: Arc::default() }
    }

    /// Sends a request, unless one is under way: returns whether one was. Does not wait for its answer.
    pub fn measure(&self) -> Result<bool, LabError> {
        if self.waits.swap(true, Ordering::AcqRel) {
            return Ok(true);
        }
        let turn = LatencyTurn(Arc::clone(&self.waits));
        let url = parse_url(&self.url)?;
        let mut connection = Connection::open_with(&url, &Options::within(CONNECT_WITHIN), |_| true)?;
        connection.set_deadline(Some(Instant::now() + PAGE_WITHIN));
        let close = vec![field("Connection", "close")];
        connection.send(&url, &ClientRequest { headers: close, ..ClientRequest::default() })?;
        threads::spawn("lab latency", move || {
            let _turn = turn;
            // The outcome is in the record.
            let _ = read_whole(connection);
        })?;
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_one_request_is_under_way() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let latency = Latency::new(&Laboratory::new(listener.local_addr().unwrap()));
        assert!(!latency.measure().unwrap());
        assert!(latency.measure().unwrap());
        let (mut client, _) = listener.accept().unwrap();
        let mut head = [0; 1024];
        let read = client.read(&mut head).unwrap();
        assert!(String::from_utf8_lossy(&head[..read]).starts_with("GET /up?tab=page-latency HTTP/1.1\r\n"));
        write!(client, "HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\nup\n").unwrap();
        drop(client);
        while latency.waits.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(!latency.measure().unwrap());
    }
}
