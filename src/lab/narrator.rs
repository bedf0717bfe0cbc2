//! The output of `reproduce` while it runs: lanes that are redrawn in place on a terminal, plain lines
//! elsewhere, and nothing with `--json`.
//!
//! An act fits on a screen of 24 rows. [`Narrator`] counts the rows of the act. If there are too many, pictures fold
//! lanes and short claims share a line. A taller terminal shows more of both.

mod rows;

use std::io::{self, IsTerminal, Write};

use console::{Style, Term};

use super::claim::Claim;
use super::lanes::{LABELS, LEGEND};
use super::record::Record;
use super::signs::Signs;
use ninetabs_server::escape::printable;
use rows::{LABEL, Picture, style};

/// The minimum number of rows for an act. Also used if the size of the terminal is unknown.
const ROWS: usize = 24;
/// Width of the margin, in columns.
const MARGIN: usize = LABEL;
/// Maximum number of columns that are used.
const MOST_COLUMNS: usize = 120;
/// The gap between claims that share a line.
const GAP: &str = "   ";

/// Where the output goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Output goes to a terminal. Lanes are redrawn in the same place.
    InPlace,
    /// Output goes to a file, a pipe or a dumb terminal. Each picture is printed once.
    Plain,
    /// Nothing is printed. The caller prints the verdict.
    Silent,
}

/// Prints what happens, as it happens.
#[derive(Debug)]
pub struct Narrator {
    term: Term,
    manner: Manner,
    signs: Signs,
    caption: String,
    /// Lines of the last drawing, which the next one replaces.
    drawn: usize,
    /// Rows of the act so far.
    used: usize,
    /// The first write that failed.
    failed: Option<io::Error>,
}

