//! A time window of a record as a trace. A request that began before the window begins at the window's left edge, with
//! its real start among its arguments.

use super::format::Phase;
use super::{Begun, TraceProcess, arguments};
use crate::lab::state::RecordState;
use crate::lab::story::name_of;
use ninetabs_server::timeline::Stretch;

impl TraceProcess {
    /// Shows a line of text next to the process's name.
    pub fn label(&mut self, text: &str) {
        self.tracks.label(text);
    }

    /// Takes in a stretch of a server's record, and leaves out everything that ended before this time.
    pub fn take_window(&mut self, stretch: &Stretch, from_us: u64) {
        let since_us = stretch.since_us().unwrap_or(from_us);
        let from_us = from_us.max(since_us);
        self.resume(stretch);
        let (before, within) =
            stretch.moments.split_at(stretch.moments.partition_point(|moment| moment.at_us < from_us));
        before.iter().for_each(|moment| self.take(moment));
        self.skip_to(from_us);
        // Moments within the window are missing.
        if since_us == from_us && stretch.before.seq > 0 {
            self.tracks.forgotten(stretch.before.seq, from_us);
        }
        within.iter().for_each(|moment| self.take(moment));
    }

    /// Takes over the state before the first moment.
    fn resume(&mut self, stretch: &Stretch) {
        self.state = RecordState::from(stretch.before.clone());
        let read = self.state.held().filter(|(_, held)| held.target.is_some() && !held.peeked);
        self.begun = read.map(|(thread, _)| (thread, Begun::default())).collect();
        self.state.threads().for_each(|thread| self.tracks.add(thread));
    }

