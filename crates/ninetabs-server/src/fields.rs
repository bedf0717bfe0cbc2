//! The fields of a head, in the order in which they arrived, and the meaning of their values.
//!
//! A browser sends about fifteen fields with each request, so all of them share one allocation for their text instead
//! of having two each. A field can be as short as four bytes on the socket, so little is stored in addition to the
//! text.
//!
//! A list has the same meaning on one line and on several (RFC 9110 5.3), and a comma inside quotes does not separate
//! members. Each kind of value has its own rule for comparison: tokens are compared case-insensitively, media types by
//! weight, and entity tags weakly. If a field that is not a list is given several times, its value is `None`.

use std::mem;

/// Names and values. Invalid UTF-8 in a value is replaced with U+FFFD, which is not meaningful in any field.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields {
    text: String,
    ends: Vec<Ends>,
}

/// Where the name and the value of a field end in the text. A field begins where the previous one ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ends {
    name: usize,
    value: usize,
}

impl Fields {
    /// Creates an empty list with capacity for this many fields and this many bytes of text.
    pub fn with_capacity(fields: usize, bytes: usize) -> Fields {
        Fields { text: String::with_capacity(bytes), ends: Vec::with_capacity(fields) }
    }

    /// Appends a field.
    pub fn push(&mut self, name: &str, value: &[u8]) {
        self.text.push_str(name);
        let name = self.text.len();
        for chunk in value.utf8_chunks() {
            self.text.push_str(chunk.valid());
            if !chunk.invalid().is_empty() {
                self.text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        self.ends.push(Ends { name, value: self.text.len() });
    }

    /// Appends a field, unless its name contains an underscore. Such a name is ambiguous, because many
    /// proxies treat it like the same name with a dash, so the field is dropped.
    pub fn push_field(&mut self, name: &str, value: &[u8]) {
        if !name.contains('_') {
            self.push(name, value);
        }
    }

    /// Returns each name, spelled as received, with its value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut begun = 0;
        self.ends.iter().map(move |ends| {
            let name = &self.text[begun..ends.name];
            begun = ends.value;
            (name, &self.text[ends.name..ends.value])
        })
    }

    /// How many bytes of memory the fields take.
    pub(super) fn held_bytes(&self) -> usize {
        self.text.capacity() + self.ends.capacity() * mem::size_of::<Ends>()
    }

    /// Returns the values of a field. The name is case-insensitive.
    pub fn values<'a, 'n>(&'a self, name: &'n str) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        let mut begun = 0;
        self.ends.iter().filter_map(move |ends| {
            let from = mem::replace(&mut begun, ends.value);
            // Most names already differ in length. Several fields are looked up in each request.
            let is_it =
                ends.name - from == name.len() && self.text[from..ends.name].eq_ignore_ascii_case(name);
            is_it.then(|| &self.text[ends.name..ends.value])
        })
    }
}

/// The nonempty members of a list that is given on any number of lines.
pub(crate) fn members<'a>(lines: impl Iterator<Item = &'a str>) -> impl Iterator<Item = &'a str> {
    lines.flat_map(|line| split(line, ',')).filter(|member| !member.is_empty())
}

/// Whether a list of tokens (`Connection`, `Upgrade`, `Expect`) contains this one. Case-insensitive.
pub(crate) fn has_token<'a>(lines: impl Iterator<Item = &'a str>, token: &str) -> bool {
    members(lines).any(|member| member.eq_ignore_ascii_case(token))
}

/// The value of a field that is not a list, or `None` if the field is absent or given several times.
pub(crate) fn single<'a>(mut lines: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    lines.next().filter(|_| lines.next().is_none())
}

/// A media type without its parameters.
pub(crate) fn essence(media_type: &str) -> &str {
    split(media_type, ';').next().unwrap_or_default()
}

/// Whether `Accept` names this media type with a weight above 0. Ranges (`*/*`) do not count, and neither
/// does a member with a malformed weight.
pub(crate) fn accepts<'a>(lines: impl Iterator<Item = &'a str>, media_type: &str) -> bool {
    members(lines).any(|member| {
        let mut parts = split(member, ';');
        let is_it = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(media_type));
        let weight = parts.filter_map(|part| part.split_once('=')).find(|(name, _)| {
            // Parameters of the media type come before its weight.
            name.eq_ignore_ascii_case("q")
        });
        is_it && weight.is_none_or(|(_, weight)| is_above_zero(weight))
    })
}

/// Whether `If-None-Match` contains this entity tag, by weak comparison (RFC 9110 8.8.3.2), or is `*`, which
/// matches any tag. `tag` is the opaque part, without its quotes.
pub(crate) fn matches_tag<'a>(lines: impl Iterator<Item = &'a str> + Clone, tag: &str) -> bool {
    if single(lines.clone()) == Some("*") {
        return true;
    }
    // In a tag, a backslash is not an escape character, and a comma is allowed.
    lines.into_iter().any(|mut rest| {
        loop {
            rest = rest.trim_start_matches([' ', '\t', ',']);
            let opaque = rest.strip_prefix("W/").unwrap_or(rest).strip_prefix('"');
            let Some((this, behind)) = opaque.and_then(|opaque| opaque.split_once('"')) else { return false };
            if this == tag {
                return true;
            }
            rest = behind;
        }
    })
}

