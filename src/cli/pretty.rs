//! Indents one line of JSON.
//!
//! Only white space changes: the order of the names and the notation of the numbers stay. The text is not parsed, so
//! invalid JSON stays invalid.

/// The deepest level that is indented further than the one around it. Without this limit, an answer of a million
/// brackets would become a terabyte of blanks.
const DEEPEST: usize = 64;

/// Indents by two blanks per level, with one value per line. Empty objects and lists stay on one line.
pub fn pretty(json: &str) -> String {
    let (mut out, mut depth, mut in_text) = (String::with_capacity(json.len() * 2), 0_usize, false);
    let mut chars = json.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if in_text => {
                out.push(c);
                out.extend(chars.next());
                continue;
            }
            '"' => in_text = !in_text,
            _ if in_text => {}
            ' ' | '\t' | '\r' | '\n' => continue,
            '{' | '[' => {
                while chars.next_if(|next| next.is_ascii_whitespace()).is_some() {}
                if let Some(end) = chars.next_if(|next| matches!(next, '}' | ']')) {
                    out.extend([c, end]);
                    continue;
                }
                depth += 1;
                out.push(c);
                new_line(&mut out, depth);
                continue;
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut out, depth);
            }
            _ => {}
        }
        out.push(c);
        match c {
            ',' if !in_text => new_line(&mut out, depth),
            ':' if !in_text => out.push(' '),
            _ => {}
        }
    }
    out
}

fn new_line(out: &mut String, depth: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n("  ", depth.min(DEEPEST)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_is_on_its_own_line() {
        let wanted = "{\n  \"b\": [\n    1,\n    2.50\n  ],\n  \"a\": {},\n  \"c\": [],\n  \"d\": null\n}";
        assert_eq!(pretty(r#"{"b":[1,2.50],"a":{ },"c":[],"d":null}"#), wanted);
        assert_eq!(pretty(r#"{ "status": "ok" }"#), "{\n  \"status\": \"ok\"\n}");
        assert_eq!(pretty("7"), "7");
    }

    #[test]
    fn strings_are_unchanged() {
        for text in [r#""a: [1, {\"x\"}] \\""#, r#""\\""#, r#""ä  ,""#] {
            assert_eq!(pretty(text), text);
        }
    }

    #[test]
    fn an_answer_of_brackets_alone_stays_small() {
        let brackets = "[".repeat(1_000_000);
        assert!(pretty(&brackets).len() < brackets.len() * 2 * (DEEPEST + 2));
    }

    #[test]
    fn invalid_json_is_printed_without_a_panic() {
        for text in ["]}", "[[[", "\"\\", "{\"a\":", "Unsupported action"] {
            assert!(!pretty(text).is_empty());
        }
    }
}
