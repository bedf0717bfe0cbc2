//! `ninetabs probe` against scripted servers: one test per kind of finding, and one per case that is easily mistaken
//! for another.

mod bodies;
mod caches;
mod connections;
mod ends;
mod harm;
mod limits;
mod queues;
mod refusals;
mod signals;
mod statistics;
mod versions;
mod words;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use ninetabs::lab::probe::budget::Budget;
use ninetabs::lab::probe::findings::{Findings, LimitKind, NoteKind, infer};
use ninetabs::lab::probe::measured::{Climb, Measured, Stopped, TabOutcome, WaitPlace};
use ninetabs::lab::probe::plan::ProbePlan;
use ninetabs::lab::probe::progress::ProbeProgress;
use ninetabs::lab::probe::run;
use ninetabs_server::threads::StopSignal;
use url::Url;

use crate::common::batch::Batch;
use crate::common::poll;
use crate::common::scripted::{Client, GAP, Request, Scripted, Slots};

/// A run takes up to half a minute, or one to two minutes for the two that are listed. It sleeps most of the time.
/// It measures another program while the machine also runs other tests, so a body that fails is tried again.
pub static BATCH: Batch = Batch::new(
    12,
    3,
    &["slots_that_never_return", "a_slot_that_returns_late_does_not_blame_compression"],
    &[
        bodies::BODIES,
        caches::BODIES,
        connections::BODIES,
        ends::BODIES,
        harm::BODIES,
        limits::BODIES,
        queues::BODIES,
        refusals::BODIES,
        signals::BODIES,
        statistics::BODIES,
        versions::BODIES,
        words::BODIES,
    ],
);

/// How long waiting tabs and open streams are watched in these tests.
const WATCH: Duration = Duration::from_secs(3);

/// A plan for this server, with its stream, these pages, and at most eight tabs.
fn plan(server: &Scripted, pages: &[&str]) -> ProbePlan {
    let url = |path: &str| Url::parse(&server.url(path)).unwrap();
    let pages = pages.iter().map(|path| url(path)).collect();
    ProbePlan { tabs: 8, patience: Some(WATCH), ..ProbePlan::new(url("/stream"), pages, server.address) }
}

/// The result of a run.
struct Found {
    measured: Measured,
    findings: Findings,
    /// The maximum number of connections that had been open at the same time when the count was known.
    open_at_the_count: Option<usize>,
}

/// Probes the server with one page.
fn probe(server: &Scripted) -> Found {
    probe_with(server, &plan(server, &["/page"]))
}

/// Probes the server with this plan. Repeats the run if the answers of a page varied, which can happen on a busy
/// machine.
fn probe_with(server: &Scripted, plan: &ProbePlan) -> Found {
    let mut found = probe_once(server, plan);
    for _ in 0..3 {
        if matches!(found.measured.stopped, Some(Stopped::UnstablePage { .. })) {
            found = probe_once(server, plan);
        }
    }
    found
}

fn probe_once(server: &Scripted, plan: &ProbePlan) -> Found {
    let mut open_at_the_count = None;
    let mut tell = |progress: ProbeProgress<'_>| {
        if matches!(progress, ProbeProgress::Count(_)) {
            open_at_the_count = Some(server.record.most_open());
        }
    };
    let measured = run(plan, &StopSignal::never(), &mut tell);
    let most = Budget::of(plan).requests();
    assert!(measured.requests <= most, "{} requests were sent, {most} announced", measured.requests);
    let findings = infer(&measured);
    Found { measured, findings, open_at_the_count }
}

impl Found {
    fn first(&self) -> &Climb {
        self.measured.climbs.first().unwrap_or_else(|| panic!("no climb: {self}"))
    }

    /// Checks the first climb: how many streams ran at the same time, and beside how many every page was answered.
    #[track_caller]
    fn counts(&self, streams: usize, pages_until: usize) -> &Found {
        let first = self.first();
        assert_eq!((first.streams, first.pages_until), (streams, pages_until), "{self}");
        self
    }

