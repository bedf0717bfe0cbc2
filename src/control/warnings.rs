//! What is wrong with the server now, in words, each with its remedy. The pages only display it.
//!
//! [`Watcher`] follows the timeline for the state of the threads and for the streams of the last second;
//! everything else is the numbers of one moment.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::app::database;
use crate::lab::acts::capitalized;
use crate::lab::story::name_of;
use ninetabs_server::timeline::{Held, Moment, Snapshot, Timeline, What};

/// Maximum number of warnings at one time.
const MOST: usize = 3;
/// How long all threads must be held before there is a warning.
const FULL_FOR_US: u64 = 5_000_000;
/// A stream of this age is old.
const OLD_US: u64 = 60_000_000;
/// The time over which openings are counted.
const SECOND_US: u64 = 1_000_000;
/// Maximum number of moments that are examined at one time.
const MOST_MOMENTS: usize = 2_048;
/// Fewer openings per second than this are not reported as a loop.
const FEWEST_OPENINGS: usize = 4;

/// One warning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Warning {
    pub text: String,
    pub remedy: String,
    /// A path of the app with more about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<&'static str>,
}

/// What is known about the server at one moment.
pub(super) struct WarningInput<'a> {
    pub now_us: u64,
    pub snapshot: &'a Snapshot,
    pub max_threads: usize,
    pub max_stream_age: Option<Duration>,
    pub database: &'a database::Stats,
    /// Connections that wait in the kernel, if they have waited for a second.
    pub listen_queue: usize,
    /// The result of [`Watcher::openings`].
    pub openings: (usize, usize),
}

/// Returns the warnings, most serious first.
pub(super) fn warnings(seen: &WarningInput<'_>) -> Vec<Warning> {
    let all = [
        listen_queue(seen),
        full_pool(seen),
        empty_database_pool(seen),
        reconnect_loop(seen),
        client_gone(seen),
        old_streams(seen),
    ];
    all.into_iter().flatten().take(MOST).collect()
}

fn warning(text: String, remedy: &str) -> Option<Warning> {
    Some(Warning { text, remedy: remedy.to_owned(), link: None })
}

fn streams<'a>(seen: &'a WarningInput<'_>) -> impl Iterator<Item = &'a Held> {
    seen.snapshot.threads.values().filter_map(|thread| thread.holds.as_deref()).filter(|held| held.is_stream)
}

fn age_us(held: &Held, now_us: u64) -> u64 {
    now_us.saturating_sub(held.started_us.unwrap_or(now_us))
}

