//! A stretch of the record: all known moments up to a time, and the state before them. By adding the moments one by one
//! to that state, a reader gets the state at any time in the stretch, even if older moments have been forgotten.

use super::{COPIED_AT_ONCE, Moment, Snapshot, Timeline};

/// The known moments up to a time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stretch {
    /// The state before the first of the moments. Its `seq` is the number of moments that have been forgotten.
    pub before: Snapshot,
    /// The moments, oldest first, without gaps.
    pub moments: Vec<Moment>,
}

impl Stretch {
    /// Returns the time, in microseconds, from which `moments` is complete. `None` if all moments have been forgotten.
    pub fn since_us(&self) -> Option<u64> {
        if self.before.seq == 0 { Some(0) } else { self.moments.first().map(|first| first.at_us) }
    }
}

impl Timeline {
    /// Returns the moments that are still known up to this time, in microseconds on the timeline's clock. They are
    /// copied in pieces of [`COPIED_AT_ONCE`], so recording waits for at most one piece, or for the copy of a snapshot.
    pub fn until(&self, at_us: u64) -> Stretch {
        let mut stretch = Stretch::default();
        let mut last = 0;
        while let Some(ring) = self.ring() {
            // This is the case at the beginning, and when moments were forgotten before they were copied.
            if last < ring.snapshot.seq {
                stretch = Stretch { before: ring.snapshot.clone(), moments: Vec::new() };
                last = ring.snapshot.seq;
            }
            let first = ring.moments.len() - (ring.last_seq - last) as usize;
            let next = ring.moments.range(first..).take(COPIED_AT_ONCE);
            let piece: Vec<_> = next.take_while(|moment| moment.at_us <= at_us).cloned().collect();
            drop(ring);
            let Some(newest) = piece.last() else { break };
            last = newest.seq;
            stretch.moments.extend(piece);
        }
        stretch
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{CAPACITY, Subject, What};
    use super::*;

    fn queue(timeline: &Timeline, request: u64) {
        timeline.let_pass(Duration::from_millis(1));
        timeline.record(None, Some(Subject { connection: request, port: 1, request }), What::Queued);
    }

    #[test]
    fn a_stretch_ends_at_its_time_and_begins_with_the_oldest_known_moment() {
        let timeline = Timeline::simulated();
        assert_eq!(timeline.until(9), Stretch::default());
        (1..=3).for_each(|request| queue(&timeline, request));
        let seqs = |at_us| timeline.until(at_us).moments.iter().map(|moment| moment.seq).collect::<Vec<_>>();
        assert_eq!(
            (seqs(0), seqs(1_999), seqs(2_000), seqs(9_000)),
            (vec![], vec![1], vec![1, 2], vec![1, 2, 3])
        );
        assert_eq!(timeline.until(2_000).since_us(), Some(0));
    }

    #[test]
    fn forgotten_moments_are_in_the_state_before_a_stretch() {
        let timeline = Timeline::simulated();
        (1..=2 * CAPACITY as u64).for_each(|request| queue(&timeline, request));
        let stretch = timeline.until(timeline.now_us());
        let forgotten = stretch.before.seq;
        assert!(forgotten > 0 && stretch.before.todo.len() as u64 == forgotten);
        assert_eq!(stretch.moments.first().map(|moment| moment.seq), Some(forgotten + 1));
        assert_eq!(stretch.moments.last().map(|moment| moment.seq), Some(2 * CAPACITY as u64));
        assert_eq!(stretch.since_us(), Some(1_000 * (forgotten + 1)));
        // The result is the same state as that of the whole timeline.
        let mut state = stretch.before;
        stretch.moments.iter().for_each(|moment| state.take(moment));
        assert_eq!(state, timeline.snapshot());
        // A time before all known moments.
        let stretch = timeline.until(5_000);
        assert_eq!((stretch.moments.len(), stretch.since_us()), (0, None));
    }
}
