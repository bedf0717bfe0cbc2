//! The table of kinds: name, meaning, and the command that shows it. `docs/probe-kinds.md` is generated from it.

mod limits;
mod notes;

use std::fmt;
use std::str::FromStr;

use crate::lab::acts::ACTS;

use super::evidence::Evidence;
use super::{Finding, LimitKind, NoteKind};

/// One row of the table.
#[derive(Debug, Clone, Copy)]
struct KindRow {
    /// The name, in kebab case.
    name: &'static str,
    /// The meaning, in one sentence.
    means: &'static str,
    /// Acts that show the failure. The output names the first one that exists.
    acts: &'static [u8],
    /// The name of the fix (`/fixes/NAME`) that shows the remedy.
    fix: Option<&'static str>,
    /// The command that shows the failure, if no act does.
    command: Option<&'static str>,
}

impl KindRow {
    const fn new(name: &'static str, means: &'static str) -> KindRow {
        KindRow { name, means, acts: &[], fix: None, command: None }
    }

    const fn acts(self, acts: &'static [u8]) -> KindRow {
        KindRow { acts, ..self }
    }

    const fn fix(self, fix: &'static str) -> KindRow {
        KindRow { fix: Some(fix), ..self }
    }

    const fn command(self, command: &'static str) -> KindRow {
        KindRow { command: Some(command), ..self }
    }

    /// The first of its acts that exists.
    fn act(&self) -> Option<u8> {
        self.acts.iter().copied().find(|act| ACTS.iter().any(|it| it.number == usize::from(*act)))
    }

    /// The command that shows the failure: an act, or otherwise a server with a flag or a fix.
    fn see(&self) -> Option<String> {
        let by_act = self.act().map(|act| format!("ninetabs reproduce --act {act}"));
        let by_flag = self.command.map(str::to_owned);
        let by_fix = self.fix.map(|fix| format!("ninetabs serve  # then open /fixes/{fix}"));
        by_act.or(by_flag).or(by_fix)
    }

    /// Its row in the list of the documentation.
    fn markdown(&self) -> String {
        let act = self.act().map(|act| format!("`ninetabs reproduce --act {act}`"));
        let command = self.command.map(|command| format!("`{command}`"));
        let fix = self.fix.map(|fix| format!("fix `{fix}`"));
        let shown: Vec<String> = [act, command, fix].into_iter().flatten().collect();
        let shown = if shown.is_empty() { "–".to_owned() } else { shown.join(", ") };
        format!("| `{}` | {} | {shown} |\n", self.name, self.means)
    }
}

/// Defines the methods that both enums have.
macro_rules! named {
    ($kind:ty) => {
        impl $kind {
            /// The name in kebab case.
            pub fn name(self) -> &'static str {
                self.row().name
            }

            /// The title on the terminal: `DATABASE POOL`.
            pub fn title(self) -> String {
                self.name().replace('-', " ").to_uppercase().replace("HTTP2", "HTTP/2")
            }

            /// The meaning, in one sentence.
            pub fn means(self) -> &'static str {
                self.row().means
            }

            /// A finding of this kind, with its fix, act and command from the table.
            pub(super) fn found(
                self,
                evidence: Evidence,
                text: impl Into<String>,
                remedy: impl Into<String>,
            ) -> Finding<$kind> {
                let row = self.row();
                Finding {
                    kind: self,
                    evidence: evidence.into_map(),
                    text: text.into(),
                    remedy: remedy.into(),
                    fix: row.fix,
                    act: row.act(),
                    see: row.see(),
                }
            }
        }

        impl fmt::Display for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

named!(LimitKind);
named!(NoteKind);

/// A kind of limit or note, as `--fail-on` accepts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FindingKind {
    Limit(LimitKind),
    Note(NoteKind),
}

impl FindingKind {
    /// All limits, then all notes.
    pub fn all() -> impl Iterator<Item = FindingKind> {
        let limits = LimitKind::ALL.into_iter().map(FindingKind::Limit);
        limits.chain(NoteKind::ALL.into_iter().map(FindingKind::Note))
    }

