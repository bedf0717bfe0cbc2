//! What a server says of itself, kept: its timeline, folded into one story a request.
//!
//! Everything that an act draws or claims about the inside of a server is read
//! from here. The only words that the lab shares with the server half are the
//! timeline's. Nothing here asks or blocks: [`super::follower`] does.

use std::collections::BTreeMap;

use crate::escape::is_printable;
use crate::timeline::{Excerpt, Moment, What};

/// One request, as far as it has come. Times are microseconds on the server's clock.
#[derive(Debug, Clone, Default)]
pub struct Story {
    pub request: u64,
    pub connection: u64,
    /// The client's port.
    pub port: u16,
    /// Empty as long as nobody has read the request, or looked at it.
    pub target: String,
    /// When it was put into todo: the last time, if it was put aside until all of it had come.
    pub queued_us: u64,
    /// When it left todo, and the number of the thread that took it.
    pub started: Option<(u64, usize)>,
    /// Nobody has seen it leave todo: it left before the first that is known of it.
    start_unseen: bool,
    pub is_stream: bool,
    /// When each write went out.
    pub writes_us: Vec<u64>,
    /// From when to when a write waited for the client.
    pub blocked_us: Vec<(u64, u64)>,
    pub gone: Option<Gone>,
    pub reaped_us: Option<u64>,
    pub finished_us: Option<u64>,
}

/// A write that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    pub at_us: u64,
    /// Its number among the writes of its answer, from 1.
    pub write: u64,
    pub errno: String,
}

impl Story {
    /// Whether it holds a thread.
    pub fn is_running(&self) -> bool {
        self.started.is_some() && self.finished_us.is_none()
    }

    fn is_held_by(&self, thread: usize) -> bool {
        self.is_running() && self.started.is_some_and(|(_, number)| number == thread)
    }

    /// Whether it waits for one.
    pub fn is_queued(&self) -> bool {
        self.started.is_none() && self.finished_us.is_none()
    }

    /// When it left todo, by a thread that took it or by its end.
    pub fn left_todo_us(&self) -> Option<u64> {
        self.started.map(|(at_us, _)| at_us).or(self.finished_us)
    }

    /// What a person calls it.
    pub fn name(&self) -> String {
        if self.target.is_empty() { format!("connection {}", self.connection) } else { name_of(&self.target) }
    }
}

/// What a person calls a request for this: `tab 3`, the value of `?tab=`, or its path. It is
/// decoded as a form is, has no character that steers a terminal, and at most [`LONGEST_NAME`]
/// characters: the same as on the dashboard.
pub fn name_of(target: &str) -> String {
    match tab_of(target) {
        Some(number) if number.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("tab {}", bounded(&number))
        }
        Some(name) => bounded(&name),
        None => bounded(target.split('?').next().unwrap_or_default()),
    }
}

/// The most characters of a name.
const LONGEST_NAME: usize = 40;

fn bounded(text: &str) -> String {
    let shown = |c: char| if is_printable(c) { c } else { char::REPLACEMENT_CHARACTER };
    match text.char_indices().nth(LONGEST_NAME) {
        None => text.chars().map(shown).collect(),
        Some(_) => text.chars().take(LONGEST_NAME - 1).map(shown).chain(['…']).collect(),
    }
}

/// The value of `?tab=`, decoded; None if it is empty.
pub fn tab_of(target: &str) -> Option<String> {
    let (_, query) = target.split_once('?')?;
    let mut parameters = url::form_urlencoded::parse(query.as_bytes());
    let (_, tab) = parameters.find(|(name, _)| name == "tab")?;
    (!tab.is_empty()).then(|| tab.into_owned())
}

/// A thread, as the server's list of threads has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    pub thread: usize,
    pub held: Option<Held>,
}

/// The request that a thread holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub request: u64,
    pub connection: u64,
    pub target: String,
    pub for_us: u64,
}

