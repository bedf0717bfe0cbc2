//! Compares the output of a command with the output in a document.

/// Whether a text matches the expected output, line by line. `…` matches anything within a line; alone on a line it
/// matches any number of lines. Ids, ports and times are masked.
pub fn prints(expected: &str, text: &str) -> bool {
    let (expected, text) = (masked_lines(expected), masked_lines(text));
    lines_match(&expected, &text)
}

/// Whether a text that may still grow already matches an expected output that ends with `…` on its own line.
pub fn is_complete(expected: &str, text: &str) -> bool {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    expected.trim_end().ends_with("\n…") && prints(expected, whole)
}

fn masked_lines(text: &str) -> Vec<String> {
    let text = text.replace('\r', "");
    text.trim().lines().map(|line| masked(line.trim_end())).collect()
}

fn lines_match(expected: &[String], text: &[String]) -> bool {
    match expected.split_first() {
        None => text.is_empty(),
        Some((any, rest)) if any == "…" => {
            (0..=text.len()).any(|skipped| lines_match(rest, &text[skipped..]))
        }
        Some((line, rest)) => {
            text.first().is_some_and(|first| line_matches(line, first)) && lines_match(rest, &text[1..])
        }
    }
}

fn line_matches(expected: &str, line: &str) -> bool {
    let Some((start, others)) = expected.split_once('…') else { return expected == line };
    let Some(mut rest) = line.strip_prefix(start) else { return false };
    let mut pieces: Vec<_> = others.split('…').collect();
    let last = pieces.pop().unwrap_or_default();
    for piece in pieces {
        let Some(found) = rest.find(piece) else { return false };
        rest = &rest[found + piece.len()..];
    }
    rest.ends_with(last)
}

/// Text before a number that differs in each run.
const BEFORE_IDS: [&str; 11] = [
    "\"id\":",
    "\\\"id\\\":",
    "id: ",
    "model ",
    "\"lastEventId\":\"",
    "\"request\":",
    "\"connection\":",
    "\"port\":",
    "\"age\":",
    "\"bytes\":",
    "\"number\":",
];

/// The same text with `#` in place of points in time, of ids, and of numbers that have a fraction or at least four
/// digits (times and ports).
fn masked(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let length = if first.is_ascii_digit() { number_length(rest) } else { 0 };
        let (is_masked, length) = match (timestamp_length(rest), length) {
            (length @ 1.., _) => (true, length),
            (0, 0) => (false, first.len_utf8()),
            (0, length) => {
                let (number, is_id) = (&rest[..length], BEFORE_IDS.iter().any(|id| out.ends_with(id)));
                (number.contains('.') || length >= 4 || is_id, length)
            }
        };
        out.push_str(if is_masked { "#" } else { &rest[..length] });
        rest = &rest[length..];
    }
    out
}

/// The length of digits with an optional fraction.
fn number_length(text: &str) -> usize {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let whole = digits(text);
    match text[whole..].strip_prefix('.').map(digits) {
        Some(fraction @ 1..) => whole + 1 + fraction,
        _ => whole,
    }
}

/// The length of a point in time like `2026-11-24T22:10:23.550Z` at the start of the text, or 0.
fn timestamp_length(text: &str) -> usize {
    let pattern = "0000-00-00T00:00:00";
    let fits = |(shape, byte): (u8, u8)| if shape == b'0' { byte.is_ascii_digit() } else { shape == byte };
    if text.len() < pattern.len() || !pattern.bytes().zip(text.bytes()).all(fits) {
        return 0;
    }
    text.find('Z').map_or(pattern.len(), |end| end + 1)
}

#[test]
fn ids_ports_and_times_are_masked_and_counts_are_not() {
    assert!(prints("port 4711, after 3.5 ms", "port 51234, after 12.25 ms\n"));
    assert!(prints(
        "{\"id\":3,\"at\":\"2026-11-24T22:10:23.550Z\"}",
        "{\"id\":12,\"at\":\"2027-01-02T03:04:05Z\"}"
    ));
    assert!(!prints("\"open\": 8", "\"open\": 9"));
    assert!(!prints("500 after 5.0 s", "200 after 5.0 s"));
}

#[test]
fn an_ellipsis_matches_anything_in_a_line_or_any_number_of_lines() {
    assert!(prints("{\"age\":2.4,…}", "{\"age\":2.40014981,\"x\":[]}"));
    assert!(prints("…\n\"open\": 8,\n…", "{\n\"x\": 1,\n\"open\": 8,\n}"));
    assert!(prints("a…b…c", "a b b c"));
    assert!(!prints("a 12 b", "a 12 c"));
    assert!(!prints("a", "ba"));
    assert!(!prints("a", "a\nb"));
    assert!(!prints("a…\nc", "a\nb\nc"));
}

#[test]
fn output_that_ends_with_an_ellipsis_is_complete_after_its_last_shown_line() {
    assert!(!is_complete("a\nb\n…", "a\nb"));
    assert!(is_complete("a\nb\n…", "a\nb\nc"));
    assert!(!is_complete("a\nb", "a\nb\nc"));
}
