//! The characters that terminal output is drawn with, in Unicode or in ASCII.

use std::borrow::Cow;
use std::ffi::OsStr;

use super::lanes::Cell;

/// Which characters may be printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signs {
    Unicode,
    /// ASCII: the locale is not UTF-8, or the terminal is `dumb`.
    Plain,
}

/// The variables that set the character encoding, in order of precedence.
const LOCALE: [&str; 3] = ["LC_ALL", "LC_CTYPE", "LANG"];

impl Signs {
    /// Chooses by the environment: `TERM`, and the first locale variable that is set.
    pub fn from_environment() -> Signs {
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let mut locales = LOCALE.iter().filter_map(std::env::var_os);
        Signs::of(is_dumb, locales.find(|locale| !locale.is_empty()).as_deref())
    }

    /// Without a locale, UTF-8 is assumed, because the variables are often missing in containers and in CI.
    fn of(is_dumb: bool, locale: Option<&OsStr>) -> Signs {
        let is_utf8 = locale.is_none_or(|locale| {
            let locale = locale.to_string_lossy().to_ascii_lowercase();
            locale.ends_with("utf-8") || locale.ends_with("utf8") || locale.contains("utf-8@")
        });
        if is_utf8 && !is_dumb { Signs::Unicode } else { Signs::Plain }
    }

    pub fn glyph(self, cell: Cell) -> char {
        match self {
            Signs::Unicode => cell.glyph(),
            Signs::Plain => cell.plain_glyph(),
        }
    }

    /// The sign in front of a claim.
    pub fn mark(self, held: bool) -> &'static str {
        match (self, held) {
            (Signs::Unicode, true) => "✓",
            (Signs::Unicode, false) => "✗",
            (Signs::Plain, true) => "ok",
            (Signs::Plain, false) => "FAIL",
        }
    }

    /// Width of the longest mark, in columns.
    pub fn mark_width(self) -> usize {
        match self {
            Signs::Unicode => 1,
            Signs::Plain => 4,
        }
    }

    /// Replaces the typographic characters that the program itself uses, if only ASCII may be printed. Names of
    /// clients stay as they are.
    pub fn text(self, text: &str) -> Cow<'_, str> {
        if self == Signs::Unicode || text.is_ascii() {
            return Cow::Borrowed(text);
        }
        Cow::Owned(text.replace('…', "...").replace('–', "-").replace('’', "'").replace('×', "x"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dumb_terminal_and_an_encoding_other_than_utf_8_get_plain_signs() {
        for (is_dumb, locale, signs) in [
            (false, Some("en_US.UTF-8"), Signs::Unicode),
            (false, Some("C.utf8"), Signs::Unicode),
            (false, Some("ca_ES.UTF-8@valencia"), Signs::Unicode),
            (false, None, Signs::Unicode),
            (true, Some("en_US.UTF-8"), Signs::Plain),
            (true, None, Signs::Plain),
            (false, Some("C"), Signs::Plain),
            (false, Some("POSIX"), Signs::Plain),
            (false, Some("de_DE.ISO-8859-1"), Signs::Plain),
        ] {
            assert_eq!(Signs::of(is_dumb, locale.map(OsStr::new)), signs, "{is_dumb} {locale:?}");
        }
    }

    #[test]
    fn plain_signs_are_ascii_and_differ_from_each_other() {
        let cells = super::super::lanes::LEGEND.map(|(cell, _)| Signs::Plain.glyph(cell));
        assert!(cells.iter().all(char::is_ascii));
        assert!((1..cells.len()).all(|index| !cells[..index].contains(&cells[index])));
        assert_eq!(Signs::Plain.text("’a’ – …"), "'a' - ...");
    }
}
