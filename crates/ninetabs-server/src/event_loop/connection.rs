//! One connection of the loop: it reads, asks its peer for pieces, writes as much as the kernel accepts, and ends.
//!
//! When a connection ends with a last piece, bytes from the client may still be in transit. Closing a socket with
//! unread bytes would reset the connection, and the kernel would discard the last piece. The connection therefore stops
//! writing, reads and discards for a while, and only then closes.

use std::io::{self, Read, Write};
use std::mem;
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio::Registry;
use mio::unix::SourceFd;
use socket2::SockRef;

use super::{FELL_BEHIND, Feed, NextPiece, PANICKED, Peer, READS_NOTHING};
use crate::log_limit::limited;
use crate::response::Detached;
use crate::services;

/// The maximum number of pieces that one connection sends per turn.
const PIECES_A_TURN: usize = 8;
/// How many bytes are read from one connection per turn.
const READ_A_TURN: usize = 64 * 1024;
/// Size of the kernel's send buffer per connection, in bytes. By default the kernel would buffer megabytes
/// for a client that does not read.
const SEND_BUFFER: usize = 64 * 1024;
/// How long, and up to how many bytes, a connection is read and discarded after its last piece.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: u32 = 4 * 1024 * 1024;
/// The number of consecutive panics of a peer after which its connection is cut off.
const PANICS: u32 = 3;

/// What a connection does during its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IoTurn {
    /// Reads before it writes, because there may be something to read.
    ReadAndWrite,
    Write,
}

/// The result of a connection's turn.
pub(super) enum Turn {
    Over,
    /// There may be more to do. The other connections get their turns first.
    Again,
    Left,
    Cut(&'static str),
}

/// How close a connection is to its end.
enum PeerStage {
    Open,
    /// The server is stopping. The goodbye follows the piece that is being sent.
    Leaving,
    /// Nothing follows the piece that is being sent.
    Last,
    /// Everything has been sent. Bytes that the client still sends are counted and discarded.
    Lingering {
        bytes: u32,
    },
}

pub(super) struct PeerConnection<F> {
    detached: Detached,
    peer: Box<dyn Peer<F>>,
    /// The piece that is being sent, and how many of its bytes the kernel has accepted.
    out: Option<(Rc<[u8]>, usize)>,
    stage: PeerStage,
    /// The last time that the client read something or that everything had been sent, or the time at which the
    /// connection began to linger.
    moved: Instant,
    /// How many times its peer has panicked in a row.
    panics: u32,
    /// The connection has been cut off. Only its last piece may still be sent.
    is_cut: bool,
}

impl<F: Feed> PeerConnection<F> {
    pub fn new(detached: Detached, peer: Box<dyn Peer<F>>) -> Self {
        if let Err(error) = SockRef::from(detached.stream()).set_send_buffer_size(SEND_BUFFER) {
            log::debug!("cannot set the send buffer of {}: {error}", F::PEER);
        }
        let (stage, moved) = (PeerStage::Open, Instant::now());
        PeerConnection { detached, peer, out: None, stage, moved, panics: 0, is_cut: false }
    }

    pub fn fd(&self) -> i32 {
        self.detached.stream().as_raw_fd()
    }

    /// Gives the peer the bytes that were read before the connection left the pool.
    pub fn receive_unread(&mut self, feed: &mut F) -> Turn {
        let unread = mem::take(&mut self.detached.unread);
        if unread.is_empty() { Turn::Over } else { self.receive(feed, &unread) }
    }

    /// Makes the goodbye the next piece.
    pub fn leave(&mut self) {
        if matches!(self.stage, PeerStage::Open) {
            self.stage = PeerStage::Leaving;
        }
    }

    /// Cuts off the connection. Returns whether there is a last piece to send first.
    pub fn cut(&mut self, why: &'static str) -> bool {
        let is_between_pieces = self.out.as_ref().is_none_or(|(_, taken)| *taken == 0);
        if !is_between_pieces || !matches!(self.stage, PeerStage::Open | PeerStage::Leaving) {
            return false;
        }
        let peer = &mut self.peer;
        let words = services::piece(format_args!("{}", F::PEER), || peer.cut(why));
        self.out = words.filter(|words| !words.is_empty()).map(|words| (words, 0));
        self.stage = PeerStage::Last;
        self.is_cut = true;
        self.out.is_some()
    }

    /// Reads if `doing` includes reading, and writes as much as the kernel accepts.
    pub fn turn(&mut self, feed: &mut F, doing: IoTurn, now: Instant) -> Turn {
        let read = match doing {
            IoTurn::ReadAndWrite => self.read(feed),
            IoTurn::Write => Turn::Over,
        };
        match read {
            Turn::Left | Turn::Cut(_) => read,
            Turn::Over | Turn::Again => match self.speak(feed, now) {
                Turn::Over => read,
                turn => turn,
            },
        }
    }

