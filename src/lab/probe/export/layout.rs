//! The columns of a line on the terminal: a label, a sign per tab, a text, and a right part.

use console::{Style, measure_text_width};

use super::super::super::narrator::wrapped;
use super::super::super::signs::Signs;
use super::super::measured::{ProbedTab, TabOutcome};
use super::words::clean;

/// Columns of every line.
pub const WIDTH: usize = 80;
/// Columns of the label.
const LABEL: usize = 11;
/// Columns of the signs, including the gap after them.
const SIGNS: usize = 7;
/// The column at which the right part begins if the text leaves space for it.
const RIGHT: usize = 57;
/// The minimum gap between the text and the right part, in columns.
const GAP: usize = 3;

/// The sign of one tab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TabSign {
    /// Its stream delivers events.
    Flows,
    /// The tab waits, or was refused.
    Nothing,
    /// The tab's stream is open, and has delivered no event.
    NoEvent,
    /// The server ended the stream.
    Cut,
}

impl TabSign {
    /// The sign of a tab.
    pub fn of(tab: &ProbedTab) -> TabSign {
        match tab.outcome {
            TabOutcome::Flows | TabOutcome::Late => TabSign::Flows,
            TabOutcome::Cut => TabSign::Cut,
            TabOutcome::NoEvent => TabSign::NoEvent,
            _ => TabSign::Nothing,
        }
    }

    fn glyph(self, signs: Signs) -> char {
        match (signs, self) {
            (Signs::Unicode, TabSign::Flows) => '●',
            (Signs::Unicode, TabSign::Nothing) => '○',
            (Signs::Unicode, TabSign::NoEvent) => '◌',
            (Signs::Unicode, TabSign::Cut) => '×',
            (Signs::Plain, TabSign::Flows) => '*',
            (Signs::Plain, TabSign::Nothing) => 'o',
            (Signs::Plain, TabSign::NoEvent) => '.',
            (Signs::Plain, TabSign::Cut) => 'x',
        }
    }

    /// The colors are those of the lanes in the other commands.
    fn style(self) -> Style {
        match self {
            TabSign::Flows => Style::new().cyan(),
            TabSign::Nothing | TabSign::NoEvent => Style::new().yellow(),
            TabSign::Cut => Style::new().red(),
        }
    }
}

/// How lines are drawn.
#[derive(Debug, Clone, Copy)]
pub struct TextLook {
    /// Which characters may be printed.
    pub signs: Signs,
    /// Whether colors may be used.
    pub colors: bool,
}

impl TextLook {
    fn paint(self, style: Style, text: &str) -> String {
        if self.colors { style.force_styling(true).apply_to(text).to_string() } else { text.to_owned() }
    }

    /// Text in bold, for the verdict.
    pub fn strong(self, text: &str) -> String {
        self.paint(Style::new().bold(), text)
    }
}

/// One fact.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FactRow {
    /// The subject of the fact: `tabs 1-4`.
    pub label: String,
    /// The signs of its tabs. `None` for a fact that is not about tabs.
    pub signs: Option<Vec<TabSign>>,
    /// The fact.
    pub text: String,
    /// The pages beside the tabs, or what the server reports about itself.
    pub right: String,
}

impl FactRow {
    /// A fact that is not about tabs.
    pub fn fact(label: impl Into<String>, text: impl Into<String>) -> FactRow {
        FactRow { label: label.into(), text: text.into(), ..FactRow::default() }
    }

    /// A fact about tabs with these signs.
    pub fn of_tabs(label: impl Into<String>, signs: Vec<TabSign>, text: impl Into<String>) -> FactRow {
        FactRow { signs: Some(signs), ..FactRow::fact(label, text) }
    }

    /// The lines of the fact. None is wider than [`WIDTH`], except for a single word that is wider.
    pub fn lines(&self, look: TextLook) -> Vec<String> {
        let (lead, lead_width) = self.lead(look);
        let text = clean(&look.signs.text(&self.text)).into_owned();
        let right = clean(&look.signs.text(&self.right)).into_owned();
        let (text_width, right_width) = (measure_text_width(&text), measure_text_width(&right));
        let end = lead_width + text_width;
        let gap = if text.is_empty() { 0 } else { GAP };
        let at = RIGHT.max(end + gap);
        if !right.is_empty() && end + gap <= WIDTH && at + right_width <= WIDTH {
            return vec![format!("{lead}{text}{}{right}", " ".repeat(at - end))];
        }
        if !right.is_empty() && end + gap + right_width <= WIDTH {
            return vec![format!("{lead}{text}{}{right}", " ".repeat(WIDTH - right_width - end))];
        }
        let indent = " ".repeat(lead_width);
        let parts = [text, right].into_iter().filter(|part| !part.is_empty());
        let columns = WIDTH - lead_width;
        let wrap = |part: String| match measure_text_width(&part) <= columns {
            // Columns within a part are kept if possible.
            true => vec![part],
            false => wrapped(&part, columns),
        };
        let lines: Vec<String> = parts.flat_map(wrap).collect();
        if lines.is_empty() {
            return vec![lead.trim_end().to_owned()];
        }
        let led = |(number, line): (usize, String)| {
            if number == 0 { format!("{lead}{line}") } else { format!("{indent}{line}") }
        };
        lines.into_iter().enumerate().map(led).collect()
    }