    /// The name in kebab case.
    pub fn name(self) -> &'static str {
        match self {
            FindingKind::Limit(kind) => kind.name(),
            FindingKind::Note(kind) => kind.name(),
        }
    }
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for FindingKind {
    type Err = UnknownKind;

    fn from_str(name: &str) -> Result<FindingKind, UnknownKind> {
        FindingKind::all()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| UnknownKind { name: name.to_owned() })
    }
}

/// A name that is not in the table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown kind `{}`; the kinds are {}", name.escape_debug(), names())]
pub struct UnknownKind {
    /// The name as it was given.
    pub name: String,
}

/// All names, for the error.
fn names() -> String {
    let names: Vec<&str> = FindingKind::all().map(FindingKind::name).collect();
    names.join(", ")
}

/// The list of kinds for the documentation: the content of `docs/probe-kinds.md`.
pub fn kinds_markdown() -> String {
    let mut text = "\
# What `ninetabs probe` can find

A measured run has exactly one limit, and any number of notes. `--fail-on KIND` accepts each name. This page is generated from
the code. Terms are in the [glossary](glossary.md), the fixes in [fixes](fixes.md).

## Limits

The first one whose rule matches is reported. If a second reading fits the evidence as well, the output adds it with *or*.

| kind | meaning | shown by |
|---|---|---|
"
    .to_owned();
    text.extend(LimitKind::ALL.map(|kind| kind.row().markdown()));
    text += "\n## Notes\n\n| kind | meaning | shown by |\n|---|---|---|\n";
    text.extend(NoteKind::ALL.map(|kind| kind.row().markdown()));
    text
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn root() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR"))
    }

    #[test]
    fn every_name_parses_back_and_is_unique() {
        let mut names: Vec<&str> = FindingKind::all().map(FindingKind::name).collect();
        for name in &names {
            assert_eq!(name.parse::<FindingKind>().map(FindingKind::name), Ok(*name));
            assert!(
                name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-' || byte == b'2'),
                "{name}"
            );
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), LimitKind::ALL.len() + NoteKind::ALL.len());
    }

    #[test]
    fn the_lists_are_in_the_order_of_the_enums() {
        assert!(LimitKind::ALL.is_sorted() && NoteKind::ALL.is_sorted());
    }

    #[test]
    fn an_unknown_name_lists_all_names() {
        let error = "worker".parse::<FindingKind>().unwrap_err().to_string();
        assert!(error.starts_with("unknown kind `worker`; the kinds are session-lock, "), "{error}");
        assert!(error.contains("workers") && error.ends_with("unreachable"), "{error}");
    }

    #[test]
    fn titles_are_upper_case() {
        assert_eq!(LimitKind::DatabasePool.title(), "DATABASE POOL");
        assert_eq!(LimitKind::Http2Streams.title(), "HTTP/2 STREAMS");
    }

    #[test]
    fn every_fix_has_a_page_and_every_act_is_played() {
        let rows = LimitKind::ALL.map(LimitKind::row).into_iter().chain(NoteKind::ALL.map(NoteKind::row));
        for row in rows {
            if let Some(fix) = row.fix {
                assert!(root().join(format!("views/fixes/{fix}.html")).is_file(), "{}: {fix}", row.name);
            }
            if let Some(act) = row.act() {
                assert!(ACTS.iter().any(|it| it.number == usize::from(act)), "{}: {act}", row.name);
            }
        }
    }

    #[test]
    fn the_command_of_a_kind_is_its_first_act_or_its_flag() {
        assert_eq!(LimitKind::Workers.row().act(), Some(1));
        assert_eq!(LimitKind::Workers.row().see().as_deref(), Some("ninetabs reproduce --act 1"));
        assert_eq!(LimitKind::Refused.row().see().as_deref(), Some("ninetabs serve --fix cap"));
        assert_eq!(LimitKind::SessionLock.row().see(), None);
    }

    #[test]
    fn the_documentation_has_the_list_that_the_code_generates() {
        let path = root().join("docs/probe-kinds.md");
        let page = fs::read_to_string(&path).unwrap();
        let expected = kinds_markdown();
        assert!(page == expected, "{} is out of date. Its content has to be:\n{expected}", path.display());
    }
}
