//! Zombies: clients that ask for a stream, stay connected, and never read.
//!
//! To the loop that writes to them they look like an audience: its writes go into the
//! kernels' buffers, megabytes of them, without an error. A [`Zombie`] is a socket
//! that is never read, cheap enough for hundreds. It holds the server's thread until it
//! is dropped.
//!
//! [`Zombie::open`] blocks for the connecting alone.

use std::time::Duration;

use super::http::{ClientRequest, Connection, HttpError, parse_url};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection on which a stream was asked for, and from which nothing is read.
#[derive(Debug)]
pub struct Zombie {
    connection: Connection,
}

impl Zombie {
    /// Connects, asks for the stream, and reads nothing from then on.
    pub fn open(url: &str) -> Result<Zombie, HttpError> {
        let url = parse_url(url)?;
        let mut connection = Connection::open(&url, CONNECT_TIMEOUT)?;
        let headers = vec![("Accept", b"text/event-stream".to_vec())];
        connection.send(&url, &ClientRequest { headers, ..ClientRequest::default() })?;
        Ok(Zombie { connection })
    }

    /// The port on this side: how the server's records name the connection.
    pub fn local_port(&self) -> u16 {
        self.connection.local_port()
    }
}