impl Narrator {
    /// Prints to standard output: in place on a terminal, plain elsewhere.
    pub fn to_stdout() -> Narrator {
        let term = Term::stdout();
        let moves = term.is_term() && std::env::var_os("TERM").is_some_and(|name| name != "dumb");
        if std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) {
            console::set_colors_enabled(false);
        }
        Narrator::new(term, if moves { Manner::InPlace } else { Manner::Plain })
    }

    pub fn silent() -> Narrator {
        Narrator::new(Term::stdout(), Manner::Silent)
    }

    fn new(term: Term, manner: Manner) -> Narrator {
        let signs = Signs::from_environment();
        Narrator { term, manner, signs, caption: String::new(), drawn: 0, used: 0, failed: None }
    }

    /// Prints a paragraph, wrapped at the terminal's width.
    pub fn say(&mut self, text: &str) {
        self.settle();
        for line in wrapped(&self.signs.text(text), self.width()) {
            self.line(&line);
        }
    }

    /// Prints the lines of a table as they are.
    pub fn rows(&mut self, lines: &[String]) {
        self.settle();
        for line in lines {
            self.line(&self.signs.text(line));
        }
    }

    /// Prints the title of an act, and begins to count its rows.
    pub fn title(&mut self, text: &str) {
        self.settle();
        self.line("");
        self.used = 0;
        for line in wrapped(&self.signs.text(text), self.width()) {
            self.line(&Style::new().bold().apply_to(line).to_string());
        }
    }

    /// Sets the caption of the next picture.
    pub fn caption(&mut self, text: &str) {
        self.settle();
        text.clone_into(&mut self.caption);
    }

    /// Prints the legend of all pictures.
    pub fn legend(&mut self) {
        let cells =
            LEGEND.map(|(cell, word)| (style(cell).apply_to(self.signs.glyph(cell)).to_string(), word));
        let labels = LABELS.map(|(label, words)| (label.to_owned(), words));
        let (mut line, mut used) = (String::new(), 0);
        for (sign, word) in cells.into_iter().chain(labels) {
            let width = console::measure_text_width(&sign) + console::measure_text_width(word) + 3;
            // The gap after the last entry is not counted.
            if used + width - 1 > self.width() {
                self.line(line.trim_end());
                (line, used) = (String::new(), 0);
            }
            line.push_str(&format!(" {sign} {word} "));
            used += width;
        }
        self.line(line.trim_end());
    }

    /// Prints a word in the margin, and a paragraph beside it.
    pub fn entry(&mut self, word: &str, text: &str) {
        self.settle();
        for (number, line) in self.beside_the_margin(text).iter().enumerate() {
            let margin = if number == 0 { word } else { "" };
            self.line(&format!("{margin:<MARGIN$}{line}"));
        }
    }

    fn beside_the_margin(&self, text: &str) -> Vec<String> {
        wrapped(&self.signs.text(text), self.width().saturating_sub(MARGIN))
    }

    /// Prints the claims, each with its sign, and the cause. Claims share lines if the act is too long otherwise.
    pub fn verdict(&mut self, claims: &[Claim], why: &str) {
        self.settle();
        let beneath = self.beside_the_margin(why).len();
        // One more row is for the prompt of `--step`, or for the blank line before the next act.
        let left = self.height().saturating_sub(self.used + beneath + 1);
        let single: Vec<Vec<String>> = claims.iter().map(|claim| self.claim(claim)).collect();
        let lines = if single.iter().map(Vec::len).sum::<usize>() <= left {
            single.concat()
        } else {
            let mut single = single.into_iter();
            let scenes = claims.chunk_by(|_, next| !next.begins_scene).map(<[Claim]>::len);
            scenes.flat_map(|count| packed(single.by_ref().take(count), self.width())).collect()
        };
        lines.iter().for_each(|line| self.line(line));
        self.entry("Why", why);
    }

    fn claim(&self, claim: &Claim) -> Vec<String> {
        let style = if claim.held { Style::new().green() } else { Style::new().red().bold() };
        let indent = self.signs.mark_width() + 2;
        let sentence = claim.sentence();
        let lines = wrapped(&self.signs.text(&sentence), self.width().saturating_sub(indent));
        let mark = self.signs.mark(claim.held);
        let margin = |number: usize| match number {
            0 => {
                let blanks = " ".repeat(indent - 1 - console::measure_text_width(mark));
                format!(" {}{blanks}", style.apply_to(mark))
            }
            _ => " ".repeat(indent),
        };
        lines.iter().enumerate().map(|(number, line)| format!("{}{line}", margin(number))).collect()
    }

    /// Redraws the current lanes in the same place.
    pub fn watch(&mut self, record: &Record, from_us: u64) {
        if self.manner == Manner::InPlace {
            let rows = self.picture().rows(record, from_us, rows::MOST_LANES);
            self.replace(&rows);
        }
    }

    /// Prints the finished picture, with at most this many lanes on a screen of 24 rows.
    pub fn lanes(&mut self, record: &Record, from_us: u64, most: usize) {
        if self.manner == Manner::Silent {
            return;
        }
        let most = (most + self.height() - ROWS).min(rows::MOST_LANES);
        let rows = self.picture().rows(record, from_us, most);
        self.replace(&rows);
        self.settle();
    }

    fn picture(&self) -> Picture<'_> {
        Picture { signs: self.signs, caption: &self.caption, width: self.width() }
    }

    /// Prints a prompt for a line of input. On a terminal, [`Narrator::answered`] erases it.
    pub fn prompt(&mut self, text: &str) {
        self.settle();
        match self.is_answered_in_place() {
            // The user's Enter ends the line.
            true => self.write(format_args!("{text} ")),
            false => self.line(text),
        }
        let flushed = io::stdout().flush();
        self.note(flushed);
    }

    /// Erases the prompt after it was answered with Enter or the end of standard input.
    pub fn answered(&mut self, is_entered: bool) {
        if self.is_answered_in_place() {
            // Without Enter, the cursor is still after the prompt.
            if !is_entered {
                self.write(format_args!("\n"));
            }
            // If the terminal is gone, this is reported at the end.
            let _ = self.term.clear_last_lines(1);
        }
    }

    fn is_answered_in_place(&self) -> bool {
        self.manner == Manner::InPlace && io::stdin().is_terminal()
    }

    /// Returns the first error in printing, if there was one.
    pub fn written(&mut self) -> io::Result<()> {
        let flushed = io::stdout().flush();
        self.failed.take().map_or(flushed, Err)
    }

    /// Ends the output of an interrupted run, so that the next output begins on a new line.
    pub fn leave(&mut self) {
        self.settle();
        if self.manner == Manner::InPlace {
            self.line("");
        }
    }

    fn replace(&mut self, rows: &[String]) {
        // If the terminal is gone, this is reported at the end.
        let _ = self.term.clear_last_lines(self.drawn);
        self.used = self.used.saturating_sub(self.drawn);
        self.drawn = 0;
        for row in rows {
            self.line(row);
        }
        self.drawn = if self.manner == Manner::InPlace { rows.len() } else { 0 };
    }

    /// Keeps the last drawing: the next one does not replace it.
    fn settle(&mut self) {
        self.drawn = 0;
    }

    fn line(&mut self, text: &str) {
        self.used += 1;
        self.write(format_args!("{text}\n"));
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        if self.manner != Manner::Silent {
            let written = io::stdout().write_fmt(text);
            self.note(written);
        }
    }

    /// Keeps the first error in printing. The claims are still checked, and the command reports the lost output at its
    /// end.
    fn note(&mut self, written: io::Result<()>) {
        if let Err(error) = written {
            self.failed.get_or_insert(error);
        }
    }

    fn width(&self) -> usize {
        let columns = usize::from(self.term.size().1);
        if self.manner == Manner::InPlace { columns.clamp(40, MOST_COLUMNS) } else { 80 }
    }

    fn height(&self) -> usize {
        let rows = usize::from(self.term.size().0);
        if self.manner == Manner::InPlace { rows.max(ROWS) } else { ROWS }
    }
}

