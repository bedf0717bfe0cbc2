//! One simulated server: its pool, the state of each thread, and the connections that its kernel holds.

use ninetabs_server::timeline::Subject;

use super::event::SimulatedEvent;
use super::pool::{Flaw, Kept, QueueLaws, SimulatedPool};
use super::scenario::Scenario;

/// The purpose of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Errand {
    /// The stream of a tab, on this connection of the tab. The request may not have arrived yet.
    Stream { tab: u32, attempt: u32, has_arrived: bool },
    /// A page that was requested at this time.
    Page { asked_us: u64 },
}

/// A request on a thread.
#[derive(Debug, Clone, Copy)]
pub struct OnThread {
    /// The serial number of the request. Events for an earlier request on this thread are ignored.
    pub serial: u32,
    pub subject: Subject,
    pub doing: Doing,
}

#[derive(Debug, Clone, Copy)]
pub enum Doing {
    Streams(OpenStream),
    /// Opens a stream and passes it to the event loop.
    Detaches {
        tab: u32,
        attempt: u32,
    },
    Page {
        fails: bool,
    },
    /// Passes the connection to the reactor, which queues it again at this time.
    SetsAside {
        tab: u32,
        attempt: u32,
        until_us: u64,
    },
    /// Detects that the client has closed.
    Nothing,
}

/// A stream on a thread.
#[derive(Debug, Clone, Copy)]
pub struct OpenStream {
    pub tab: u32,
    pub attempt: u32,
    /// When the stream was registered. The reaper reads the registry.
    pub opened_us: u64,
    /// The fraction of the maximum age that applies to this stream.
    pub share: f64,
    /// The last row that was sent, or the row after which the stream begins.
    pub sent: u32,
    /// Writes since the client closed.
    pub writes_to_none: u8,
    pub reaped: bool,
    /// The stream that was opened just before this one, within one reaper interval.
    pub twin: Option<Twin>,
}

/// A reference to another stream, by its thread and its serial number.
#[derive(Debug, Clone, Copy)]
pub struct Twin {
    pub thread: usize,
    pub serial: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    Runs,
    /// Stopped by a signal. Its kernel still accepts connections.
    Stopped {
        since_us: u64,
        newest_row: u32,
    },
    Killed,
}

#[derive(Debug)]
pub struct SimulatedServer {
    pub health: Health,
    /// The number of starts. Events from before the last start are ignored.
    pub life: u32,
    pub pool: SimulatedPool<Errand>,
    /// The requests by thread number, from 1.
    threads: Vec<Option<OnThread>>,
    /// The last reaped stream of each thread, and the round in which it was reaped.
    reaped: Vec<(u32, u64)>,
    pub round: u64,
    /// The last stream that was opened, and when.
    pub newest: Option<(Twin, u64)>,
    requests: u64,
    started: u32,
    /// The streams on the event loop.
    pub listeners: usize,
    /// Connections that wait for their request.
    pub reactor: Vec<(u32, u32)>,
    /// Connections that the kernel has accepted while the server is stopped.
    pub kernel: Vec<Errand>,
    /// Events that were due while the server is stopped.
    pub deferred: Vec<SimulatedEvent>,
}

impl SimulatedServer {
    pub fn new(scenario: &Scenario, now_us: u64, watched: Kept) -> SimulatedServer {
        SimulatedServer {
            health: Health::Runs,
            life: 0,
            pool: SimulatedPool::new(
                scenario.threads,
                now_us,
                watched,
                scenario.flaw.filter(|flaw| *flaw != Flaw::NoJitter),
            ),
            threads: Vec::new(),
            reaped: Vec::new(),
            round: 0,
            newest: None,
            requests: 0,
            started: 0,
            listeners: 0,
            reactor: Vec::new(),
            kernel: Vec::new(),
            deferred: Vec::new(),
        }
    }

    /// Ends the server, and returns the results of the laws of its queue. The record ends as well.
    pub fn kill(&mut self, scenario: &Scenario, now_us: u64) -> QueueLaws {
        let laws = self.pool.close(now_us);
        let life = self.life + 1;
        *self = SimulatedServer::new(scenario, now_us, Kept::None);
        (self.life, self.health) = (life, Health::Killed);
        laws
    }

    /// Assigns a number to a request. Each request has a connection of its own.
    pub fn subject(&mut self) -> Subject {
        self.requests += 1;
        Subject { connection: self.requests, port: 0, request: self.requests }
    }

    /// Starts a request on a thread. Returns its serial number.
    pub fn starts(&mut self, thread: usize, subject: Subject, doing: Doing) -> u32 {
        self.started = self.started.wrapping_add(1);
        let needed = thread.max(self.threads.len());
        self.threads.resize(needed, None);
        self.reaped.resize(needed, (0, 0));
        self.threads[thread - 1] = Some(OnThread { serial: self.started, subject, doing });
        self.started
    }

    /// The request on a thread, if it still has this serial number.
    pub fn running(&mut self, thread: usize, serial: u32) -> Option<&mut OnThread> {
        self.threads.get_mut(thread - 1)?.as_mut().filter(|running| running.serial == serial)
    }

    /// Ends the request of a thread.
    pub fn ends(&mut self, thread: usize, serial: u32) -> Option<OnThread> {
        self.running(thread, serial)?;
        self.threads[thread - 1].take()
    }

    /// The requests on threads, with their threads.
    pub fn all_running(&self) -> impl Iterator<Item = (usize, &OnThread)> {
        let numbered = self.threads.iter().enumerate();
        numbered.filter_map(|(index, running)| Some((index + 1, running.as_ref()?)))
    }

    /// The thread of this stream.
    pub fn thread_of(&self, tab: u32, attempt: u32) -> Option<(usize, u32)> {
        self.all_running().find_map(|(thread, running)| match running.doing {
            Doing::Streams(stream) if (stream.tab, stream.attempt) == (tab, attempt) => {
                Some((thread, running.serial))
            }
            _ => None,
        })
    }

    /// Records that the stream of this thread was reaped in this round.
    pub fn note_reaped(&mut self, thread: usize, serial: u32) {
        self.reaped[thread - 1] = (serial, self.round);
    }

    /// Whether this stream was reaped in this round.
    pub fn is_reaped_now(&self, twin: Twin) -> bool {
        self.reaped[twin.thread - 1] == (twin.serial, self.round)
    }

    /// The jobs in the queue and in the kernel, and the tabs on threads with their connections.
    pub fn jobs(&self) -> impl Iterator<Item = Errand> {
        let running = self.all_running().filter_map(|(_, running)| match running.doing {
            Doing::Streams(OpenStream { tab, attempt, .. })
            | Doing::Detaches { tab, attempt }
            | Doing::SetsAside { tab, attempt, .. } => {
                Some(Errand::Stream { tab, attempt, has_arrived: true })
            }
            Doing::Page { .. } => Some(Errand::Page { asked_us: 0 }),
            Doing::Nothing => None,
        });
        let in_reactor = self.reactor.iter().map(|(tab, attempt)| Errand::Stream {
            tab: *tab,
            attempt: *attempt,
            has_arrived: true,
        });
        self.pool.queued().chain(self.kernel.iter().copied()).chain(running).chain(in_reactor)
    }
}
