//! The tabs. Each is an EventSource as a state machine, in a few bytes, because there may be millions of tabs.

/// The state of a tab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TabPlace {
    /// Before the first connection, or between two connections.
    Reconnects,
    /// The request is in the queue of a server, or on the way to it.
    Waits,
    /// A thread of a server holds the stream.
    Streams,
    /// The event loop of a server holds the stream.
    Listens,
}

/// One tab.
#[derive(Debug, Clone, Copy)]
pub struct SimulatedTab {
    pub state: TabPlace,
    /// The server of the connection.
    pub server: u16,
    /// The number of connections so far. Events of earlier connections are ignored.
    pub attempt: u32,
    pub turns: u32,
    /// The row before the first one that the tab received, and the last one that it received.
    pub first_row: u32,
    pub last_row: u32,
    /// When the last turn began, in microseconds.
    pub turn_us: u64,
    /// When the tab last received something, or was opened.
    pub heard_us: u64,
    pub longest_silence_us: u64,
}

/// A batch of rows did not follow the previous one: rows were missed or repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfOrder;

impl SimulatedTab {
    /// A tab that is opened at this time, and will receive the rows after this one.
    pub fn opened(now_us: u64) -> SimulatedTab {
        SimulatedTab {
            state: TabPlace::Reconnects,
            server: 0,
            attempt: 0,
            turns: 0,
            first_row: u32::MAX,
            last_row: u32::MAX,
            turn_us: 0,
            heard_us: now_us,
            longest_silence_us: 0,
        }
    }

    /// The `Last-Event-ID` that the tab sends. The first stream begins after the newest row.
    pub fn position(&self, newest: u32) -> u32 {
        if self.last_row == u32::MAX { newest } else { self.last_row }
    }

    /// Receives the rows after `from`, up to `to`.
    pub fn gets(&mut self, now_us: u64, from: u32, to: u32) -> Result<(), OutOfOrder> {
        self.longest_silence_us = self.longest_silence_us.max(now_us - self.heard_us);
        self.heard_us = now_us;
        if self.last_row == u32::MAX {
            self.first_row = from;
            self.last_row = from;
        }
        let is_next = from == self.last_row && to >= from;
        self.last_row = to;
        if is_next { Ok(()) } else { Err(OutOfOrder) }
    }

    /// Begins a turn. Returns the time since the previous turn began, if there was one.
    pub fn begins_turn(&mut self, now_us: u64) -> Option<u64> {
        let since = (self.turns > 0).then(|| now_us - self.turn_us);
        self.turns += 1;
        self.turn_us = now_us;
        since
    }

    /// The longest time without news so far.
    pub fn silence_us(&self, now_us: u64) -> u64 {
        self.longest_silence_us.max(now_us.saturating_sub(self.heard_us))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_is_missed_or_repeated_is_noticed() {
        let mut tab = SimulatedTab::opened(10);
        assert_eq!(tab.position(5), 5);
        assert_eq!(tab.gets(20, 5, 5), Ok(()));
        assert_eq!((tab.gets(50, 5, 8), tab.position(9)), (Ok(()), 8));
        assert_eq!(tab.gets(51, 9, 10), Err(OutOfOrder), "row 9 was missed");
        assert_eq!(tab.gets(52, 8, 11), Err(OutOfOrder), "rows 9 and 10 came twice");
        assert_eq!(tab.silence_us(100), 48);
    }
}
