//! The current problems of the server, in words, each with its remedy. The pages only display it.
//!
//! A pure function of the numbers of one moment and of what the [watcher](super::watcher) has seen.

use std::time::Duration;

use serde::Serialize;

use super::watcher::WriteSeen;
use crate::app::adapters::EngineStats;
use crate::app::database;
use crate::lab::probe::findings::{LiveState, WatchedServer, live_remedy};
use crate::lab::story::name_of;
use crate::lab::wording::capitalized;
use ninetabs_server::timeline::{Held, Snapshot};

/// Maximum number of warnings at one time.
const MOST: usize = 3;
/// How long all threads must be held before there is a warning.
const FULL_FOR_US: u64 = 5_000_000;
/// A stream of this age is old.
const OLD_US: u64 = 60_000_000;
/// How long a write must have been blocked before there is a warning.
const BLOCKED_US: u64 = 5_000_000;
/// How long an action must have run without a client before there is a warning. After a failed write, the
/// action ends at its next write.
const ORPHANED_US: u64 = 5_000_000;
/// Maximum number of connections of a browser to one host over HTTP/1.1.
const CONNECTIONS_PER_HOST: usize = 6;
/// How long notifications must not have arrived before there is a warning.
const NOT_LISTENING_FOR_S: f64 = 3.0;
const SECOND_US: u64 = 1_000_000;
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
    /// The result of [`Watcher::writing`](super::watcher::Watcher::writing).
    pub writing: &'a [WriteSeen],
    pub database: &'a database::Stats,
    pub engine: &'a EngineStats,
    /// Connections that wait in the kernel, if they have waited for a second.
    pub listen_queue: usize,
    /// Frames of a wall that wait in the browser.
    pub frames: usize,
    /// The result of [`Watcher::openings`](super::watcher::Watcher::openings).
    pub openings: (usize, usize),
}

/// Returns the warnings, most serious first.
pub(super) fn warnings(seen: &WarningInput<'_>) -> Vec<Warning> {
    let all = [
        listen_queue(seen),
        full_pool(seen),
        empty_database_pool(seen),
        lock_held(seen),
        not_listening(seen),
        reconnect_loop(seen),
        orphaned_actions(seen),
        write_blocked(seen),
        in_the_browser(seen),
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
    warning(text, &live_remedy(WatchedServer::Ninetabs, LiveState::ConnectionsFull))
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
        remedy: live_remedy(WatchedServer::Ninetabs, LiveState::ThreadsTaken),
        link: Some("/fixes"),
    })
}

fn empty_database_pool(seen: &WarningInput<'_>) -> Option<Warning> {
    let database::Stats { size, busy, waiting, .. } = *seen.database;
    (busy >= size && waiting > 0).then_some(())?;
    let wait = if waiting == 1 { "1 thread waits".to_owned() } else { format!("{waiting} threads wait") };
    let text = format!("All {} are held; {wait} for one.", count(size, "database connection"));
    warning(text, &live_remedy(WatchedServer::Ninetabs, LiveState::DatabasePoolEmpty))
}

fn lock_held(seen: &WarningInput<'_>) -> Option<Warning> {
    let holder = seen.engine.lock_holder.as_ref()?;
    let application = holder.application_name.as_deref().filter(|name| !name.is_empty());
    let application = application.map(|name| format!(" ({name})")).unwrap_or_default();
    let text = format!("Creates wait for process {} of PostgreSQL{application}.", holder.pid);
    warning(text, "End its transaction, or set idle_in_transaction_session_timeout.")
}

fn not_listening(seen: &WarningInput<'_>) -> Option<Warning> {
    let seconds = seen.engine.not_listening_for_s.filter(|seconds| *seconds >= NOT_LISTENING_FOR_S)?;
    let text = format!("PostgreSQL has announced no commits of other servers for {seconds:.0} s.");
    warning(text, "Check PostgreSQL, and give its own address to --cable-database.")
}

fn reconnect_loop(seen: &WarningInput<'_>) -> Option<Warning> {
    let (opened, tabs) = seen.openings;
    (opened >= FEWEST_OPENINGS && opened > tabs).then_some(())?;
    let text = format!("Clients reconnect in a loop: {opened} streams opened in the last second.");
    warning(text, "Check --retry and the status that refused clients get.")
}

fn write_blocked(seen: &WarningInput<'_>) -> Option<Warning> {
    let lasts_us = |write: &WriteSeen| seen.now_us.saturating_sub(write.since_us);
    let blocked = || seen.writing.iter().filter(|write| lasts_us(write) >= BLOCKED_US);
    let longest = blocked().max_by_key(|write| lasts_us(write))?;
    let seconds = lasts_us(longest) / SECOND_US;
    let text = match blocked().count() {
        1 => {
            let holds = seen.snapshot.threads.values().filter_map(|thread| thread.holds.as_deref());
            let held = holds.into_iter().find(|held| held.subject.request == longest.request)?;
            format!("A write to {} has been blocked for {seconds} s.", name(held))
        }
        many => format!("Writes to {many} clients have been blocked, the longest for {seconds} s."),
    };
    warning(text, &live_remedy(WatchedServer::Ninetabs, LiveState::WriteBlocked))
}

/// None of Puma's own numbers shows these actions.
fn orphaned_actions(seen: &WarningInput<'_>) -> Option<Warning> {
    let orphaned = seen.snapshot.actions.values().filter(|action| action.orphaned_us.is_some());
    let lasting =
        orphaned.filter(|it| seen.now_us.saturating_sub(it.orphaned_us.unwrap_or_default()) >= ORPHANED_US);
    let text = match lasting.count() {
        0 => return None,
        1 => "1 action runs without a client, and holds no pool thread.".to_owned(),
        many => format!("{many} actions run without a client, and hold no pool thread."),
    };
    warning(text, "Set --max-stream-age, and HTTP/1.1 in the proxy.")
}