/// All that a server has said.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// The server's clock when it was last asked.
    pub now_us: u64,
    /// By request number, which is the order of arrival.
    pub stories: BTreeMap<u64, Story>,
    /// The living threads' numbers.
    pub threads: Vec<usize>,
    /// Moments that were lost because nobody asked in time.
    pub forgotten: u64,
    /// All of it, as it was said, for a trace. Whoever follows a server for days lets go of them.
    pub moments: Vec<Moment>,
    /// From when to when nobody knows what ended: it was let go, or lost because nobody asked in time.
    pub unknown_us: Vec<(u64, u64)>,
    last_seq: u64,
    /// What each thread was last seen at. On a kept connection it goes on with the next
    /// request without a word of an end.
    at_work: BTreeMap<usize, AtWork>,
}

/// What a thread is at.
#[derive(Debug, Clone, Copy)]
struct AtWork {
    request: u64,
    /// The server's list of threads says so, and no moment yet: the list is asked for after the
    /// moments, so that what comes next of the thread may be older.
    is_ahead: bool,
}

impl Record {
    /// Takes in what came after the last time.
    pub fn take(&mut self, excerpt: Excerpt) {
        if excerpt.forgotten > 0 {
            let until_us = excerpt.moments.first().map_or(excerpt.now_us, |moment| moment.at_us);
            self.unknown_us.push((self.now_us, until_us));
        }
        self.now_us = excerpt.now_us;
        self.forgotten += excerpt.forgotten;
        for moment in excerpt.moments {
            self.last_seq = moment.seq;
            self.moments.push(moment.clone());
            self.take_moment(moment);
        }
    }

    fn take_moment(&mut self, Moment { at_us, thread, subject, what, .. }: Moment) {
        match (&what, thread) {
            (What::Spawned, Some(thread)) => self.threads.push(thread),
            (What::Exited, Some(thread)) => self.threads.retain(|number| *number != thread),
            _ => {}
        }
        self.threads.sort_unstable();
        let Some(subject) = subject else { return };
        if let Some(thread) = thread {
            let is_done = what == What::Finished;
            if self.is_ahead_of(thread, subject.connection) {
                if is_done {
                    self.end_of(subject.connection, thread, at_us);
                }
            } else {
                let at = match is_done {
                    true => self.at_work.remove(&thread),
                    false => {
                        self.at_work.insert(thread, AtWork { request: subject.request, is_ahead: false })
                    }
                };
                if let Some(at) = at.filter(|at| is_done || at.request != subject.request) {
                    self.end(at.request, thread, at_us);
                }
            }
            if is_done {
                return;
            }
        }
        let story = self.stories.entry(subject.request).or_insert_with(|| Story {
            request: subject.request,
            connection: subject.connection,
            port: subject.port,
            queued_us: at_us,
            // Where nobody asked in time, its first moment may be one of a thread that has it.
            started: thread.map(|thread| (at_us, thread)),
            start_unseen: thread.is_some() && !matches!(what, What::Started | What::Accepted { .. }),
            ..Story::default()
        });
        match what {
            What::Accepted { target, .. } => story.target = target.to_string(),
            // For the second time if Puma's front had put it aside, when not all of it had come:
            // meanwhile it was with the reactor, and waited for its client and not for a thread.
            What::Queued => {
                (story.queued_us, story.started, story.finished_us) = (at_us, None, None);
            }
            What::Started => story.started = thread.map(|thread| (at_us, thread)),
            What::Streaming => story.is_stream = true,
            What::Wrote { .. } => story.writes_us.push(at_us),
            What::Blocked { us } => story.blocked_us.push((at_us.saturating_sub(us), at_us)),
            What::Disconnected { write, error } => story.gone = Some(Gone { at_us, write, errno: error }),
            What::Reaped { .. } => story.reaped_us = Some(at_us),
            What::Answered { .. } | What::Rejected { .. } | What::Left => story.finished_us = Some(at_us),
            _ => {}
        }
    }

    /// Whether this thread is known to be at another connection already.
    fn is_ahead_of(&self, thread: usize, connection: u64) -> bool {
        let at = self.at_work.get(&thread).filter(|at| at.is_ahead);
        let story = at.and_then(|at| self.stories.get(&at.request));
        story.is_some_and(|story| story.connection != connection)
    }

    /// What a thread had of this connection.
    fn end_of(&mut self, connection: u64, thread: usize, at_us: u64) {
        for story in self.stories.values_mut() {
            if story.connection == connection && story.is_held_by(thread) {
                story.finished_us = Some(at_us);
            }
        }
    }

