//! The drawing tools of the screen: a pen that stops at the end of the row, colors, and a few shapes.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};

use console::measure_text_width;

use crate::lab::lanes::{Cell, LEGEND, Lane};
use ninetabs_server::escape::printable;

/// Columns of a lane's label.
pub const LABEL: u16 = 8;

/// The cells, and whether colors may be used.
pub struct Canvas<'a> {
    pub buffer: &'a mut Buffer,
    pub area: Rect,
    pub colors: bool,
}

/// Writes on one row from left to right, up to the end of the row.
pub struct Pen<'a> {
    pub buffer: &'a mut Buffer,
    pub x: u16,
    pub y: u16,
    pub right: u16,
}

impl Pen<'_> {
    /// Appends a text, truncated at the end of the row.
    pub fn put(&mut self, text: &str, style: Style) -> &mut Self {
        let room = usize::from(self.right.saturating_sub(self.x));
        // Names and targets are text that the server's clients sent.
        let text = printable(text);
        self.x = self.buffer.set_stringn(self.x, self.y, text, room, style).0;
        self
    }

    /// Appends the whole text, or nothing.
    pub fn put_if_it_fits(&mut self, text: &str, style: Style) -> bool {
        let fits =
            console::measure_text_width(&printable(text)) <= usize::from(self.right.saturating_sub(self.x));
        if fits {
            self.put(text, style);
        }
        fits
    }

    /// Moves to a column, unless the pen is past it.
    pub fn tab(&mut self, x: u16) -> &mut Self {
        self.x = self.x.max(x);
        self
    }
}

impl Canvas<'_> {
    /// A pen at the beginning of a row.
    pub fn pen(&mut self, y: u16) -> Pen<'_> {
        Pen { x: self.area.x, y: self.area.y + y, right: self.area.right(), buffer: self.buffer }
    }

    /// The style in this color, if colors may be used.
    pub fn color(&self, style: Style, color: Color) -> Style {
        if self.colors { style.fg(color) } else { style }
    }

    /// The style of a number: highlighted if it needs attention.
    pub fn alarm(&self, is_on: bool) -> Style {
        if is_on { self.color(bold(), Color::Yellow) } else { Style::new() }
    }

    /// Writes names and numbers. The first one that does not fit is left out, as are all after it.
    pub fn items(&mut self, y: u16, label: &str, items: Vec<(&str, u64, bool)>) {
        let styles: Vec<Style> = items.iter().map(|(_, _, alarm)| self.alarm(*alarm)).collect();
        let mut pen = self.pen(y);
        if !label.is_empty() {
            pen.put(label, dim()).tab(LABEL);
        }
        let mut gap = "";
        for ((name, value, _), style) in items.into_iter().zip(styles) {
            // "database 8 of 8" reads as one item, so one space separates its parts.
            let before = if name == "of" { " " } else { gap };
            if !pen.put_if_it_fits(&format!("{before}{name} {value}"), style) {
                return;
            }
            gap = "  ";
        }
    }

    /// A lane: its label, its cells, and the request that holds it.
    pub fn lane(&mut self, y: u16, lane: &Lane, columns: usize) {
        let colors = self.colors;
        let mut pen = self.pen(y);
        // The time before the server started stays blank.
        let blank = (columns - lane.cells.len()) as u16;
        pen.put(&lane.label, Style::new()).tab(LABEL + blank);
        for run in lane.cells.chunk_by(|a, b| a == b) {
            let text: String = run.iter().map(|cell| cell.glyph()).collect();
            pen.put(&text, style(run[0], colors));
        }
        pen.put(" ", Style::new()).put(&lane.holder, Style::new());
    }

    /// The legend of the cells, or as much of it as fits.
    pub fn legend(&mut self, y: u16) {
        let colors = self.colors;
        let mut pen = self.pen(y);
        for (cell, word) in LEGEND {
            let glyph = cell.glyph().to_string();
            if console::measure_text_width(word) + 2 > usize::from(pen.right.saturating_sub(pen.x)) {
                return;
            }
            pen.put(&glyph, style(cell, colors)).put(&format!(" {word}  "), dim());
        }
    }
}

/// A share as a bar of this width.
pub fn bar(count: u64, of: u64, width: u16) -> String {
    let full =
        (u128::from(count.min(of)) * u128::from(width)).checked_div(u128::from(of)).unwrap_or_default();
    let full = full as usize;
    "█".repeat(full) + &"░".repeat(usize::from(width) - full)
}

/// A number as a vertical bar, in eighths of the maximum.
pub fn level(value: Option<u64>, of: u64) -> char {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    match value {
        None => ' ',
        Some(0) => '·',
        Some(value) => {
            let eighths = (u128::from(value.min(of)) * 8).div_ceil(u128::from(of.max(1)));
            LEVELS[eighths.clamp(1, 8) as usize - 1]
        }
    }
}

/// The text of a row. A wide character has two cells, the second of which is blank and left out.
pub(super) fn text_of(row: &[ratatui::buffer::Cell]) -> String {
    let mut text = String::new();
    let mut covered = 0;
    for cell in row {
        if covered > 0 {
            covered -= 1;
            continue;
        }
        text.push_str(cell.symbol());
        covered = measure_text_width(cell.symbol()).saturating_sub(1);
    }
    text
}

/// The same colors as in the lanes of `reproduce`.
fn style(cell: Cell, colors: bool) -> Style {
    let (style, color) = match cell {
        Cell::Empty => return Style::new(),
        Cell::Idle => return dim(),
        Cell::Held | Cell::ClientGone => (Style::new(), Color::Cyan),
        Cell::Wrote => (bold(), Color::Cyan),
        Cell::Queued | Cell::Blocked => (Style::new(), Color::Yellow),
        Cell::Reaped => (bold(), Color::Magenta),
        Cell::Failed => (bold(), Color::Red),
    };
    if colors { style.fg(color) } else { style }
}

pub fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

pub fn dim() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}