/// The page reports how many of its frames lack a connection, and the record shows whether six are in use.
fn in_the_browser(seen: &WarningInput<'_>) -> Option<Warning> {
    let holds = seen.snapshot.threads.values().filter_map(|thread| thread.holds.as_deref());
    let in_use = holds.chain(seen.snapshot.todo.iter().map(|held| &**held)).count();
    (seen.frames > 0 && in_use >= CONNECTIONS_PER_HOST).then_some(())?;
    let tabs = if seen.frames == 1 { "1 tab is".to_owned() } else { format!("{} tabs are", seen.frames) };
    let text = format!("{tabs} in the browser: {CONNECTIONS_PER_HOST} connections to one host are in use.");
    warning(text, "Use one host per tab, or a fix that shares one connection.")
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

#[cfg(test)]
mod tests {
    use ninetabs_server::timeline::{LiveAction, Subject, Thread};

    use super::*;
    use crate::app::adapters::LockHolder;

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
        static ENGINE: EngineStats = EngineStats::of("sqlite3");
        WarningInput {
            now_us: NOW,
            snapshot,
            max_threads: 2,
            max_stream_age: None,
            writing: &[],
            database: &DATABASE,
            engine: &ENGINE,
            listen_queue: 0,
            frames: 0,
            openings: (0, 0),
        }
    }

    fn texts(seen: &WarningInput<'_>) -> Vec<String> {
        warnings(seen).into_iter().map(|warning| warning.text).collect()
    }

    #[test]
    fn orphaned_actions_are_counted_once_they_have_lasted() {
        let action = |orphaned_us| LiveAction { orphaned_us, ..LiveAction::default() };
        let actions = [Some(1), Some(NOW - 1), None].into_iter().map(action);
        let mut snapshot = snapshot(Vec::new(), Vec::new());
        snapshot.actions = (1..).zip(actions).collect();
        assert_eq!(texts(&seen(&snapshot)), ["1 action runs without a client, and holds no pool thread."]);
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
    fn a_write_that_has_not_ended_for_five_seconds_is_a_warning() {
        let mut zombie = stream(2, NOW - 9_000_000);
        zombie.target = Some("/models/live_stream?tab=zombie-2".into());
        let held_by = snapshot(vec![stream(1, NOW - 1), zombie], Vec::new());
        let writes = |since: &[(u64, u64)]| {
            let seen_at = |(request, ago_us): &(u64, u64)| WriteSeen::of(*request, NOW - ago_us);
            let writing: Vec<_> = since.iter().map(seen_at).collect();
            texts(&WarningInput { writing: &writing, ..seen(&held_by) })
        };
        assert_eq!(writes(&[(2, 4_900_000)]), [""; 0]);
        assert_eq!(writes(&[(2, 7_900_000), (1, 1_000)]), ["A write to zombie-2 has been blocked for 7 s."]);
        assert_eq!(
            writes(&[(2, 7_000_000), (1, 6_000_000)]),
            ["Writes to 2 clients have been blocked, the longest for 7 s."]
        );
    }

    #[test]
    fn frames_without_a_connection_are_a_warning_while_six_connections_are_in_use() {
        let six = snapshot((1..=6).map(|request| stream(request, NOW - 1)).collect(), Vec::new());
        let five = snapshot((1..=5).map(|request| stream(request, NOW - 1)).collect(), Vec::new());
        let said = |frames, snapshot| texts(&WarningInput { frames, max_threads: 8, ..seen(snapshot) });
        assert_eq!(said(0, &six), [""; 0]);
        assert_eq!(said(3, &five), [""; 0]);
        assert_eq!(said(3, &six), ["3 tabs are in the browser: 6 connections to one host are in use."]);
        assert_eq!(said(1, &six), ["1 tab is in the browser: 6 connections to one host are in use."]);
    }

    #[test]
    fn more_openings_than_tabs_in_a_second_are_a_reconnect_loop() {
        let quiet = snapshot(Vec::new(), Vec::new());
        let warned = texts(&WarningInput { openings: (5, 2), ..seen(&quiet) });
        assert_eq!(warned, ["Clients reconnect in a loop: 5 streams opened in the last second."]);
        assert_eq!(texts(&WarningInput { openings: (9, 9), ..seen(&quiet) }), [""; 0]);
        assert_eq!(texts(&WarningInput { openings: (3, 1), ..seen(&quiet) }), [""; 0]);
    }

    #[test]
    fn a_silent_engine_and_a_held_lock_are_warnings() {
        let quiet = snapshot(Vec::new(), Vec::new());
        let with = |change: &dyn Fn(&mut EngineStats)| {
            let mut engine = EngineStats::of("postgresql");
            change(&mut engine);
            texts(&WarningInput { engine: &engine, ..seen(&quiet) })
        };
        assert_eq!(with(&|engine| engine.not_listening_for_s = Some(2.0)), [""; 0]);
        assert_eq!(
            with(&|engine| engine.not_listening_for_s = Some(7.2)),
            ["PostgreSQL has announced no commits of other servers for 7 s."]
        );
        let holder = |application: &str| LockHolder {
            pid: 7,
            user: None,
            application_name: Some(application.to_owned()),
            state: None,
            since: None,
        };
        for (application, words) in
            [("psql", "process 7 of PostgreSQL (psql)."), ("", "process 7 of PostgreSQL.")]
        {
            let warned = with(&|engine| engine.lock_holder = Some(holder(application)));
            assert_eq!(warned, [format!("Creates wait for {words}")]);
        }
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
}
