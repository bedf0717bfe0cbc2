//! How a reader follows the timeline. It first gets the recent past and the current state, and after that new moments.
//! A reader that has missed moments gets the recent past and the current state again.

use super::{COPIED_AT_ONCE, Excerpt, Moment, Snapshot, Timeline};

/// How far back a new reader can see, in microseconds and in moments.
pub const PAST_US: u64 = 60_000_000;
pub const PAST_MOMENTS: u64 = 2_048;

/// The next piece for a reader of the timeline.
#[derive(Debug, Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(untagged))]
pub enum TimelineNews {
    /// The reader is new, or has missed moments.
    Anew(Past),
    /// The moments after the last one that the reader has.
    More(Excerpt),
}

/// The last minute, and the state at its end.
#[derive(Debug, Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Past {
    /// The current time, in microseconds on the timeline's clock.
    pub now_us: u64,
    /// The time, in microseconds, from which `moments` is complete.
    pub since_us: u64,
    /// The moments, oldest first.
    pub moments: Vec<Moment>,
    /// The state after the last moment.
    pub snapshot: Snapshot,
}

impl TimelineNews {
    /// Returns the number of the last moment that is included.
    pub fn last_seq(&self) -> u64 {
        match self {
            TimelineNews::Anew(past) => past.snapshot.seq,
            TimelineNews::More(excerpt) => excerpt.moments.last().map_or(0, |moment| moment.seq),
        }
    }
}

impl Timeline {
    /// Returns the next piece for a reader that has all moments up to number `seq`, or `None` if there is nothing new.
    pub fn follow(&self, seq: Option<u64>) -> Option<TimelineNews> {
        // A number that is too high may come from an earlier run of the server.
        let Some(seq) = seq.filter(|seq| *seq <= self.last_seq()) else {
            return Some(TimelineNews::Anew(self.past()));
        };
        let next = self.next_after(seq, COPIED_AT_ONCE);
        if next.forgotten > 0 {
            return Some(TimelineNews::Anew(self.past()));
        }
        (!next.moments.is_empty()).then_some(TimelineNews::More(next))
    }

    fn past(&self) -> Past {
        let snapshot = self.snapshot();
        let Excerpt { now_us, mut moments, .. } =
            self.up_to(snapshot.seq.saturating_sub(PAST_MOMENTS), snapshot.seq);
        let from_us = now_us.saturating_sub(PAST_US);
        let since_us = match moments.first() {
            // These are all the moments ever recorded, or they reach back more than a minute.
            Some(first) if first.seq == 1 || first.at_us < from_us => from_us,
            Some(first) => first.at_us,
            None if snapshot.seq == 0 => from_us,
            // So many moments have been recorded in the meantime that the ring has forgotten all of these.
            None => now_us,
        };
        moments.retain(|moment| moment.at_us >= since_us);
        Past { now_us, since_us, moments, snapshot }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{CAPACITY, Subject, What};
    use super::*;

    fn record(timeline: &Timeline, request: u64, what: What) {
        timeline.record(None, Some(Subject { connection: request, port: 1, request }), what);
    }

    fn past(timeline: &Timeline, seq: Option<u64>) -> Past {
        match timeline.follow(seq) {
            Some(TimelineNews::Anew(past)) => past,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_past_is_complete_from_the_time_that_it_states() {
        let timeline = Timeline::simulated();
        assert_eq!(past(&timeline, None).since_us, 0);
        timeline.let_pass(Duration::from_secs(3));
        record(&timeline, 1, What::Queued);
        assert_eq!(past(&timeline, None).since_us, 0, "nothing was recorded before that");
        timeline.let_pass(Duration::from_secs(100));
        let seen = past(&timeline, None);
        assert_eq!((seen.since_us, seen.moments.len(), seen.snapshot.todo.len()), (43_000_000, 0, 1));
        record(&timeline, 2, What::Queued);
        let seen = past(&timeline, None);
        assert_eq!(
            (seen.since_us, seen.moments.len()),
            (43_000_000, 1),
            "nothing else was recorded within the last minute"
        );
        for _ in 0..PAST_MOMENTS {
            timeline.let_pass(Duration::from_millis(1));
            record(&timeline, 3, What::Queued);
        }
        let seen = past(&timeline, None);
        assert_eq!((seen.since_us, seen.moments.len() as u64), (103_001_000, PAST_MOMENTS));
    }

    #[test]
    fn a_reader_continues_after_a_quiet_minute() {
        let timeline = Timeline::simulated();
        record(&timeline, 1, What::Queued);
        timeline.let_pass(Duration::from_secs(65));
        let last = past(&timeline, None).snapshot.seq;
        assert_eq!(last, 1, "the state must include earlier moments although the last minute is empty");
        assert!(timeline.follow(Some(last)).is_none());
        record(&timeline, 2, What::Queued);
        let Some(TimelineNews::More(more)) = timeline.follow(Some(last)) else { panic!() };
        assert_eq!(more.moments.iter().map(|moment| moment.seq).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn a_reader_that_missed_moments_starts_over() {
        let timeline = Timeline::simulated();
        for request in 0..=CAPACITY as u64 {
            record(&timeline, request, What::Queued);
        }
        assert_eq!(past(&timeline, Some(0)).snapshot.todo.len(), CAPACITY + 1);
        assert!(matches!(timeline.follow(Some(1)), Some(TimelineNews::More(_))));
        past(&timeline, Some(CAPACITY as u64 + 2));
    }
}
