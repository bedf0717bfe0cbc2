//! What a server says of itself, kept: its timeline, folded into one story a request.
//!
//! Everything that an act draws or claims about the inside of a server is read
//! from here. The only words that the lab shares with the server half are the
//! timeline's. Nothing here asks or blocks: [`super::follower`] does.

use std::collections::BTreeMap;

use ninetabs_server::escape::is_printable;
use ninetabs_server::timeline::{Excerpt, Held, Moment, Snapshot, Subject, What};

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
    fn new(subject: Subject) -> Story {
        let Subject { connection, port, request } = subject;
        Story { request, connection, port, ..Story::default() }
    }

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
/// decoded as a form is, has no character that steers a terminal, and at most `LONGEST_NAME`
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

/// The last value of `?tab=`, which is the one that the app takes, decoded; None if it is empty.
pub fn tab_of(target: &str) -> Option<String> {
    let (_, query) = target.split_once('?')?;
    let parameters = url::form_urlencoded::parse(query.as_bytes());
    let (_, tab) = parameters.filter(|(name, _)| name == "tab").last()?;
    (!tab.is_empty()).then(|| tab.into_owned())
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
    /// The request that each thread has.
    at_work: BTreeMap<usize, u64>,
}

impl Record {
    /// Takes in what came after the last time.
    pub fn take(&mut self, excerpt: Excerpt) {
        let Excerpt { now_us, forgotten, moments, snapshot } = excerpt;
        let until_us = moments.first().map_or(now_us, |moment| moment.at_us);
        if forgotten > 0 {
            self.unknown_us.push((self.now_us, until_us));
        }
        self.now_us = now_us;
        self.forgotten = self.forgotten.saturating_add(forgotten);
        for (thread, held) in snapshot.iter().flat_map(holds) {
            // It began before the moments that are left.
            if held.started_us < Some(until_us) {
                self.hold(thread, held, until_us);
            }
        }
        for moment in moments {
            self.last_seq = moment.seq;
            self.moments.push(moment.clone());
            self.take_moment(moment);
        }
        if let Some(snapshot) = snapshot {
            self.settle(&snapshot, until_us);
        }
    }

    /// After a gap that ended at this time: takes the state in the place of the forgotten moments.
    fn settle(&mut self, snapshot: &Snapshot, until_us: u64) {
        self.last_seq = snapshot.seq;
        self.threads = snapshot.threads.keys().copied().collect();
        for (thread, held) in holds(snapshot) {
            self.hold(thread, held, until_us);
        }
        let held: BTreeMap<usize, u64> = holds(snapshot).map(|(at, it)| (at, it.subject.request)).collect();
        let is_there = |story: &Story| match story.started {
            Some((_, thread)) => held.get(&thread) == Some(&story.request),
            None => snapshot.todo.iter().any(|held| held.subject.request == story.request),
        };
        for story in self.stories.values_mut() {
            if story.finished_us.is_none() && !is_there(story) {
                story.finished_us = Some(until_us);
            }
        }
        self.at_work = held;
        for held in &snapshot.todo {
            let story = self.stories.entry(held.subject.request).or_insert_with(|| Story::new(held.subject));
            *story = Story { queued_us: held.queued_us.unwrap_or(until_us), ..Story::new(held.subject) };
            story.target = held.target.as_deref().unwrap_or_default().to_owned();
        }
    }

    /// A thread has this request, whatever it had before.
    fn hold(&mut self, thread: usize, held: &Held, until_us: u64) {
        let request = held.subject.request;
        self.begin(thread, request, until_us);
        let story = self.stories.entry(request).or_insert_with(|| Story::new(held.subject));
        let started_us = held.started_us.unwrap_or(until_us);
        story.started = Some((started_us, thread));
        story.queued_us = started_us.saturating_sub(held.waited_us.unwrap_or_default());
        story.finished_us = None;
        story.is_stream = held.is_stream;
        if let Some(target) = &held.target {
            story.target = target.to_string();
        }
        story.reaped_us = held.reaped.as_ref().map(|reaped| reaped.at_us);
        story.gone = held.gone.as_ref().map(|gone| Gone {
            at_us: gone.at_us,
            write: gone.write,
            errno: gone.error.clone(),
        });
    }

    fn take_moment(&mut self, Moment { at_us, thread, subject, what, .. }: Moment) {
        match (subject, thread) {
            (None, Some(thread)) => match what {
                What::Spawned => {
                    self.threads.push(thread);
                    self.threads.sort_unstable();
                }
                What::Exited => self.threads.retain(|number| *number != thread),
                _ => {}
            },
            (Some(subject), None) => self.at_the_door(subject, at_us, what),
            (Some(subject), Some(thread)) => self.on_thread(thread, subject, at_us, what),
            (None, None) => {}
        }
    }

