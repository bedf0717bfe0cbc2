//! One connection of the loop: it reads, asks its peer, writes what there is room for, and ends.
//!
//! An end that was said goes out before the connection closes, and may be followed by bytes of the
//! client that were already under way. To close over unread bytes would reset the connection, and
//! the kernel would discard what was written. So the connection stops writing, reads and discards
//! for a while, and closes then.

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

/// How many pieces one connection may send before others come.
const PIECES_A_TURN: usize = 8;
/// How many bytes are read from one connection before others come.
const READ_A_TURN: usize = 64 * 1024;
/// Bytes that the kernel keeps for a connection. By itself it would keep megabytes for
/// one that does not read.
const SEND_BUFFER: usize = 64 * 1024;
/// How long, and up to how many bytes, a connection that has said its last is read and discarded.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: u32 = 4 * 1024 * 1024;
/// How often in a row a peer may panic before its connection is cut.
const PANICS: u32 = 3;

/// What a connection does in its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IoTurn {
    /// There may be something to read.
    ReadAndWrite,
    Write,
}

/// What became of a connection's turn.
pub(super) enum Turn {
    Over,
    /// There may be more to do; others come first.
    Again,
    Left,
    Cut(&'static str),
}

/// How far it is on its way to its end.
enum PeerStage {
    Open,
    /// The server stops: behind the piece that is on its way out comes the goodbye.
    Leaving,
    /// Nothing comes behind the piece that is on its way out.
    Last,
    /// All has gone out; what the client still sends is discarded. Counts those bytes.
    Lingering {
        bytes: u32,
    },
}

pub(super) struct PeerConnection<F> {
    detached: Detached,
    peer: Box<dyn Peer<F>>,
    /// What has not gone out yet, and how much of it has.
    out: Option<(Rc<[u8]>, usize)>,
    stage: PeerStage,
    /// When it last took something, or had nothing to take; when it began to linger.
    moved: Instant,
    /// How often its peer has panicked since it last had a piece.
    panics: u32,
    /// Its last words are all that is to go out.
    is_cut: bool,
}

impl<F: Feed> PeerConnection<F> {
    pub fn new(detached: Detached, peer: Box<dyn Peer<F>>) -> Self {
        if let Err(error) = SockRef::from(detached.stream()).set_send_buffer_size(SEND_BUFFER) {
            log::debug!("{}: the send buffer keeps its size: {error}", F::PEER);
        }
        let (stage, moved) = (PeerStage::Open, Instant::now());
        PeerConnection { detached, peer, out: None, stage, moved, panics: 0, is_cut: false }
    }

    pub fn fd(&self) -> i32 {
        self.detached.stream().as_raw_fd()
    }

    /// What was read of it before it left the pool.
    pub fn receive_unread(&mut self, feed: &mut F) -> Turn {
        let unread = mem::take(&mut self.detached.unread);
        if unread.is_empty() { Turn::Over } else { self.receive(feed, &unread) }
    }

    /// From the next piece on it is leaving.
    pub fn leave(&mut self) {
        if matches!(self.stage, PeerStage::Open) {
            self.stage = PeerStage::Leaving;
        }
    }

    /// It is cut. True: it has something to say before it ends.
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

    /// Reads, if that is asked for, and writes as much as the kernel takes.
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

    /// What the loop asks of every connection, news or not: whether it has something to say, and
    /// whether it has taken nothing for too long.
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
        // It is counted and logged once.
        if self.is_cut { Turn::Left } else { Turn::Cut(READS_NOTHING) }
    }

    fn read(&mut self, feed: &mut F) -> Turn {
        let mut bytes = [0; 4 * 1024];
        let mut taken = 0;
        while taken < READ_A_TURN {
            match self.detached.stream().read(&mut bytes) {
                // A client that only stopped sending looks the same; an EventSource never does.
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
                // A panic costs these bytes, and what follows them may make no sense to the peer.
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

    /// Sends what there is, as far as there is room.
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

    /// Its peer's next piece; a peer that panics has none for now.
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

    /// Whether all has gone out.
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
        // The kernel forgets it anyway once the socket is closed.
        let _ = registry.deregister(&mut SourceFd(&stream.as_raw_fd()));
        let _ = stream.shutdown(Shutdown::Write);
    }
}

/// The log line of a connection that was cut, of a peer with this name.
pub(super) fn log_cut(peer: &str, why: &str) {
    limited!(Info, "{peer} was cut: {why}");
}
