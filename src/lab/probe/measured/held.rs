//! Connections without an open request: silent ones, and keep-alive ones whose page was answered.

use super::{PageAsk, PageOutcome, WaitPlace};

/// Connections without an open request, and the pages that were requested beside them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldConnections {
    /// How many were opened.
    pub n: usize,
    /// How many were open before the pages were requested.
    pub open_before: usize,
    /// How many were open afterwards.
    pub open_after: usize,
    /// One request per path.
    pub pages: Vec<(String, PageAsk)>,
    /// The most frequent place of the held connections themselves.
    pub place: Option<WaitPlace>,
}

impl HeldConnections {
    /// Whether the server closed most of them before the pages were requested, so that the experiment proves nothing.
    pub fn is_untestable(&self) -> bool {
        self.n > 0 && self.open_before * 2 < self.n
    }

    /// Whether every page was answered.
    pub fn leave_pages_answered(&self) -> bool {
        self.pages.iter().all(|(_, ask)| ask.outcome == PageOutcome::Answered)
    }

    /// Whether they stop a page. A page for which the server closed some of them counts as stopped.
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
    fn a_page_for_which_the_server_closes_held_connections_counts_as_stopped() {
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
