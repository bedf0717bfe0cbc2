//! The state of the screen that keys change: scrolling, pause and help.

/// Rows above the lanes.
pub const HEAD: u16 = 4;

/// The state of the screen.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    /// The first row of the lanes that is shown.
    pub scroll: usize,
    pub paused: bool,
    pub help: bool,
    pub colors: bool,
    /// Whether keys can be pressed, and are therefore shown.
    pub keys: bool,
    /// The reason why no answers are arriving, if there is one. It can also appear during a pause.
    pub silence: Option<&'a str>,
}

/// The number of lanes, and how many of them were drawn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scrolled {
    pub rows: usize,
    pub shown: usize,
}

impl Scrolled {
    /// The last row to which the lanes can be scrolled.
    pub fn last(self) -> usize {
        self.rows.saturating_sub(self.shown)
    }
}