    /// The check that the loop makes on every connection: it sends whatever is due, and checks whether the client has
    /// read nothing for too long.
    pub fn ask(&mut self, feed: &mut F, now: Instant, stopped_after: Duration) -> Turn {
        match self.speak(feed, now) {
            Turn::Over => {}
            turn => return turn,
        }
        let unmoved = now.saturating_duration_since(self.moved);
        if matches!(self.stage, PeerStage::Lingering { .. }) {
            return if unmoved < LINGER { Turn::Over } else { Turn::Left };
        }
        if self.out.is_none() {
            return Turn::Over;
        }
        let peer = &self.peer;
        let has_fallen_behind = matches!(self.stage, PeerStage::Open)
            && services::piece(format_args!("{}", F::PEER), || peer.has_fallen_behind(feed)).unwrap_or(false);
        if has_fallen_behind {
            return Turn::Cut(FELL_BEHIND);
        }
        if unmoved <= stopped_after {
            return Turn::Over;
        }
        // A connection that has been cut off is not counted and logged again.
        if self.is_cut { Turn::Left } else { Turn::Cut(READS_NOTHING) }
    }

    fn read(&mut self, feed: &mut F) -> Turn {
        let mut bytes = [0; 4 * 1024];
        let mut taken = 0;
        while taken < READ_A_TURN {
            match self.detached.stream().read(&mut bytes) {
                // A half-closed client looks the same as a closed one. An EventSource never half-closes.
                Ok(0) => return Turn::Left,
                Ok(more) => {
                    taken += more;
                    match self.receive(feed, &bytes[..more]) {
                        Turn::Over => {}
                        turn => return turn,
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Turn::Over,
                Err(_) => return Turn::Left,
            }
        }
        Turn::Again
    }

    fn receive(&mut self, feed: &mut F, bytes: &[u8]) -> Turn {
        match &mut self.stage {
            PeerStage::Open | PeerStage::Leaving => {
                let peer = &mut self.peer;
                // If the peer panics, these bytes are lost, and it may be unable to interpret later ones.
                match services::piece(format_args!("{}", F::PEER), || peer.receive(feed, bytes)) {
                    Some(()) => Turn::Over,
                    None => Turn::Cut(PANICKED),
                }
            }
            PeerStage::Last => Turn::Over,
            PeerStage::Lingering { bytes: all } => {
                *all = all.saturating_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
                if *all > LINGER_BYTES { Turn::Left } else { Turn::Over }
            }
        }
    }

    /// Sends pieces until the kernel accepts no more, the peer has none, or the turn is used up.
    fn speak(&mut self, feed: &mut F, now: Instant) -> Turn {
        if matches!(self.stage, PeerStage::Lingering { .. }) {
            return Turn::Over;
        }
        for _ in 0..PIECES_A_TURN {
            match self.flush() {
                Ok(true) => self.moved = now,
                Ok(false) => return Turn::Over,
                Err(_) => return Turn::Left,
            }
            match self.stage {
                PeerStage::Open => {}
                PeerStage::Leaving => {
                    let peer = &mut self.peer;
                    let goodbye = services::piece(format_args!("{}", F::PEER), || peer.goodbye(feed));
                    self.out = goodbye.map(|piece| (piece, 0));
                    self.stage = PeerStage::Last;
                    continue;
                }
                PeerStage::Last => {
                    if self.detached.stream().shutdown(Shutdown::Write).is_err() {
                        return Turn::Left;
                    }
                    self.stage = PeerStage::Lingering { bytes: 0 };
                    return Turn::Over;
                }
                PeerStage::Lingering { .. } => return Turn::Over,
            }
            match self.next(feed, now) {
                NextPiece::Wait => return Turn::Over,
                NextPiece::Send(piece) => self.out = Some((piece, 0)),
                NextPiece::Last(piece) => {
                    self.out = Some((piece, 0));
                    self.stage = PeerStage::Last;
                }
                NextPiece::Cut(why) => return Turn::Cut(why),
            }
        }
        Turn::Again
    }

    /// Asks the peer for its next piece. If the peer panics, there is none this time.
    fn next(&mut self, feed: &mut F, now: Instant) -> NextPiece {
        let peer = &mut self.peer;
        match services::piece(format_args!("{}", F::PEER), || peer.next(feed, now)) {
            Some(NextPiece::Wait) => NextPiece::Wait,
            Some(next) => {
                self.panics = 0;
                next
            }
            None => {
                self.panics += 1;
                if self.panics < PANICS { NextPiece::Wait } else { NextPiece::Cut(PANICKED) }
            }
        }
    }

    /// Sends the rest of the current piece. Returns whether all of it has been sent.
    fn flush(&mut self) -> io::Result<bool> {
        while let Some((piece, taken)) = &mut self.out {
            if *taken == piece.len() {
                self.out = None;
                break;
            }
            match self.detached.stream().write(&piece[*taken..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(more) => {
                    *taken += more;
                    self.moved = Instant::now();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    pub fn close(self, registry: &Registry) {
        let stream = self.detached.stream();
        // A failure is harmless: the kernel removes a closed socket anyway.
        let _ = registry.deregister(&mut SourceFd(&stream.as_raw_fd()));
        let _ = stream.shutdown(Shutdown::Write);
    }
}

/// Logs that a connection was cut off. `peer` is the name of its peer.
pub(super) fn log_cut(peer: &str, why: &str) {
    limited!(Info, "{peer} was cut off: {why}");
}
