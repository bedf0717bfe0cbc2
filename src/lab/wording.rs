//! Counts and titles in words, for acts, reports, comparisons and the cluster, and for the warnings of the control
//! server.

/// `1 tab`, `3 tabs`.
pub fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// A count for titles, spelled out up to twelve: `one tab`, `nine tabs`, `16 tabs`.
pub fn spelled(number: usize, thing: &str) -> String {
    const WORDS: [&str; 13] = [
        "no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
        "twelve",
    ];
    let word = WORDS.get(number).map_or_else(|| number.to_string(), |word| (*word).to_owned());
    format!("{word} {thing}{}", if number == 1 { "" } else { "s" })
}

/// Capitalizes the first letter of a text, unless its first word is an identifier or a path.
pub fn capitalized(text: &str) -> String {
    let word = text.split_whitespace().next().unwrap_or_default();
    let mut letters = text.chars();
    match letters.next() {
        Some(first) if !word.contains(['_', '/']) => first.to_uppercase().chain(letters).collect(),
        _ => text.to_owned(),
    }
}
