//! The fields of a head, in the order in which they came.
//!
//! A browser sends fifteen of them with each request, so they stand in one piece of
//! memory, and not in two pieces each. The shortest field is four bytes on the
//! socket, so little is kept beside its text.

use std::mem;

/// Names and values. What of a value is no UTF-8 is replaced, which makes nothing of it
/// that has a meaning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields {
    text: String,
    ends: Vec<Ends>,
}

/// Where a field ends in the text. It begins where the one before it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ends {
    name: usize,
    value: usize,
}

impl Fields {
    /// None yet, with room for so many, of so many bytes in sum.
    pub fn with_capacity(fields: usize, bytes: usize) -> Fields {
        Fields { text: String::with_capacity(bytes), ends: Vec::with_capacity(fields) }
    }

    /// Adds a field.
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

    /// Adds a field, unless its name is ambiguous: many proxies take a name with an underscore for its twin
    /// with a dash, so such a field is dropped.
    pub fn push_field(&mut self, name: &str, value: &[u8]) {
        if !name.contains('_') {
            self.push(name, value);
        }
    }

    /// Each name, spelt as it was, with its value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut begun = 0;
        self.ends.iter().map(move |ends| {
            let name = &self.text[begun..ends.name];
            begun = ends.value;
            (name, &self.text[ends.name..ends.value])
        })
    }

    /// How many bytes of memory they take.
    pub(super) fn held_bytes(&self) -> usize {
        self.text.capacity() + self.ends.capacity() * mem::size_of::<Ends>()
    }

    /// The values of a field, its name in any case.
    pub fn values<'a, 'n>(&'a self, name: &'n str) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        self.iter().filter(move |(it, _)| it.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_stay_apart_and_in_order() {
        let mut fields = Fields::default();
        for (name, value) in [("A", &b"1"[..]), ("b", b""), ("a", b"x\xffy\xc3"), ("", b"\xc3\xa4")] {
            fields.push(name, value);
        }
        let all: Vec<_> = fields.iter().collect();
        assert_eq!(all, [("A", "1"), ("b", ""), ("a", "x\u{fffd}y\u{fffd}"), ("", "ä")]);
        assert_eq!(fields.values("A").collect::<Vec<_>>(), ["1", "x\u{fffd}y\u{fffd}"]);
        assert_eq!(fields.values("c").next(), None);
    }
}
