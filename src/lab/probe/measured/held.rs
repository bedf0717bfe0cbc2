//! Connections that hold nothing but themselves.

use super::{PageAsk, WaitPlace};

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

    /// Whether the server closed some of them while a page waited.
    pub fn were_closed_for_the_page(&self) -> bool {
        self.open_after < self.open_before
    }
}
