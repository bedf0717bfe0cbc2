//! Connections that hold nothing but themselves.

use super::{PageAsk, PageOutcome, WaitPlace};

/// Connections that hold nothing but themselves, and the pages beside them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldConnections {
    /// How many were opened.
    pub n: usize,
    /// How many were open before the pages were asked.
    pub open_before: usize,
    /// How many were open afterwards.
    pub open_after: usize,
    /// One ask per path.
    pub pages: Vec<(String, PageAsk)>,
    /// Where the connections themselves were; the most frequent place.
    pub place: Option<WaitPlace>,
}

impl HeldConnections {
    /// Whether the server closed them before the pages were asked, so that the experiment says nothing.
    pub fn is_untestable(&self) -> bool {
        self.n > 0 && self.open_before * 2 < self.n
    }

    /// Whether every page was answered.
    pub fn leave_pages_answered(&self) -> bool {
        self.pages.iter().all(|(_, ask)| ask.outcome == PageOutcome::Answered)
    }

    /// Whether they stop a page, also if the server closed some of them to answer it.
    pub fn stop_a_page(&self) -> bool {
        !self.leave_pages_answered() || self.were_closed_for_the_page()
    }

    /// Whether the server closed some of them while a page waited.
    pub fn were_closed_for_the_page(&self) -> bool {
        self.open_after < self.open_before
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_page_that_is_answered_when_the_server_closes_some_counts_as_stopped() {
        let held = |open_after, outcome| {
            let ask = PageAsk { outcome, time: Duration::ZERO, place: None };
            let pages = vec![("/".to_owned(), ask)];
            HeldConnections { n: 4, open_before: 4, open_after, pages, place: None }
        };
        assert!(!held(4, PageOutcome::Answered).stop_a_page());
        assert!(held(3, PageOutcome::Answered).stop_a_page());
        assert!(held(4, PageOutcome::Nothing).stop_a_page());
        assert!(held(4, PageOutcome::Status(503)).stop_a_page());
    }
}