    /// A thread that has put a request aside may say so after the next one has begun it.
    fn end(&mut self, request: u64, thread: usize, at_us: u64) {
        let story = self.stories.get_mut(&request);
        if let Some(story) = story.filter(|story| story.is_held_by(thread)) {
            story.finished_us = Some(at_us);
        }
    }

    /// Takes in what the server says of its threads, when it was asked after the
    /// excerpt: a stream may be older than all that the timeline remembers.
    pub fn take_seats(&mut self, seats: &[Seat]) {
        self.threads = seats.iter().map(|seat| seat.thread).collect();
        self.threads.sort_unstable();
        for Seat { thread, held } in seats {
            let Some(held) = held else { continue };
            // It is named by the first request that it took from this connection.
            let at_work = self.at_work.get(thread).filter(|at| at.request != held.request);
            let at_work = at_work.and_then(|at| self.stories.get(&at.request));
            if at_work.is_some_and(|story| story.connection == held.connection && story.is_held_by(*thread)) {
                continue;
            }
            let since_us = self.now_us.saturating_sub(held.for_us);
            let story = self.stories.entry(held.request).or_insert_with(|| Story {
                request: held.request,
                connection: held.connection,
                queued_us: since_us,
                ..Story::default()
            });
            if story.target.is_empty() {
                story.target.clone_from(&held.target);
            }
            if story.is_queued() {
                story.started = Some((since_us, *thread));
                self.at_work.insert(*thread, AtWork { request: held.request, is_ahead: true });
            } else if story.start_unseen && story.is_held_by(*thread) {
                story.started = story.started.map(|(seen_us, thread)| (seen_us.min(since_us), thread));
            }
            story.start_unseen = false;
        }
    }

    /// Lets go of what ended before this time on the server's clock, and of more if that
    /// leaves more than `most` that have ended, so that a busy server can be followed for days.
    pub fn forget_before(&mut self, at_us: u64, most: usize) {
        let mut ended: Vec<u64> = self.stories.values().filter_map(|story| story.finished_us).collect();
        let too_many = ended.len().saturating_sub(most);
        let newest = (too_many > 0).then(|| ended.select_nth_unstable(too_many - 1).1.saturating_add(1));
        let at_us = at_us.max(newest.unwrap_or_default());
        self.unknown_us.retain(|(_, until_us)| *until_us > at_us);
        self.unknown_us.push((0, at_us));
        self.stories.retain(|_, story| story.finished_us.is_none_or(|finished_us| finished_us >= at_us));
        for story in self.stories.values_mut() {
            story.writes_us.retain(|wrote_us| *wrote_us >= at_us);
            story.blocked_us.retain(|(_, until_us)| *until_us >= at_us);
        }
    }

    /// After a gap: lets go of who was in todo, since nobody knows whether it still is.
    pub fn forget_todo(&mut self) {
        self.stories.retain(|_, story| !story.is_queued());
    }

    /// After a gap up to this time: who had a thread before, and by the server's list of threads has it
    /// no longer, has ended in the gap.
    pub fn end_in_gap(&mut self, until_us: u64, seats: &[Seat]) {
        for story in self.stories.values_mut().filter(|story| story.is_running()) {
            let has_it = |seat: &Seat| {
                let is_at_it = seat.held.as_ref().is_some_and(|held| held.connection == story.connection);
                is_at_it && story.is_held_by(seat.thread)
            };
            if story.started.is_some_and(|(at_us, _)| at_us < until_us) && !seats.iter().any(has_it) {
                story.finished_us = Some(until_us);
            }
        }
    }

    /// The number of the last moment that was taken in.
    pub fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// The story of the request that came from this port of ours.
    pub fn of_port(&self, port: u16) -> Option<&Story> {
        self.stories.values().rev().find(|story| story.port == port)
    }

    /// Requests that hold a thread.
    pub fn held(&self) -> usize {
        self.stories.values().filter(|story| story.is_running()).count()
    }

    /// Those of them that are streams.
    pub fn open_streams(&self) -> usize {
        self.stories.values().filter(|story| story.is_stream && story.is_running()).count()
    }

