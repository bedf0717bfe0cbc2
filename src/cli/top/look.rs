//! How a person looks at the screen: what is scrolled to, what is asked to be seen.

/// Rows above the lanes.
pub const HEAD: u16 = 4;

/// How the view is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    /// The first row of the lanes that is shown.
    pub scroll: usize,
    pub paused: bool,
    pub help: bool,
    pub colours: bool,
    /// Whether there is a keyboard: its keys are named.
    pub keys: bool,
    /// Why no answers come now, which may be while the picture stands still.
    pub silence: Option<&'a str>,
}

/// How many rows of lanes there are, and how many of them were drawn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scrolled {
    pub rows: usize,
    pub shown: usize,
}

impl Scrolled {
    /// The last row that may be the first one shown.
    pub fn last(self) -> usize {
        self.rows.saturating_sub(self.shown)
    }
}
