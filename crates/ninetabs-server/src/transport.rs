//! What an answer's bytes go out through: a socket in the hand, or tiny_http's writer.

use std::io::{self, Write};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::framing::AnswerEnd;
use super::socket::{Cutter, Patience, Socket, Waited, WritePieces};
use crate::log_limit::limited;

/// A write behind which the socket is hidden and that took longer than this is
/// said to have waited for its client.
const WAITED_AFTER: Duration = Duration::from_millis(50);

pub(crate) enum Transport {
    /// A writer behind which there may be any connection, or none.
    Writer(Box<dyn Write + Send>),
    Socket(Arc<Socket>),
}

impl Transport {
    /// Writes all of it, waiting for the client in sum at most for `timeout`; tells
    /// `took` what the kernel has taken, and answers how long it waited, also where it
    /// waited in vain.
    pub fn write_all(
        &mut self,
        pieces: WritePieces<'_>,
        patience: Patience,
        took: impl Fn(usize),
    ) -> (Duration, io::Result<()>) {
        match self {
            Transport::Socket(socket) => socket.write_all(pieces, patience, took),
            Transport::Writer(writer) => {
                let began = Instant::now();
                let written = write_out(writer, pieces, patience.total, took);
                (Some(began.elapsed()).filter(|time| *time > WAITED_AFTER).unwrap_or_default(), written)
            }
        }
    }

    /// What ends the waits of whoever writes here; of a hidden socket nothing does.
    pub fn cutter(&self) -> Cutter {
        match self {
            Transport::Socket(socket) => Cutter(Arc::downgrade(socket)),
            Transport::Writer(_) => Cutter::default(),
        }
    }

    /// Waits for the client to close; None where it cannot be seen.
    pub fn wait_for_close(&self, timeout: Duration) -> Option<Waited> {
        match self {
            Transport::Socket(socket) => Some(socket.wait_for_close(timeout)),
            Transport::Writer(_) => None,
        }
    }

    /// How a cut is said to a client that reads chunks. A hidden socket cannot be
    /// closed, so that the client is made to close it: no chunk has such a size, and
    /// it stops reading at once.
    pub fn cut_mark(&self, ended: AnswerEnd) -> &'static [u8] {
        match (self, ended) {
            (Transport::Writer(_), AnswerEnd::Cut) => b"cut\r\n",
            _ => b"",
        }
    }

    /// Leaves a client that is slow, without waiting for it. What is due is written
    /// as far as there is room.
    ///
    /// tiny_http flushes what it still holds when its writer is dropped, and so may
    /// wait out one more write timeout: that happens on a thread of its own.
    pub fn leave(self, due: Vec<u8>) {
        match self {
            Transport::Socket(socket) => socket.try_write(&due),
            Transport::Writer(mut writer) => {
                let left = thread::Builder::new().name("puma srv cut".into()).spawn(move || {
                    if !due.is_empty() {
                        let _ = writer.write_all(&due).and_then(|()| writer.flush());
                    }
                });
                if let Err(error) = left {
                    limited!(Warn, "no thread to leave a blocked connection on: {error}");
                }
            }
        }
    }
}

/// Each call waits at most for the socket's own timeout (SO_SNDTIMEO), and comes back
/// short only when that has run out, so the sum is looked at between the calls.
fn write_out(
    writer: &mut (dyn Write + Send),
    pieces: WritePieces<'_>,
    timeout: Duration,
    took: impl Fn(usize),
) -> io::Result<()> {
    let began = Instant::now();
    for mut bytes in pieces {
        while !bytes.is_empty() {
            match writer.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(taken) => {
                    took(taken);
                    bytes = &bytes[taken..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if !bytes.is_empty() && began.elapsed() >= timeout {
                return Err(io::ErrorKind::WouldBlock.into());
            }
        }
    }
    writer.flush()
}
