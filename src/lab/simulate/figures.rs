//! The figures of a run.

use serde::Serialize;

use super::pool::QueueLaws;
use super::spread::DurationSpread;

/// The figures of a run, for all servers together.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Figures {
    /// The time in the queue, for each turn that began.
    pub wait: DurationSpread,
    /// From the beginning of a turn to the beginning of the same tab's next turn.
    pub period: DurationSpread,
    pub turns: Turnout,
    pub pages: PageFigures,
    pub backlog: Backlog,
    pub joins: Joins,
    /// The longest time without news, one value per tab.
    pub silence: DurationSpread,
    pub tabs_at_end: TabsAtEnd,
    /// Answers of the balancer (502, 503) after which an EventSource gave up. Its page opened a new one.
    pub gave_up: u64,
    /// Connections that were cut.
    pub cuts: u64,
    /// Streams that ended because the database did not answer.
    pub streams_failed: u64,
    #[serde(skip)]
    pub checked: Checked,
}

/// Turns per tab.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Turnout {
    pub all: u64,
    pub per_tab: f64,
    pub fewest: u32,
    pub most: u32,
    pub tabs_without: u32,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct PageFigures {
    pub asked: u64,
    pub answered: u64,
    pub failed: u64,
    /// From the request to a thread.
    pub wait: DurationSpread,
}

/// Requests in the queues.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Backlog {
    /// The average over time, for all servers together.
    pub mean: f64,
    /// The longest queue of one server.
    pub longest: usize,
    /// At the end, for all servers together.
    pub at_end: usize,
}

/// Connections of tabs that reached a server, without the first one of each tab.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Joins {
    pub all: u64,
    pub most_in_a_second: u64,
    /// The second with the most connections, counted from 0.
    pub in_second: u64,
    #[serde(skip)]
    second: u64,
    #[serde(skip)]
    in_this_second: u64,
}

impl Joins {
    pub fn add(&mut self, now_us: u64) {
        let second = now_us / 1_000_000;
        if second != self.second {
            (self.second, self.in_this_second) = (second, 0);
        }
        self.in_this_second += 1;
        self.all += 1;
        if self.in_this_second > self.most_in_a_second {
            (self.most_in_a_second, self.in_second) = (self.in_this_second, second);
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct TabsAtEnd {
    pub waiting: u32,
    pub streaming: u32,
    pub reconnecting: u32,
}

/// The data by which the laws are checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checked {
    pub queues: QueueLaws,
    /// Tabs that were in no state or in two, summed over all checks.
    pub misplaced: u64,
    /// Batches of rows that did not follow the previous batch.
    pub out_of_order: u64,
    /// Streams that were opened within one reaper interval of another stream, and were reaped.
    pub twins: u64,
    /// How many of these were reaped in the same round as the other stream.
    pub twins_together: u64,
    /// The number of turns that began after all tabs were open, and the time when that was.
    pub later_turns: u64,
    pub later_since_us: u64,
}