    /// Label and signs, and their width.
    fn lead(&self, look: TextLook) -> (String, usize) {
        let padded = |text: String, width: usize, columns: usize| {
            let blanks = columns.saturating_sub(width).max(usize::from(width > 0));
            (text + &" ".repeat(blanks), width + blanks)
        };
        let (label, label_width) = padded(self.label.clone(), measure_text_width(&self.label), LABEL);
        let Some(signs) = &self.signs else { return (label, label_width) };
        let most = SIGNS - 1;
        // If there are many tabs, only the first ones are drawn.
        let shown = if signs.len() > most { &signs[..most - 1] } else { signs };
        let mut drawn = String::new();
        for run in shown.chunk_by(|one, other| one == other) {
            let glyphs: String = run.iter().map(|sign| sign.glyph(look.signs)).collect();
            drawn += &look.paint(run[0].style(), &glyphs);
        }
        if signs.len() > most {
            drawn.push(if look.signs == Signs::Unicode { '…' } else { '+' });
        }
        let (drawn, drawn_width) = padded(drawn, signs.len().min(most), SIGNS);
        (label + &drawn, label_width + drawn_width)
    }
}

/// Paragraphs with a word in the margin, as printed below the facts: `limit   DATABASE POOL`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarginEntry {
    /// The word in the margin of the first line.
    pub margin: &'static str,
    /// Each begins on a line of its own.
    pub paragraphs: Vec<String>,
}

/// Columns of the margin.
const MARGIN: usize = 8;
/// Columns of a paragraph beside the margin. It does not fill the line, because narrow paragraphs are easier to read.
const PARAGRAPH: usize = 69;

impl MarginEntry {
    /// Its lines, with a hanging indent.
    pub fn lines(&self, look: TextLook) -> Vec<String> {
        let paragraphs = self.paragraphs.iter().filter(|text| !text.is_empty());
        let lines = paragraphs.flat_map(|text| wrapped(&look.signs.text(text), PARAGRAPH));
        let led = |(number, line): (usize, String)| {
            let margin = if number == 0 { self.margin } else { "" };
            format!("{margin:<MARGIN$}{line}")
        };
        lines.enumerate().map(led).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub const PLAIN: TextLook = TextLook { signs: Signs::Unicode, colors: false };

    #[test]
    fn the_right_part_starts_at_its_column_or_is_right_aligned_or_wraps() {
        let mut row = FactRow::of_tabs("tab 5", vec![TabSign::Flows], "first event 208 ms");
        row.right = "/page 0/3   /up 3/3".to_owned();
        let line = "tab 5      ●      first event 208 ms                     /page 0/3   /up 3/3";
        assert_eq!(row.lines(PLAIN), [line]);
        row.text = "read; empty 200 after 5.0 s, and once more".to_owned();
        let (first, second) = (format!("tab 5      ●      {}", row.text), " ".repeat(18) + &row.right);
        assert_eq!(row.lines(PLAIN), [first, second]);
        row.text = "read; empty 200 after 5.0 s, again".to_owned();
        row.right = "/a 0/3   /b 3/3".to_owned();
        assert_eq!(measure_text_width(&row.lines(PLAIN)[0]), RIGHT + 15);
    }

    #[test]
    fn many_tabs_are_truncated_and_a_long_text_is_wrapped() {
        let row = FactRow::of_tabs("tabs 1-40", vec![TabSign::Flows; 40], "word ".repeat(40));
        let lines = row.lines(PLAIN);
        assert!(lines[0].starts_with("tabs 1-40  ●●●●●… word word"), "{lines:?}");
        assert!(lines.len() > 1 && lines.iter().all(|line| measure_text_width(line) <= WIDTH));
        assert!(lines[1].starts_with(&format!("{}word", " ".repeat(18))));
    }

    #[test]
    fn signs_without_utf_8_are_ascii_and_differ() {
        let look = TextLook { signs: Signs::Plain, colors: false };
        let all = [TabSign::Flows, TabSign::Nothing, TabSign::NoEvent, TabSign::Cut];
        let line = FactRow::of_tabs("tabs 1-4", all.to_vec(), "a – b").lines(look);
        assert_eq!(line, ["tabs 1-4   *o.x   a - b"]);
    }

    #[test]
    fn colors_do_not_change_the_width() {
        let row = FactRow::of_tabs("tabs 1-2", vec![TabSign::Flows, TabSign::Cut], "x");
        let painted = &row.lines(TextLook { colors: true, ..PLAIN })[0];
        assert!(painted.contains('\u{1b}'), "{painted:?}");
        assert_eq!(console::strip_ansi_codes(painted), row.lines(PLAIN)[0]);
    }
}
