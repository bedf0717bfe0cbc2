//! The warnings of a server, above the lanes or the history, the most serious first. The control server of a ninetabs
//! computes them; for a Puma, [`super::full_pool`] does.

use ratatui::style::{Color, Style};

use super::canvas::Canvas;
use super::look::HEAD;
use super::numbers::WarningAnswer;
use super::view::TopView;
use super::wrap::wrapped;
use ninetabs_server::escape::printable;

/// The maximum number of warnings that are shown.
const MOST: usize = 3;
/// The sign before each warning, and the columns that it takes.
const SIGN: &str = "▲ ";
const INDENT: usize = 2;
/// The rows that are reserved for lanes, queue and events if there is not enough space for everything.
pub const REST: usize = 15;
/// The rows that are reserved for the history of a Puma and some of its workers.
pub const REST_OF_A_PUMA: usize = 6;

/// The rows of all warnings with their remedies, in this many columns.
pub fn height_of_all(view: &TopView, width: u16) -> usize {
    shown(view).map(|warning| lines(&warning.whole(), width).len()).sum()
}

fn shown(view: &TopView) -> impl Iterator<Item = &WarningAnswer> {
    view.stats.warnings.iter().take(MOST)
}

fn lines(text: &str, width: u16) -> Vec<String> {
    wrapped(&printable(text), usize::from(width).saturating_sub(INDENT))
}

impl Canvas<'_> {
    /// Draws the warnings below the numbers, and returns the first row below them. `rest` rows are reserved below
    /// them: if the remedies do not fit, they are left out, and so are warnings that do not fit.
    pub fn warnings(&mut self, view: &TopView, bottom: u16, rest: usize) -> u16 {
        let width = self.area.width;
        let room = usize::from(bottom.saturating_sub(HEAD)).saturating_sub(rest);
        let is_whole = height_of_all(view, width) <= room;
        let style = self.color(Style::new(), Color::Yellow);
        let mut y = HEAD;
        for warning in shown(view) {
            let text = if is_whole { warning.whole() } else { warning.text.clone() };
            let lines = lines(&text, width);
            if usize::from(y - HEAD) + lines.len() > room {
                break;
            }
            for (number, line) in lines.iter().enumerate() {
                let sign = if number == 0 { SIGN } else { "" };
                self.pen(y).put(sign, style).tab(INDENT as u16).put(line, style);
                y += 1;
            }
        }
        y
    }
}