fn count(count: usize, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

fn listen_queue(seen: &WarningInput<'_>) -> Option<Warning> {
    (seen.listen_queue > 0).then_some(())?;
    let text = format!("New connections wait in the kernel's listen queue: {}.", seen.listen_queue);
    warning(text, "Raise --max-connections or ulimit -n.")
}

fn full_pool(seen: &WarningInput<'_>) -> Option<Warning> {
    let held = streams(seen).filter(|held| age_us(held, seen.now_us) >= FULL_FOR_US).count();
    let waiting = || seen.snapshot.todo.iter().filter(|held| held.target.is_some());
    let first = waiting().next()?;
    (held > 0 && held >= seen.max_threads).then_some(())?;
    let seconds = seen.now_us.saturating_sub(first.queued_us.unwrap_or(seen.now_us)) / SECOND_US;
    let threads = if held == 1 {
        "The only thread is held by a stream".to_owned()
    } else {
        format!("All {held} threads are held by streams")
    };
    let waits = match waiting().count() {
        1 => format!("1 request waits, for {seconds} s so far"),
        many => format!("{many} requests wait, the first for {seconds} s"),
    };
    Some(Warning {
        text: format!("{threads}; {waits}."),
        remedy: "Set a maximum age, or use a fix that holds no thread.".to_owned(),
        link: Some("/fixes"),
    })
}

fn empty_database_pool(seen: &WarningInput<'_>) -> Option<Warning> {
    let database::Stats { size, busy, waiting, .. } = *seen.database;
    (busy >= size && waiting > 0).then_some(())?;
    let wait = if waiting == 1 { "1 thread waits".to_owned() } else { format!("{waiting} threads wait") };
    let text = format!("All {} are held; {wait} for one.", count(size, "database connection"));
    warning(text, "Use --db-pool auto or --db-lease query.")
}

fn reconnect_loop(seen: &WarningInput<'_>) -> Option<Warning> {
    let (opened, tabs) = seen.openings;
    (opened >= FEWEST_OPENINGS && opened > tabs).then_some(())?;
    let text = format!("Clients reconnect in a loop: {opened} streams opened in the last second.");
    warning(text, "Check --retry and the status that refused clients get.")
}

fn client_gone(seen: &WarningInput<'_>) -> Option<Warning> {
    let gone: Vec<_> = streams(seen).filter(|held| held.closed_us.is_some()).collect();
    let first = gone.first()?;
    // A client with unread bytes resets its connection when it closes, so that the next write fails.
    let has_unread = gone.iter().any(|held| name(held).starts_with("zombie-"));
    let write = if has_unread { "a write" } else { "the second write" };
    let text = match gone.len() {
        1 => format!("{} has closed; its thread is held until {write} fails.", capitalized(&name(first))),
        many => format!("{many} clients have closed; their threads are held until {write} fails."),
    };
    warning(text, "With --notice-close poll a thread is freed within milliseconds.")
}

fn name(held: &Held) -> String {
    held.target.as_deref().map_or_else(|| "a client".to_owned(), name_of)
}

fn old_streams(seen: &WarningInput<'_>) -> Option<Warning> {
    seen.max_stream_age.is_none().then_some(())?;
    let old = streams(seen).filter(|held| age_us(held, seen.now_us) >= OLD_US).count();
    (old > 0).then_some(())?;
    let are = if old == 1 { "is held by a stream" } else { "are held by streams" };
    let text = format!("{old} of {} {are} older than 60 s.", count(seen.max_threads, "thread"));
    warning(text, "Set --max-stream-age 60.")
}

/// Follows the timeline: the state of the threads and the queue, and the streams of the last second.
#[derive(Debug, Default)]
pub(super) struct Watcher {
    snapshot: Snapshot,
    /// Requests that were read and may become streams, by number.
    asked: HashMap<u64, (u64, Arc<str>)>,
    /// The streams that were opened: when, the request, and its target.
    opened: VecDeque<(u64, u64, Arc<str>)>,
}

impl Watcher {
    /// Takes in the new moments.
    pub fn look(&mut self, timeline: &Timeline) {
        let new = timeline.next_after(self.snapshot.seq, MOST_MOMENTS);
        for moment in &new.moments {
            self.notice(moment);
        }
        if new.forgotten > 0 || new.moments.len() == MOST_MOMENTS {
            self.snapshot = timeline.snapshot();
        } else {
            new.moments.iter().for_each(|moment| self.snapshot.take(moment));
        }
        let since = timeline.now_us().saturating_sub(SECOND_US);
        self.asked.retain(|_, (at_us, _)| *at_us >= since);
        self.opened.retain(|(at_us, ..)| *at_us >= since);
    }

    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// How many streams were opened within the last second and have ended again, and by how many different tabs.
    pub fn openings(&self) -> (usize, usize) {
        let holds = self.snapshot.threads.values().filter_map(|thread| thread.holds.as_deref());
        let held: HashSet<_> = holds.map(|held| held.subject.request).collect();
        let over = || self.opened.iter().filter(|(_, request, _)| !held.contains(request));
        let tabs: HashSet<_> = over().map(|(.., target)| target).collect();
        (over().count(), tabs.len())
    }

    fn notice(&mut self, moment: &Moment) {
        let Some(subject) = moment.subject else { return };
        match &moment.what {
            What::Accepted { target, peeked: false, .. } => {
                self.asked.insert(subject.request, (moment.at_us, Arc::clone(target)));
            }
            What::Streaming => {
                if let Some((_, target)) = self.asked.remove(&subject.request) {
                    self.opened.push_back((moment.at_us, subject.request, target));
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use ninetabs_server::timeline::{Subject, Thread};

    use super::*;

    const NOW: u64 = 100_000_000;

    fn held(request: u64, target: &str, started_us: Option<u64>, queued_us: Option<u64>) -> Held {
        Held {
            subject: Subject { connection: request, port: 40_000 + u16::try_from(request).unwrap(), request },
            target: Some(target.into()),
            started_us,
            queued_us,
            is_stream: started_us.is_some(),
            ..Held::default()
        }
    }

    fn stream(request: u64, started_us: u64) -> Held {
        held(request, &format!("/models/live_stream?tab={request}"), Some(started_us), None)
    }

    fn snapshot(streams: Vec<Held>, todo: Vec<Held>) -> Snapshot {
        let thread = |held| Thread { holds: Some(Box::new(held)), ..Thread::default() };
        let mut snapshot = Snapshot::default();
        snapshot.threads = (1..).zip(streams.into_iter().map(thread)).collect();
        snapshot.todo = todo.into_iter().map(Box::new).collect();
        snapshot
    }

    fn seen(snapshot: &Snapshot) -> WarningInput<'_> {
        const DATABASE: database::Stats =
            database::Stats { size: 8, busy: 2, waiting: 0, checkout_timeouts: 0 };
        WarningInput {
            now_us: NOW,
            snapshot,
            max_threads: 2,
            max_stream_age: None,
            database: &DATABASE,
            listen_queue: 0,
            openings: (0, 0),
        }
    }

    fn texts(seen: &WarningInput<'_>) -> Vec<String> {
        warnings(seen).into_iter().map(|warning| warning.text).collect()
    }

    #[test]
    fn a_full_pool_with_a_queue_is_a_warning_after_five_seconds() {
        let todo = |count| (0..count).map(|at| held(9 + at, "/up", None, Some(NOW - 12_000_000))).collect();
        let full = |started, waiting| snapshot(vec![stream(1, started), stream(2, started)], todo(waiting));
        assert_eq!(texts(&seen(&full(NOW - 4_000_000, 2))), [""; 0]);
        assert_eq!(texts(&seen(&full(NOW - 5_000_000, 0))), [""; 0]);
        assert_eq!(
            texts(&seen(&full(NOW - 5_000_000, 2))),
            ["All 2 threads are held by streams; 2 requests wait, the first for 12 s."]
        );
        assert_eq!(
            texts(&seen(&full(NOW - 5_000_000, 1))),
            ["All 2 threads are held by streams; 1 request waits, for 12 s so far."]
        );
        // A spare connection waits for nothing.
        let mut spare = held(9, "", None, Some(NOW));
        spare.target = None;
        let only_spare = snapshot(vec![stream(1, 0), stream(2, 0)], vec![spare]);
        assert_eq!(
            texts(&WarningInput { max_stream_age: Some(Duration::from_secs(1)), ..seen(&only_spare) }),
            [""; 0]
        );
    }

    #[test]
    fn a_stream_of_a_minute_is_old_unless_there_is_a_maximum_age() {
        let old = snapshot(vec![stream(1, NOW - 61_000_000), stream(2, NOW - 1)], Vec::new());
        assert_eq!(texts(&seen(&old)), ["1 of 2 threads is held by a stream older than 60 s."]);
        assert_eq!(
            texts(&WarningInput { max_stream_age: Some(Duration::from_secs(90)), ..seen(&old) }),
            [""; 0]
        );
    }

    #[test]
    fn a_closed_client_is_a_warning_as_long_as_its_thread_is_held() {
        let mut streams = vec![stream(1, NOW - 1), stream(2, NOW - 1)];
        assert_eq!(texts(&seen(&snapshot(streams.clone(), Vec::new()))), [""; 0]);
        streams[0].closed_us = Some(NOW);
        assert_eq!(
            texts(&seen(&snapshot(streams.clone(), Vec::new()))),
            ["Tab 1 has closed; its thread is held until the second write fails."]
        );
        streams[1].closed_us = Some(NOW);
        assert_eq!(
            texts(&seen(&snapshot(streams, Vec::new()))),
            ["2 clients have closed; their threads are held until the second write fails."]
        );
        // A client that waited holds no thread.
        let mut waits = held(9, "/models/live_stream?tab=9", None, Some(NOW));
        waits.closed_us = Some(NOW);
        assert_eq!(texts(&seen(&snapshot(Vec::new(), vec![waits]))), [""; 0]);
    }

    #[test]
    fn a_closed_zombie_has_unread_bytes_so_any_write_may_fail() {
        let target = "/models/live_stream?tab=zombie-1";
        let mut zombie = held(1, target, Some(NOW - 1), None);
        zombie.closed_us = Some(NOW);
        assert_eq!(
            texts(&seen(&snapshot(vec![zombie], Vec::new()))),
            ["Zombie-1 has closed; its thread is held until a write fails."]
        );
    }

    #[test]
    fn at_most_three_warnings_are_shown_and_the_most_serious_first() {
        let todo = vec![held(9, "/up", None, Some(NOW - 1_000_000))];
        let all = snapshot(vec![stream(1, 0), stream(2, 0)], todo);
        let database = database::Stats { size: 5, busy: 5, waiting: 1, checkout_timeouts: 0 };
        let seen = WarningInput { listen_queue: 14, openings: (12, 2), database: &database, ..seen(&all) };
        assert_eq!(
            texts(&seen),
            [
                "New connections wait in the kernel's listen queue: 14.",
                "All 2 threads are held by streams; 1 request waits, for 1 s so far.",
                "All 5 database connections are held; 1 thread waits for one.",
            ]
        );
    }

    #[test]
    fn openings_count_the_ended_streams_of_the_last_second_and_their_tabs() {
        let timeline = Timeline::simulated();
        let mut watcher = Watcher::default();
        let mut open = |thread: usize, request: u64, tab: u64, lasts_ms: u64| {
            let subject = Subject { connection: request, port: 1, request };
            let target = format!("/models/live_stream?tab={tab}");
            if !watcher.snapshot().threads.contains_key(&thread) {
                timeline.record(Some(thread), None, What::Spawned);
            }
            timeline.record(Some(thread), Some(subject), What::Started);
            timeline.record(Some(thread), Some(subject), What::accepted("GET", target));
            timeline.record(Some(thread), Some(subject), What::Streaming);
            timeline.let_pass(Duration::from_millis(lasts_ms));
            watcher.look(&timeline);
            watcher.openings()
        };
        let counts: Vec<_> = (1..=8).map(|request| open(1, request, request % 2, 160)).collect();
        assert_eq!(counts[0], (0, 0), "the first stream is still open");
        assert_eq!(counts[7], (5, 2));
        let quiet = snapshot(Vec::new(), Vec::new());
        let warned = texts(&WarningInput { openings: counts[7], ..seen(&quiet) });
        assert_eq!(warned, ["Clients reconnect in a loop: 5 streams opened in the last second."]);
        assert_eq!(texts(&WarningInput { openings: (9, 9), ..seen(&quiet) }), [""; 0]);
        // Several streams of one address that stay open, as `ab` opens them, are not a loop.
        let at_once: Vec<_> = (2..=9).map(|thread| open(thread, 10 + thread as u64, 1, 1)).collect();
        assert!(at_once.iter().all(|(opened, _)| *opened <= counts[7].0), "{at_once:?}");
    }
}
