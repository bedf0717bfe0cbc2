//! The clock of a simulation and its events, earliest first.
//!
//! Events at the same time happen in the order in which they were scheduled, so a run depends only on its seed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Events that are due later. Times are in microseconds since the start of the run.
#[derive(Debug)]
pub struct Agenda<E> {
    now_us: u64,
    scheduled: u64,
    due: BinaryHeap<Reverse<Appointment<E>>>,
}

#[derive(Debug)]
struct Appointment<E> {
    at_us: u64,
    number: u64,
    event: E,
}

impl<E> Appointment<E> {
    fn key(&self) -> (u64, u64) {
        (self.at_us, self.number)
    }
}

impl<E> PartialEq for Appointment<E> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<E> Eq for Appointment<E> {}

impl<E> PartialOrd for Appointment<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Appointment<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl<E> Default for Agenda<E> {
    fn default() -> Self {
        Agenda { now_us: 0, scheduled: 0, due: BinaryHeap::new() }
    }
}

impl<E> Agenda<E> {
    /// The time of the current event.
    pub fn now_us(&self) -> u64 {
        self.now_us
    }

    /// Schedules an event. If the time is in the past, the event happens now.
    pub fn at(&mut self, at_us: u64, event: E) {
        self.scheduled += 1;
        let at_us = at_us.max(self.now_us);
        self.due.push(Reverse(Appointment { at_us, number: self.scheduled, event }));
    }

    /// Schedules an event after this time.
    pub fn after(&mut self, delay_us: u64, event: E) {
        self.at(self.now_us.saturating_add(delay_us), event);
    }

    /// Moves the clock to the next event and returns it, unless it is due after `until_us`.
    pub fn next_until(&mut self, until_us: u64) -> Option<E> {
        if self.due.peek()?.0.at_us > until_us {
            return None;
        }
        let Reverse(Appointment { at_us, event, .. }) = self.due.pop()?;
        self.now_us = at_us;
        Some(event)
    }

    /// Moves the clock to the end of the run.
    pub fn end(&mut self, at_us: u64) {
        self.now_us = self.now_us.max(at_us);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_ordered_by_time_and_then_by_the_order_of_scheduling() {
        let mut agenda = Agenda::default();
        for (at_us, event) in [(30, 'd'), (10, 'a'), (20, 'b'), (20, 'c'), (99, 'e')] {
            agenda.at(at_us, event);
        }
        let mut seen = Vec::new();
        while let Some(event) = agenda.next_until(50) {
            seen.push((agenda.now_us(), event));
        }
        assert_eq!(seen, [(10, 'a'), (20, 'b'), (20, 'c'), (30, 'd')]);
        agenda.at(5, 'f');
        assert_eq!((agenda.next_until(50), agenda.now_us()), (Some('f'), 30), "not in the past");
    }
}