    fn at_the_door(&mut self, subject: Subject, at_us: u64, what: What) {
        match what {
            What::Accepted { target, peeked: true, .. } => {
                // One that has left todo meanwhile is named by the thread that reads it.
                if let Some(story) = self.stories.get_mut(&subject.request).filter(|story| story.is_queued())
                {
                    story.target = target.to_string();
                }
            }
            What::Accepted { target, .. } => {
                let story = Story { queued_us: at_us, target: target.to_string(), ..Story::new(subject) };
                self.stories.insert(subject.request, story);
            }
            // For the second time if Puma's front had put it aside, when not all of it had come:
            // meanwhile it was with the reactor, and waited for its client and not for a thread.
            What::Queued => {
                let story = self.stories.entry(subject.request).or_insert_with(|| Story::new(subject));
                if !story.is_queued() {
                    *story = Story::new(subject);
                }
                story.queued_us = at_us;
            }
            What::Withdrawn | What::Rejected { .. } => {
                // One that the reactor watched has been on a thread, or in todo at no time.
                let refused = Story { queued_us: at_us, ..Story::new(subject) };
                let story = self.stories.entry(subject.request).or_insert(refused);
                story.finished_us.get_or_insert(at_us);
            }
            _ => {}
        }
    }

    fn on_thread(&mut self, thread: usize, subject: Subject, at_us: u64, what: What) {
        match what {
            What::Started | What::Accepted { .. } if self.at_work.get(&thread) != Some(&subject.request) => {
                self.begin(thread, subject.request, at_us);
                let begun = Story { queued_us: at_us, ..Story::new(subject) };
                self.stories.entry(subject.request).or_insert(begun).started = Some((at_us, thread));
            }
            What::Finished => self.end(thread, at_us),
            _ => {}
        }
        if self.at_work.get(&thread) != Some(&subject.request) {
            return;
        }
        let Some(story) = self.stories.get_mut(&subject.request) else { return };
        match what {
            What::Accepted { target, .. } => story.target = target.to_string(),
            What::Streaming => story.is_stream = true,
            What::Wrote { .. } => story.writes_us.push(at_us),
            What::Blocked { us } => story.blocked_us.push((at_us.saturating_sub(us), at_us)),
            What::Disconnected { write, error } => story.gone = Some(Gone { at_us, write, errno: error }),
            What::Reaped { .. } => story.reaped_us = Some(at_us),
            What::Answered { .. } | What::Rejected { .. } | What::Left => self.end(thread, at_us),
            _ => {}
        }
    }

    fn begin(&mut self, thread: usize, request: u64, at_us: u64) {
        if self.at_work.get(&thread) != Some(&request) {
            // Its end was forgotten.
            self.end(thread, at_us);
            self.at_work.insert(thread, request);
        }
    }