    /// Drops all events so far, and restarts the intervals that are still open.
    fn skip_to(&mut self, from_us: u64) {
        self.tracks.skip_to(from_us);
        for (thread, held) in self.state.held().filter(|(thread, _)| self.begun.contains_key(thread)) {
            let target = held.target.as_deref().unwrap_or_default();
            let mut args = arguments(held, target);
            args["since_us"] = held.started_us.into();
            self.tracks.on_thread(thread, from_us, Phase::Begin, super::called(held), args);
        }
        for held in self.state.todo().filter(|held| held.peeked) {
            self.tracks.wait_begins(held, &name_of(held.target.as_deref().unwrap_or_default()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use serde_json::Value;

    use super::*;
    use ninetabs_server::timeline::{CAPACITY, Subject, Timeline, What};

    /// Tab 1 streams on thread 1 from second 0, `/up` is answered in second 1, tab 3 waits from second 2 to 4.
    fn recorded() -> Timeline {
        let timeline = Timeline::simulated();
        let subject = |request| Some(Subject { connection: request, port: 40_000, request });
        let say = |thread: Option<usize>, request, what| timeline.record(thread, subject(request), what);
        let pass = |seconds| timeline.let_pass(Duration::from_secs(seconds));
        (1..=2).for_each(|thread| timeline.record(Some(thread), None, What::Spawned));
        for (thread, request, target) in [(1, 1, "/models/live_stream?tab=1"), (2, 2, "/up")] {
            say(None, request, What::Queued);
            say(Some(thread), request, What::Started);
            say(Some(thread), request, What::accepted("GET", target));
            say(Some(thread), request, What::Wrote { bytes: 9 });
            pass(1);
        }
        say(Some(1), 1, What::Streaming);
        say(Some(2), 2, What::Answered { status: 200, bytes: 9, duration_us: 1_000_000 });
        say(None, 3, What::Queued);
        say(None, 3, What::peeked("GET", "/models/live_stream?tab=3"));
        pass(1);
        timeline.record(None, None, What::Ordered { text: "closed tab 1".into() });
        say(None, 1, What::ClientClosed);
        pass(1);
        say(Some(1), 1, What::Wrote { bytes: 9 });
        say(Some(2), 3, What::Started);
        say(Some(2), 3, What::accepted("GET", "/models/live_stream?tab=3"));
        timeline
    }

    /// The events as `phase name seconds`, without those that name processes and threads, and the names of the threads.
    fn window(timeline: &Timeline, from_us: u64, to_us: u64) -> (Vec<String>, Vec<String>) {
        let mut process = TraceProcess::new(1, "a server");
        process.take_window(&timeline.until(to_us), from_us);
        process.end(to_us);
        let events: Vec<Value> =
            process.drain().iter().map(|event| serde_json::to_value(event).unwrap()).collect();
        let (names, events): (Vec<_>, Vec<_>) = events.iter().partition(|event| event["ph"] == "M");
        let line = |event: &Value| {
            let seconds = event["ts"].as_f64().unwrap() / 1e6;
            format!("{} {} {seconds}", event["ph"].as_str().unwrap(), event["name"].as_str().unwrap())
        };
        let threads = names.iter().filter(|event| event["name"] == "thread_name");
        let threads = threads.map(|event| event["args"]["name"].as_str().unwrap().to_owned());
        (events.into_iter().map(line).collect(), threads.collect())
    }

    #[test]
    fn an_interval_that_began_before_a_window_begins_at_its_edge_and_one_that_ended_is_left_out() {
        let (events, threads) = window(&recorded(), 2_500_000, 9_000_000);
        assert_eq!(
            events,
            [
                "B tab 1 2.5",
                "b todo: tab 3 2.5",
                "i closed tab 1 3",
                "i client closed 3",
                "i write 4",
                "e todo: tab 3 4",
                "B tab 3 4",
                "E tab 1 9",
                "E tab 3 9",
            ]
        );
        assert_eq!(threads, ["front door", "stream reaper", "puma srv tp 001", "puma srv tp 002"]);
    }

    #[test]
    fn a_window_ends_at_its_right_edge() {
        let (events, _) = window(&recorded(), 0, 1_500_000);
        assert_eq!(
            events,
            [
                "i spawned 0",
                "i spawned 0",
                "b todo: tab 1 0",
                "e todo: tab 1 0",
                "B tab 1 0",
                "i write 0",
                "b todo: /up 1",
                "e todo: /up 1",
                "B /up 1",
                "i write 1",
                "E tab 1 1.5",
                "E /up 1.5"
            ]
        );
        assert_eq!(window(&Timeline::simulated(), 0, 0).0, [""; 0]);
    }

    #[test]
    fn a_window_over_forgotten_moments_begins_with_the_state_after_them_and_says_how_many() {
        let timeline = recorded();
        let first = Some(Subject { connection: 1, port: 40_000, request: 1 });
        for _ in 0..2 * CAPACITY {
            timeline.let_pass(Duration::from_millis(1));
            timeline.record(Some(1), first, What::Wrote { bytes: 9 });
        }
        let now_us = timeline.now_us();
        let stretch = timeline.until(now_us);
        let forgotten = stretch.before.seq;
        let (events, _) = window(&timeline, 0, now_us);
        let since = stretch.since_us().unwrap() as f64 / 1e6;
        assert_eq!(
            events[..3],
            [
                format!("B tab 1 {since}"),
                format!("B tab 3 {since}"),
                format!("i {forgotten} moments were dropped before they could be written {since}")
            ]
        );
        let counts = events.iter().fold(BTreeMap::new(), |mut counts, event| {
            *counts.entry(event.split(' ').next().unwrap().to_owned()).or_insert(0) += 1;
            counts
        });
        assert_eq!((counts["B"], counts["E"], counts["i"]), (2, 2, stretch.moments.len() + 1));
        // A later window is complete.
        let (events, _) = window(&timeline, now_us - 10_000, now_us);
        assert!(events.iter().all(|event| !event.contains("dropped")), "{events:?}");
        assert_eq!(events.len(), 2 + 11 + 2);
    }
}
