//! Text in lines that fit the terminal.

/// The maximum number of lines of a text.
const MOST_LINES: usize = 4;

/// Breaks a text between words into at most [`MOST_LINES`] lines. A word that is longer than a line is split.
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let mut rest = word;
        loop {
            let line = lines.last().map_or(0, |line| console::measure_text_width(line));
            let gap = usize::from(line > 0);
            if line + gap + console::measure_text_width(rest) <= width {
                break;
            }
            if line > 0 {
                lines.push(String::new());
                continue;
            }
            let piece = console::truncate_str(rest, width.max(2), "").into_owned();
            rest = &rest[piece.len()..];
            if let Some(last) = lines.last_mut() {
                *last = piece;
            }
            lines.push(String::new());
        }
        if let Some(last) = lines.last_mut() {
            let gap = if last.is_empty() { "" } else { " " };
            last.push_str(gap);
            last.push_str(rest);
        }
    }
    lines.truncate(MOST_LINES);
    lines
}
