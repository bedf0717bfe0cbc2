//! Removes comments and insignificant whitespace from templates.
//!
//! A page contains its style and its scripts, and is sent separately to each tab. A third of it would be comments
//! and indentation. For the page of models there is a second reason: while the kernel can buffer the whole answer,
//! a client that reads it slowly does not hold a thread. Quoted strings, template literals, regular expressions,
//! the tags of templates, and the content of `<pre>` are not changed.

/// A template as it is sent: a script or a style without comments and unneeded whitespace, or a page without
/// indentation.
pub(super) fn shortened(name: &str, text: &str) -> String {
    match name.rsplit_once('.') {
        Some((_, "js")) => Shortener::new(text, Language::Script).run(),
        Some((_, "css")) => Shortener::new(text, Language::Style).run(),
        _ => unindented(text),
    }
}

fn unindented(text: &str) -> String {
    let mut short = String::with_capacity(text.len());
    let mut is_pre = false;
    for line in text.lines() {
        let trimmed = line.trim();
        is_pre |= trimmed.contains("<pre");
        if is_pre || !trimmed.is_empty() {
            short.push_str(if is_pre { line } else { trimmed });
            short.push('\n');
        }
        is_pre &= !trimmed.contains("</pre>");
    }
    short
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Language {
    Script,
    Style,
}

/// The separator of two tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Gap {
    None,
    Blank,
    Line,
}

struct Shortener<'a> {
    rest: &'a str,
    language: Language,
    short: String,
}

impl<'a> Shortener<'a> {
    fn new(text: &'a str, language: Language) -> Self {
        Shortener { rest: text, language, short: String::with_capacity(text.len()) }
    }

    fn run(mut self) -> String {
        loop {
            let gap = self.skip_gap();
            let Some(next) = self.rest.chars().next() else { break };
            self.close(gap, next);
            let token = self.token(next);
            self.short.push_str(&self.rest[..token]);
            self.rest = &self.rest[token..];
        }
        self.short.push('\n');
        self.short
    }

    /// Skips whitespace and comments.
    fn skip_gap(&mut self) -> Gap {
        let mut gap = Gap::None;
        loop {
            let text = self.rest.trim_start();
            let blanks = &self.rest[..self.rest.len() - text.len()];
            if !blanks.is_empty() {
                gap = gap.max(if blanks.contains('\n') { Gap::Line } else { Gap::Blank });
            }
            self.rest = text;
            let comment = if text.starts_with("/*") {
                text.find("*/").map_or(text.len(), |end| end + 2)
            } else if self.language == Language::Script && text.starts_with("//") {
                text.find('\n').unwrap_or(text.len())
            } else {
                return gap;
            };
            gap = gap.max(Gap::Blank);
            self.rest = &text[comment..];
        }
    }

    /// Writes the part of the gap that is needed between the last character and the next one.
    fn close(&mut self, gap: Gap, next: char) {
        let Some(last) = self.short.chars().next_back() else { return };
        let needed = match self.language {
            Language::Script => needed_in_script(gap, last, next),
            Language::Style => needed_in_style(gap, last, next),
        };
        // In a template, `{{`, `{%` and `{#` would begin a tag.
        let begins_tag = last == '{' && "{%#".contains(next);
        match needed.max(if begins_tag { gap.min(Gap::Blank) } else { Gap::None }) {
            Gap::None if self.language == Language::Style && last == ';' && next == '}' => {
                self.short.pop();
            }
            Gap::None => {}
            Gap::Blank => self.short.push(' '),
            Gap::Line => self.short.push('\n'),
        }
    }

    /// The length of the next token, which is copied unchanged.
    fn token(&self, next: char) -> usize {
        let text = self.rest;
        let tags = [("{{", "}}"), ("{%", "%}")];
        if let Some((_, end)) = tags.iter().find(|(begin, _)| text.starts_with(begin)) {
            return text.find(end).map_or(text.len(), |at| at + end.len());
        }
        match next {
            '\'' | '"' => quoted(text, next),
            '`' if self.language == Language::Script => template_literal(text),
            '/' if self.language == Language::Script && self.may_begin_expression() => {
                regular_expression(text)
            }
            _ if is_of_word(next) => text.find(|c| !is_of_word(c)).unwrap_or(text.len()),
            _ => next.len_utf8(),
        }
    }

    /// Whether a slash at this point begins a regular expression rather than being a division.
    fn may_begin_expression(&self) -> bool {
        let before = self.short.trim_end();
        let word = before.rsplit(|c| !is_of_word(c)).next().unwrap_or_default();
        match before.chars().next_back() {
            None => true,
            Some(last) if is_of_word(last) => ["return", "typeof", "case", "in", "of"].contains(&word),
            Some(last) => !")]}'\"`".contains(last),
        }
    }
}

fn needed_in_script(gap: Gap, last: char, next: char) -> Gap {
    // A line break that may end a statement is kept.
    let goes_on = "{([;,=>?:&|".contains(last) || "})].,;?:".contains(next);
    let touches = is_of_word(last) && is_of_word(next)
        || matches!((last, next), ('+', '+') | ('-', '-' | '>') | ('/', _) | (_, '/') | ('<', '!'))
        || last.is_ascii_digit() && next == '.';
    match gap {
        Gap::Line if !goes_on => Gap::Line,
        Gap::None => Gap::None,
        _ if touches => Gap::Blank,
        _ => Gap::None,
    }
}

