//! Zombies: clients that request a stream, stay connected, and never read.
//!
//! Writes to them succeed, because the buffers of both kernels hold megabytes. A [`Zombie`] is a socket that is never
//! read, and is cheap enough to open hundreds. It holds a thread of the server until it is dropped.
//!
//! [`Zombie::open`] blocks only while it connects.

use std::time::Duration;

use super::http::{ClientRequest, Connection, HttpError, field, parse_url};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection that has requested a stream and is never read.
#[derive(Debug)]
pub struct Zombie {
    connection: Connection,
}

impl Zombie {
    /// Connects, and requests the stream.
    pub fn open(url: &str) -> Result<Zombie, HttpError> {
        let url = parse_url(url)?;
        let mut connection = Connection::open(&url, CONNECT_TIMEOUT)?;
        let headers = vec![field("Accept", "text/event-stream")];
        connection.send(&url, &ClientRequest { headers, ..ClientRequest::default() })?;
        Ok(Zombie { connection })
    }

    /// The local port, by which the connection is found in the server's records.
    pub fn local_port(&self) -> u16 {
        self.connection.local_port()
    }
}