    #[track_caller]
    fn limit(&self, kind: LimitKind) -> &Found {
        let found = self.findings.limit.as_ref().map(|limit| limit.kind);
        assert_eq!(found, Some(kind), "{self}");
        self
    }

    /// Checks the limit's second readings.
    #[track_caller]
    fn or(&self, kinds: &[LimitKind]) -> &Found {
        assert_eq!(self.findings.or, kinds, "{self}");
        self
    }

    #[track_caller]
    fn nothing_measured(&self, note: NoteKind) -> &Found {
        assert!(self.findings.limit.is_none(), "{self}");
        self.note(note)
    }

    #[track_caller]
    fn note(&self, kind: NoteKind) -> &Found {
        assert!(self.has(kind), "no {kind:?}: {self}");
        self
    }

    #[track_caller]
    fn no_note(&self, kind: NoteKind) -> &Found {
        assert!(!self.has(kind), "{kind:?}: {self}");
        self
    }

    fn has(&self, kind: NoteKind) -> bool {
        self.findings.notes.iter().any(|note| note.kind == kind)
    }

    /// Checks the outcome of the first tab that got nothing, and where its request waited.
    #[track_caller]
    fn next_tab(&self, outcome: TabOutcome, place: Option<WaitPlace>) -> &Found {
        let next = self.measured.waiting.first().unwrap_or_else(|| panic!("every tab streamed: {self}"));
        assert_eq!((next.outcome, next.place), (outcome, place), "{self}");
        self
    }

    /// Climbs without pages until the server has this many slots again.
    #[track_caller]
    fn has_slots_again(&self, server: &Scripted, slots: usize) -> &Found {
        let mut last = 0;
        let came_back = poll(Duration::from_secs(30), || {
            // The server notices the end of the previous climb only at its next writes.
            std::thread::sleep(GAP * 4);
            last = streams_of(server.address);
            (last == slots).then_some(())
        });
        assert!(came_back.is_some(), "{last} slots instead of {slots}: {self}");
        self
    }
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut measured = self.measured.clone();
        measured.lanes.clear();
        write!(f, "{:#?}\nmeasured: {measured:#?}", self.findings)
    }
}

/// Opens streams one after another until one gets no event within two seconds. Returns how many got one.
fn streams_of(server: SocketAddr) -> usize {
    let mut open = Vec::new();
    while open.len() < 20 {
        let mut stream = TcpStream::connect(server).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let (mut read, mut buffer) = (Vec::new(), [0; 1024]);
        let _ = stream.write_all(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n");
        while !read.windows(5).any(|window| window == b"data:") {
            match stream.read(&mut buffer) {
                Ok(count) if count > 0 => read.extend_from_slice(&buffer[..count]),
                _ => return open.len(),
            }
        }
        open.push(stream);
    }
    open.len()
}

#[test]
fn a_scripted_server_counts_what_clients_hold() {
    let threads = Slots::new(2);
    let server = Scripted::start(move |client| {
        client.each(|client, request| {
            let _thread = threads.take();
            app(client, request)
        });
    });
    assert_eq!(streams_of(server.address), 2);
    assert_eq!((server.record.most_open(), server.record.asked("/stream")), (3, 3));
    assert_eq!(server.record.most_without_event(), 1);
    assert_eq!(server.record.open(), 0);
}

#[test]
fn a_scripted_accept_queue_becomes_full() {
    let connections = Slots::new(2);
    let admit = move || connections.take();
    let server = Scripted::queueing(0, admit, |client, _connection| client.each(app));
    // Two connections are accepted and one is queued.
    let open: Vec<_> = (0..3).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    let patience = Duration::from_millis(500);
    assert!(TcpStream::connect_timeout(&server.address, patience).is_err());
    drop(open);
}

/// An application with a stream at `/stream`; anything else is a page. Returns whether the answer was
/// complete.
fn app(client: &mut Client, request: &Request) -> bool {
    if !request.is_stream() {
        return client.page();
    }
    client.ticks();
    false
}