/// Whether a weight is valid and above 0: `0` or `1` with up to three decimals (RFC 9110 12.4.2).
fn is_above_zero(weight: &str) -> bool {
    let (whole, decimals) = weight.split_once('.').unwrap_or((weight, ""));
    let is_weight = decimals.len() <= 3 && decimals.bytes().all(|byte| byte.is_ascii_digit());
    let has_decimals = decimals.bytes().any(|byte| byte != b'0');
    is_weight && (whole == "1" && !has_decimals || whole == "0" && has_decimals)
}

/// Splits at separators outside of quoted strings, and trims blanks.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let parts = text.split(move |c: char| {
        let was_escaped = mem::take(&mut is_escaped);
        match c {
            _ if was_escaped => false,
            '\\' if is_quoted => {
                is_escaped = true;
                false
            }
            '"' => {
                is_quoted = !is_quoted;
                false
            }
            c => c == separator && !is_quoted,
        }
    });
    parts.map(|part| part.trim_matches([' ', '\t']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_stored_separately_and_in_order() {
        let mut fields = Fields::default();
        for (name, value) in [("A", &b"1"[..]), ("b", b""), ("a", b"x\xffy\xc3"), ("", b"\xc3\xa4")] {
            fields.push(name, value);
        }
        let all: Vec<_> = fields.iter().collect();
        assert_eq!(all, [("A", "1"), ("b", ""), ("a", "x\u{fffd}y\u{fffd}"), ("", "ä")]);
        assert_eq!(fields.values("A").collect::<Vec<_>>(), ["1", "x\u{fffd}y\u{fffd}"]);
        assert_eq!(fields.values("c").next(), None);
    }

    /// The same list written in two ways: on a single line, and with one value per line.
    fn lines(values: &str) -> [Vec<&str>; 2] {
        [vec![values], values.split(", ").collect()]
    }

    #[test]
    fn a_token_is_found_in_lists_on_any_number_of_lines() {
        for (values, expected) in [
            ("close", true),
            ("CLOSE", true),
            ("TE, Close", true),
            ("keep-alive, close", true),
            ("close, keep-alive", true),
            (", ,close\t,", true),
            ("", false),
            ("clo", false),
            ("closed", false),
            ("close;q=1", false),
            ("close keep-alive", false),
            ("\"close\"", false),
            ("a=\"b,close,c\"", false),
            ("a=\"\\\",close,\\\"\"", false),
            ("a=\"b\",close", true),
        ] {
            for lines in lines(values) {
                assert_eq!(has_token(lines.iter().copied(), "close"), expected, "{lines:?}");
            }
        }
    }

    #[test]
    fn a_media_type_is_accepted_if_its_weight_is_above_zero() {
        for (values, expected) in [
            ("text/html", true),
            ("TEXT/HTML;Q=0.5", true),
            ("application/json, text/html ; q=1.000, */*", true),
            ("text/html;charset=utf-8;q=0.001", true),
            ("text/html;x=\"q=0\"", true),
            ("text/html;q=0", false),
            ("text/html; q=0.000", false),
            ("text/html;q=0.", false),
            ("text/html;charset=utf-8;q=0", false),
            ("text/html;q=", false),
            ("text/html;q=-1", false),
            ("text/html;q=1.1", false),
            ("text/html;q=0.0001", false),
            ("*/*", false),
            ("text/*", false),
            ("text/htmlx", false),
            ("text/plain;x=\"a,text/html,b\"", false),
            ("text/html;q=0, text/html;level=1", true),
        ] {
            for lines in lines(values) {
                assert_eq!(accepts(lines.iter().copied(), "text/html"), expected, "{lines:?}");
            }
        }
    }

    #[test]
    fn entity_tags_are_compared_weakly() {
        for (values, expected) in [
            ("W/\"3\"", true),
            ("\"3\"", true),
            ("\"1\", W/\"3\"", true),
            ("\"1\",\"2\",\"3\"", true),
            ("*", true),
            ("", false),
            ("3", false),
            ("w/\"3\"", false),
            ("\"33\"", false),
            ("\"a,\"3\"", false),
            ("\"\\\", \"3\"", true),
            ("\"*\"", false),
            ("W/3", false),
        ] {
            for lines in lines(values) {
                assert_eq!(matches_tag(lines.iter().copied(), "3"), expected, "{lines:?}");
            }
        }
        assert!(!matches_tag(["*", "\"1\""].into_iter(), "3"));
    }

    #[test]
    fn a_field_that_is_not_a_list_has_one_value_or_none() {
        assert_eq!(single(["a"].into_iter()), Some("a"));
        assert_eq!(single(["a", "a"].into_iter()), None);
        assert_eq!(single([].into_iter()), None);
        assert_eq!(essence("Application/JSON ;charset=\"a;b\""), "Application/JSON");
    }
}