/// Puts claims of one line next to each other, in order, where they fit.
fn packed(claims: impl Iterator<Item = Vec<String>>, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut is_open = false;
    for claim in claims {
        let is_single = claim.len() == 1;
        match (lines.last_mut(), claim.as_slice()) {
            (Some(last), [text])
                if is_open
                    && console::measure_text_width(last) + GAP.len() + console::measure_text_width(text)
                        - 1
                        <= width =>
            {
                last.push_str(GAP);
                last.push_str(text.strip_prefix(' ').unwrap_or(text));
            }
            _ => lines.extend(claim),
        }
        is_open = is_single;
    }
    lines
}

/// Breaks a text into lines, between words only.
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    // The text may quote the server under test, so it is escaped.
    for word in text.split_whitespace().map(printable) {
        if !line.is_empty()
            && console::measure_text_width(&line) + 1 + console::measure_text_width(&word) > width
        {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&word);
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_never_split() {
        assert_eq!(wrapped("one two  three", 7), ["one two", "three"]);
        assert_eq!(wrapped("incomprehensible", 4), ["incomprehensible"]);
    }

    #[test]
    fn claims_share_a_line_where_they_fit() {
        let claims = [" ✓ one", " ✓ two", " ✗ three is long"].map(|line| vec![line.to_owned()]);
        let mut claims = claims.to_vec();
        claims.push(vec![" ✓ four".into(), "   continued".into()]);
        claims.push(vec![" ✓ five".into()]);
        let lines = packed(claims.into_iter(), 20);
        assert_eq!(lines, [" ✓ one   ✓ two", " ✗ three is long", " ✓ four", "   continued", " ✓ five"]);
        assert_eq!(packed([vec![" ✓ one".into()], vec![" ✓ two".into()]].into_iter(), 13).len(), 2);
    }
}