    /// Requests that wait in todo, first in first.
    pub fn todo(&self) -> impl Iterator<Item = &Story> {
        let mut queued: Vec<_> = self.stories.values().filter(|story| story.is_queued()).collect();
        queued.sort_by_key(|story| story.queued_us);
        queued.into_iter()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::timeline::{Subject, Timeline};

    /// A record of two threads: tab 1 streams and leaves, tab 2 streams, `/up` waits.
    pub fn two_threads() -> Record {
        let timeline = Timeline::default();
        let tab = |request| Some(Subject { connection: request, port: 40_000 + request as u16, request });
        let say = |thread, subject, what| timeline.record(thread, subject, what);
        let accepted =
            |target: &str| What::Accepted { method: "GET".into(), target: target.into(), peeked: false };
        for thread in [1, 2] {
            say(Some(thread), None, What::Spawned);
        }
        for request in [1, 2] {
            say(None, tab(request), accepted(&format!("/models/live_stream?tab={request}")));
            say(None, tab(request), What::Queued);
            say(Some(request as usize), tab(request), What::Started);
            say(Some(request as usize), tab(request), What::Streaming);
            say(Some(request as usize), tab(request), What::Wrote { bytes: 9 });
        }
        say(Some(1), tab(1), What::Disconnected { write: 3, error: "EPIPE".into() });
        say(Some(1), tab(1), What::Finished);
        say(None, tab(3), accepted("/up"));
        say(None, tab(3), What::Queued);
        let mut record = Record::default();
        record.take(timeline.after(0));
        record
    }

    #[test]
    fn a_name_is_decoded_as_a_form_then_filtered_then_bounded() {
        for (target, name) in [
            ("/models/live_stream?tab=3", "tab 3"),
            ("/x?a=b&tab=%33&tab=4", "tab 3"),
            ("/x?tab=%e6%a8%a1%e5%9e%8b", "模型"),
            ("/x?tab=模型", "模型"),
            ("/x?tab=a+b%20c", "a b c"),
            ("/x?t%61b=a", "a"),
            ("/x?tab=%1b[31m%C2%9b%E2%80%AE%0a%ff", "\u{fffd}[31m\u{fffd}\u{fffd}\u{fffd}\u{fffd}"),
            ("/x?tab=", "/x"),
            ("/x?tab", "/x"),
            ("/\u{9b}x\u{202e}", "/\u{fffd}x\u{fffd}"),
            ("", ""),
        ] {
            assert_eq!(name_of(target), name, "{target:?}");
        }
        let long = name_of(&format!("/x?tab={}", "%e6%a8%a1".repeat(100)));
        assert_eq!(long, format!("{}…", "模".repeat(39)));
        assert_eq!(name_of(&format!("/x?tab={}", "模".repeat(40))), "模".repeat(40));
    }

    #[test]
    fn a_list_of_threads_that_is_ahead_of_the_moments_ends_nobody() {
        let timeline = Timeline::default();
        let mut record = two_threads();
        // Asked after the moments: tab 1 has gone meanwhile, and `/up` has its thread.
        let mut before = two_threads();
        let tab = |request| Some(Subject { connection: request, port: 40_000 + request as u16, request });
        for request in [1, 2] {
            before.stories.get_mut(&request).unwrap().finished_us = None;
        }
        before.at_work = [(1, AtWork { request: 1, is_ahead: false })].into();
        let held = Held { request: 3, connection: 3, target: "/up".into(), for_us: 1 };
        before.take_seats(&[Seat { thread: 1, held: Some(held) }]);
        for what in [What::Disconnected { write: 4, error: "EPIPE".into() }, What::Finished] {
            timeline.record(Some(1), tab(1), what);
        }
        timeline.record(Some(1), tab(3), What::Started);
        before.take(timeline.after(0));
        assert!(before.stories[&1].finished_us.is_some(), "it has gone");
        assert!(before.stories[&3].is_running(), "and this one has not");
        timeline.record(Some(1), tab(3), What::Finished);
        before.take(timeline.after(3));
        assert!(before.stories[&3].finished_us.is_some());
        // Without such a list it was so before.
        record.take(timeline.after(0));
        assert!(record.stories[&3].finished_us.is_some());
    }

    #[test]
    fn a_request_that_was_put_aside_is_the_next_threads() {
        let timeline = Timeline::default();
        let subject = Some(Subject { connection: 1, port: 40_001, request: 1 });
        let mut record = Record::default();
        let mut say = |thread, what| {
            timeline.record(thread, subject, what);
            record.take(timeline.after(record.last_seq));
            let story = record.of_port(40_001).unwrap();
            (story.is_running(), story.is_queued())
        };
        assert_eq!(say(None, What::Queued), (false, true));
        assert_eq!(say(Some(1), What::Started), (true, false));
        // The reactor has read the rest before thread 1 has turned to something else.
        assert_eq!(say(None, What::Queued), (false, true));
        assert_eq!(say(Some(2), What::Started), (true, false));
        assert_eq!(say(Some(1), What::Finished), (true, false));
        assert_eq!(say(Some(2), What::Finished), (false, false));
    }

    #[test]
    fn who_was_put_aside_waits_anew_and_behind_the_others() {
        let timeline = Timeline::default();
        let say = |thread, request, what| {
            timeline.record(
                thread,
                Some(Subject { connection: request, port: 40_000 + request as u16, request }),
                what,
            );
        };
        say(None, 1, What::Queued);
        say(Some(1), 1, What::Started);
        say(Some(1), 1, What::Finished);
        say(None, 2, What::Queued);
        say(None, 1, What::Queued);
        let mut excerpt = timeline.after(0);
        for moment in &mut excerpt.moments {
            moment.at_us = moment.seq * 1000;
        }
        let mut record = Record::default();
        record.take(excerpt);
        let todo: Vec<_> = record.todo().map(|story| (story.name(), story.queued_us)).collect();
        assert_eq!(todo, [("connection 2".to_owned(), 4000), ("connection 1".to_owned(), 5000)]);
    }

    #[test]
    fn a_kept_connections_requests_follow_each_other_on_one_thread() {
        let timeline = Timeline::default();
        let say = |request, what| {
            timeline.record(Some(1), Some(Subject { connection: 1, port: 40_001, request }), what);
        };
        say(1, What::Started);
        for request in [1, 2, 3] {
            say(request, What::accepted("GET", format!("/{request}")));
            say(request, What::Wrote { bytes: 9 });
        }
        let mut record = Record::default();
        record.take(timeline.after(0));
        let held = Held { request: 1, connection: 1, target: "/3".into(), for_us: 0 };
        record.take_seats(&[Seat { thread: 1, held: Some(held) }]);
        let running = |record: &Record| {
            record.stories.values().filter(|story| story.is_running()).map(Story::name).collect::<Vec<_>>()
        };
        assert_eq!((running(&record), record.todo().count()), (vec!["/3".to_owned()], 0));
        // It is done with all of them, and names the first.
        say(1, What::Finished);
        record.take(timeline.after(record.last_seq()));
        assert!(record.stories.len() == 3 && running(&record).is_empty());
    }

    #[test]
    fn who_comes_late_is_told_by_the_threads() {
        let timeline = Timeline::default();
        let say = |thread, request, what| {
            timeline.record(
                thread,
                Some(Subject { connection: request, port: 40_000 + request as u16, request }),
                what,
            );
        };
        let mut record = Record::default();
        // Request 7 began before the timeline's memory, and 8 was refused before any thread saw it.
        say(Some(2), 7, What::Wrote { bytes: 9 });
        say(None, 8, What::Rejected { status: 408, why: "too slow".into() });
        record.take(timeline.after(0));
        let held = |request, target: &str| {
            Some(Held { request, connection: request, target: target.into(), for_us: 0 })
        };
        record.take_seats(&[
            Seat { thread: 3, held: None },
            Seat { thread: 1, held: held(5, "/models/live_stream?tab=5") },
            Seat { thread: 2, held: held(7, "/models/live_stream?tab=7") },
        ]);
        let running = |record: &Record| {
            let running = record.stories.values().filter(|story| story.is_running());
            running.map(|story| (story.name(), story.started.unwrap().1)).collect::<Vec<_>>()
        };
        assert_eq!(record.threads, [1, 2, 3]);
        assert_eq!(running(&record), [("tab 5".to_owned(), 1), ("tab 7".to_owned(), 2)]);
        assert_eq!(record.todo().count(), 0);
        // It has an end like any other.
        say(Some(1), 5, What::Finished);
        record.take(timeline.after(record.last_seq()));
        assert_eq!(running(&record), [("tab 7".to_owned(), 2)]);
    }

    #[test]
    fn what_is_past_is_let_go_and_what_lasts_is_kept() {
        let mut record = two_threads();
        let now_us = record.now_us + 1;
        record.forget_before(now_us, 10);
        assert_eq!(record.stories.values().map(Story::name).collect::<Vec<_>>(), ["tab 2", "/up"]);
        assert!(record.stories.values().all(|story| story.writes_us.is_empty()));
        record.forget_todo();
        assert_eq!(record.stories.values().map(Story::name).collect::<Vec<_>>(), ["tab 2"]);
    }

    #[test]
    fn of_many_that_have_ended_the_newest_are_kept() {
        let mut record = two_threads();
        for (request, story) in &mut record.stories {
            (story.queued_us, story.finished_us) = (0, (*request < 3).then_some(request * 1000));
        }
        record.forget_before(0, 1);
        assert_eq!(record.stories.keys().copied().collect::<Vec<_>>(), [2, 3]);
        assert_eq!(record.unknown_us, [(0, 1001)]);
        record.forget_before(2001, 1);
        assert_eq!((record.stories.len(), record.unknown_us), (1, vec![(0, 2001)]));
    }

    #[test]
    fn who_holds_a_thread_after_a_gap_has_held_it_all_the_time() {
        let mut record = Record::default();
        let of = |request| Some(Subject { connection: request, port: 40_000 + request as u16, request });
        let moment = |seq, thread, request, what| Moment {
            seq,
            at_us: seq * 1000,
            thread: Some(thread),
            subject: of(request),
            what,
        };
        let started = |seq, thread, request| moment(seq, thread, request, What::Started);
        let moments = vec![started(1, 1, 1), started(2, 2, 2)];
        record.take(Excerpt { now_us: 3000, forgotten: 0, moments });
        // Tab 2 has ended, and 3 begun, when nobody asked.
        let wrote = |seq, thread, request| moment(seq, thread, request, What::Wrote { bytes: 1 });
        record.forget_todo();
        let moments = vec![wrote(8, 1, 1), wrote(9, 3, 3)];
        record.take(Excerpt { now_us: 10_000, forgotten: 5, moments });
        let seat = |thread, request, for_us| {
            let held = Held { request, connection: request, target: "/".into(), for_us };
            Seat { thread, held: Some(held) }
        };
        let seats = [seat(1, 1, 9_000), Seat { thread: 2, held: None }, seat(3, 3, 5_000)];
        record.take_seats(&seats);
        record.end_in_gap(8000, &seats);
        let seen: Vec<_> = record.stories.values().map(|it| (it.started, it.finished_us)).collect();
        assert_eq!(seen, [(Some((1000, 1)), None), (Some((2000, 2)), Some(8000)), (Some((5000, 3)), None)]);
        assert_eq!(record.stories[&1].writes_us, [8000]);
    }

    #[test]
    fn what_nobody_asked_for_in_time_is_a_gap() {
        let mut record = Record { now_us: 1000, ..Record::default() };
        let moment = Moment { seq: 9, at_us: 3000, thread: Some(1), subject: None, what: What::Spawned };
        record.take(Excerpt { now_us: 4000, forgotten: 8, moments: vec![moment] });
        record.take(Excerpt { now_us: 5000, forgotten: 0, moments: vec![] });
        assert_eq!((record.unknown_us, record.forgotten), (vec![(1000, 3000)], 8));
    }

    #[test]
    fn moments_become_stories() {
        let record = two_threads();
        assert_eq!(record.threads, [1, 2]);
        assert_eq!(record.open_streams(), 1);
        assert_eq!(record.todo().map(Story::name).collect::<Vec<_>>(), ["/up"]);
        let first = record.of_port(40_001).unwrap();
        assert_eq!((first.name(), first.writes_us.len()), ("tab 1".to_owned(), 1));
        assert!(!first.is_running() && first.gone.as_ref().is_some_and(|gone| gone.errno == "EPIPE"));
    }
}