fn needed_in_style(gap: Gap, last: char, next: char) -> Gap {
    let is_free = "{};,:>".contains(last) || "{};,>".contains(next);
    if is_free { Gap::None } else { gap.min(Gap::Blank) }
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || "_$#\\".contains(c)
}

/// The length of a quoted string.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of a template literal, with the literals in its expressions.
fn template_literal(text: &str) -> usize {
    // For each open literal: the number of open braces in its expression, or `None` inside its text.
    let mut open: Vec<Option<usize>> = vec![None];
    let mut at = 1;
    while let Some(c) = text[at..].chars().next() {
        let mut length = c.len_utf8();
        let rest = &text[at..];
        match open.last_mut() {
            Some(None) if c == '\\' => length += rest[1..].chars().next().map_or(0, char::len_utf8),
            Some(state @ None) if rest.starts_with("${") => {
                *state = Some(1);
                length = 2;
            }
            Some(None) if c == '`' => {
                open.pop();
                if open.is_empty() {
                    return at + 1;
                }
            }
            Some(Some(_)) if c == '`' => open.push(None),
            Some(Some(_)) if c == '\'' || c == '"' => length = quoted(rest, c),
            Some(Some(braces)) if c == '{' => *braces += 1,
            Some(state @ Some(1)) if c == '}' => *state = None,
            Some(Some(braces)) if c == '}' => *braces -= 1,
            _ => {}
        }
        at += length;
    }
    text.len()
}

/// The length of a regular expression, without its flags.
fn regular_expression(text: &str) -> usize {
    let (mut escaped, mut in_class) = (false, false);
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '[' => in_class = true,
            ']' => in_class = false,
            '/' if !in_class => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn script(text: &str) -> String {
        shortened("a.js", text).trim_end().to_owned()
    }

    fn style(text: &str) -> String {
        shortened("a.css", text).trim_end().to_owned()
    }

    #[test]
    fn a_script_loses_its_comments_and_unneeded_whitespace() {
        for (text, short) in [
            ("// Why.\nif (a) {\n  b(c, d); // e\n\n}\n", "if(a){b(c,d);}"),
            ("a /* b\n c */ = 1", "a=1"),
            ("const a = b => c;", "const a=b=>c;"),
            ("return a in b", "return a in b"),
            // The line break separates two statements.
            ("let a = b\nlet c", "let a=b\nlet c"),
            ("if (a) {\n}\nb()", "if(a){}\nb()"),
            ("a\n  .b()\n  ? c\n  : d", "a.b()?c:d"),
            ("a &&\n  b", "a&&b"),
            // Without a space, these would become other operators, comments or numbers.
            ("a + +b - -c", "a+ +b- -c"),
            ("a-- > b < !--c", "a-- >b< !--c"),
            ("a / /b c/g", "a / /b c/g"),
            ("1 .toFixed()", "1 .toFixed()"),
            // Tags of templates are not changed, and none is created by accident.
            ("f({ {{ a | b }} })", "f({ {{ a | b }}})"),
            ("class A { #b = 1 }", "class A{ #b=1}"),
        ] {
            assert_eq!(script(text), short, "{text}");
        }
    }

    #[test]
    fn strings_and_regular_expressions_in_a_script_are_not_changed() {
        for text in [
            "'// a  \\' b'",
            "\"a  {  b\"",
            "`a  // b ${c + '}' + `  ${ d }  `}  \\` e`",
            "a=/[/ ]  \\/ '/g.test(b)",
            "return /  a/",
        ] {
            assert_eq!(script(text), text);
        }
        assert_eq!(script("a  /  b / c"), "a / b / c", "a division");
    }

    #[test]
    fn a_style_loses_its_comments_and_the_whitespace_around_its_punctuation() {
        for (text, short) in [
            ("/* why */\na { b: c d;\n  e: f, g; }\n", "a{b:c d;e:f,g}"),
            ("a :is(b, c) > d { e: calc(f + g) }", "a :is(b,c)>d{e:calc(f + g)}"),
            (
                "@media (min-width: 4rem) and (a) { .b { c: \"  d; \" } }",
                "@media (min-width:4rem) and (a){.b{c:\"  d; \"}}",
            ),
            ("@media a {\n  #b { c: d }\n}", "@media a{ #b{c:d}}"),
        ] {
            assert_eq!(style(text), short, "{text}");
        }
    }

    #[test]
    fn a_page_loses_its_indentation_outside_of_listings() {
        assert_eq!(shortened("a.html", "<p>\n  // a  b\n\n</p>"), "<p>\n// a  b\n</p>\n");
        let listing = "  <pre>def a\n\n  b\nend</pre>\n  <p>c\n";
        assert_eq!(shortened("a.html", listing), "  <pre>def a\n\n  b\nend</pre>\n<p>c\n");
        // The lines of a multi-line template literal would lose their indentation.
        for folder in ["control", "fixes", "models"] {
            let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/views")).join(folder);
            for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                if path.extension().is_some_and(|it| it == "html") {
                    let page = fs::read_to_string(&path).unwrap();
                    let is_whole = |line: &str| line.matches('`').count().is_multiple_of(2);
                    assert!(page.lines().all(is_whole), "{} has a long template literal", path.display());
                }
            }
        }
    }
}