    /// Ends the request of a thread, unless it was put aside and is in todo or on another thread by now.
    fn end(&mut self, thread: usize, at_us: u64) {
        let Some(request) = self.at_work.remove(&thread) else { return };
        let story = self.stories.get_mut(&request);
        if let Some(story) = story.filter(|story| story.is_held_by(thread)) {
            story.finished_us = Some(at_us);
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

fn holds(snapshot: &Snapshot) -> impl Iterator<Item = (usize, &Held)> {
    snapshot.threads.iter().filter_map(|(number, thread)| Some((*number, thread.holds.as_deref()?)))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use super::*;
    use ninetabs_server::timeline::{CAPACITY, Timeline};

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
            ("/x?a=b&tab=%33&tab=4", "tab 4"),
            ("/x?tab=3&tab=", "/x"),
            ("/x?tab=3?tab=4", "3?tab=4"),
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
    fn a_request_that_is_refused_outside_the_pool_did_not_wait_and_holds_no_thread() {
        let timeline = Timeline::simulated();
        let say = |thread, request, what| {
            timeline.let_pass(Duration::from_millis(1));
            timeline.record(thread, Some(Subject { connection: request, port: 40_001, request }), what);
        };
        let refused = || What::Rejected { status: 408, why: "too slow".into() };
        // The reactor waits in vain for the rest of it.
        say(None, 1, What::Queued);
        say(Some(1), 1, What::Started);
        say(Some(1), 1, What::Finished);
        say(None, 1, refused());
        // The acceptor has no room for it.
        say(None, 2, refused());
        let mut record = Record::default();
        record.take(timeline.after(0));
        let times = |request| {
            let story: &Story = &record.stories[&request];
            (story.queued_us, story.started.map(|(at_us, _)| at_us), story.finished_us)
        };
        assert_eq!(times(1), (1_000, Some(2_000), Some(3_000)));
        assert_eq!(times(2), (5_000, None, Some(5_000)));
    }

    #[test]
    fn requests_of_a_kept_connection_follow_each_other_on_one_thread() {
        let timeline = Timeline::default();
        let say = |request, what| {
            timeline.record(Some(1), Some(Subject { connection: 1, port: 40_001, request }), what);
        };
        let mut record = Record::default();
        let mut running = || {
            record.take(timeline.after(record.last_seq()));
            let running = record.stories.values().filter(|story| story.is_running());
            running.map(Story::name).collect::<Vec<_>>()
        };
        say(1, What::Started);
        for request in [1, 2, 3] {
            say(request, What::accepted("GET", format!("/{request}")));
            say(request, What::Wrote { bytes: 9 });
            assert_eq!(running(), [format!("/{request}")]);
            say(request, What::Answered { status: 200, bytes: 9, duration_us: 1 });
            assert_eq!(running(), [""; 0]);
        }
        say(3, What::Finished);
        assert_eq!(running(), [""; 0]);
        assert_eq!((record.stories.len(), record.todo().count()), (3, 0));
    }

    /// A record that has seen everything, and one that was told of the newest moments only.
    #[test]
    fn a_late_reader_knows_what_goes_on() {
        let timeline = Timeline::simulated();
        let say = |thread, request: u64, what| {
            let subject = Subject { connection: request, port: 40_000 + request as u16, request };
            timeline.record(thread, Some(subject), what);
        };
        let mut early = Record::default();
        for thread in [1, 2, 3] {
            timeline.record(Some(thread), None, What::Spawned);
        }
        for (thread, request) in [(1, 5), (2, 7)] {
            say(None, request, What::Queued);
            timeline.let_pass(Duration::from_millis(2));
            say(Some(thread), request, What::Started);
            say(Some(thread), request, What::accepted("GET", format!("/models/live_stream?tab={request}")));
            say(Some(thread), request, What::Streaming);
        }
        say(None, 9, What::Queued);
        say(None, 10, What::Queued);
        early.take(timeline.after(0));
        timeline.let_pass(Duration::from_secs(100));
        say(Some(2), 7, What::Answered { status: 200, bytes: 9, duration_us: 1 });
        say(Some(2), 7, What::Finished);
        say(Some(2), 9, What::Started);
        say(None, 10, What::peeked("GET", "/up"));
        for _ in 0..CAPACITY {
            timeline.let_pass(Duration::from_millis(1));
            say(Some(1), 5, What::Wrote { bytes: 1 });
        }
        let excerpt = timeline.after(early.last_seq());
        assert!(excerpt.forgotten > 0);
        early.take(excerpt);
        let mut late = Record::default();
        late.take(timeline.after(0));
        for record in [&early, &late] {
            let running: Vec<_> = record
                .stories
                .values()
                .filter(|story| story.is_running())
                .map(|story| (story.name(), story.started.unwrap(), story.is_stream, story.queued_us))
                .collect();
            assert_eq!(
                running,
                [
                    ("tab 5".to_owned(), (2_000, 1), true, 0),
                    ("connection 9".to_owned(), (100_004_000, 2), false, 4_000)
                ]
            );
            let todo: Vec<_> = record.todo().map(|story| (story.name(), story.queued_us)).collect();
            assert_eq!(todo, [("/up".to_owned(), 4_000)]);
            assert_eq!(record.threads, [1, 2, 3]);
            assert_eq!(record.stories[&5].writes_us.len(), CAPACITY);
        }
        // The early one has seen how it began, and that it ended in the gap.
        let ended = early.stories[&7].finished_us;
        assert_eq!((ended, early.unknown_us.len()), (Some(100_005_000), 1));
        // They have an end like any other.
        say(Some(1), 5, What::Answered { status: 200, bytes: 9, duration_us: 1 });
        for record in [&mut early, &mut late] {
            record.take(timeline.after(record.last_seq()));
            assert!(!record.stories[&5].is_running());
        }
    }

    #[test]
    fn what_is_past_is_let_go_and_what_lasts_is_kept() {
        let mut record = two_threads();
        let now_us = record.now_us + 1;
        record.forget_before(now_us, 10);
        assert_eq!(record.stories.values().map(Story::name).collect::<Vec<_>>(), ["tab 2", "/up"]);
        assert!(record.stories.values().all(|story| story.writes_us.is_empty()));
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
    fn what_nobody_asked_for_in_time_is_a_gap() {
        let mut record = Record { now_us: 1000, ..Record::default() };
        let moment = Moment { seq: 9, at_us: 3000, thread: Some(1), subject: None, what: What::Spawned };
        record.take(Excerpt { now_us: 4000, forgotten: 8, moments: vec![moment], snapshot: None });
        record.take(Excerpt { now_us: 5000, forgotten: 0, moments: vec![], snapshot: None });
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
