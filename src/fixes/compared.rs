//! The measurements on the list of fixes: the rows that one run of `ninetabs compare --json` printed,
//! unchanged, with the date of that run.

use std::sync::LazyLock;

use minijinja::{Value, context};
use serde::Deserialize;

use crate::app::embedded::TemplateSource;

/// When the run was made.
pub(super) const DATE: &str = "2026-11-29";
/// Packed by the build script.
const RUN: TemplateSource =
    TemplateSource::new("compared.json", include_bytes!(concat!(env!("OUT_DIR"), "/compared.json")));
/// The number of tabs of that run.
const TABS: usize = 9;

/// The row of the plain server.
pub(super) const PLAIN: &str = "naive";
/// The row of the plain server with the threads of Rails.
pub(super) const PLAIN_RAILS: &str = "naive-rails";

/// The figures of a row that are shown.
#[derive(Debug, Clone, Deserialize)]
struct MeasuredFix {
    fix: String,
    tabs_live: Option<usize>,
    page_ms: Median,
    pool_threads_held: Option<u64>,
    event_ms: Median,
}

/// The median; `None` if most of the measured events did not happen.
#[derive(Debug, Clone, Copy, Deserialize)]
struct Median {
    p50: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct CommittedRun {
    rows: Vec<MeasuredFix>,
}

/// The four cells of a row.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cells {
    /// The tabs that stream.
    pub tabs: String,
    /// The latency of a page.
    pub page: String,
    /// The time from a commit to its arrival in a tab.
    pub event: String,
    /// The pool threads that the tabs hold.
    pub held: String,
}

impl From<Cells> for Value {
    fn from(Cells { tabs, page, event, held }: Cells) -> Value {
        context! { tabs, page, event, held }
    }
}

/// The run. Parsing fails only if the file is not what `compare` printed; a test checks that it is.
static ROWS: LazyLock<Vec<MeasuredFix>> = LazyLock::new(|| {
    let text = RUN.text().unwrap_or_default();
    serde_json::from_str::<CommittedRun>(&text).map(|run| run.rows).unwrap_or_default()
});

/// The cells of the row with this name.
pub(super) fn cells(name: &str) -> Option<Cells> {
    let row = ROWS.iter().find(|row| row.fix == name)?;
    let count = |count: Option<String>| count.unwrap_or_else(|| "–".to_owned());
    Some(Cells {
        tabs: count(row.tabs_live.map(|tabs| format!("{tabs} of {TABS}"))),
        page: row.page_ms.p50.map_or_else(|| "no answer".to_owned(), milliseconds),
        event: row.event_ms.p50.map_or_else(|| "–".to_owned(), milliseconds),
        held: count(row.pool_threads_held.map(|held| held.to_string())),
    })
}

/// `0.5 ms`, `97 ms`, `1.0 s`.
fn milliseconds(ms: f64) -> String {
    match ms {
        // Rounded up to the next unit.
        ms if ms >= 999.5 => format!("{:.1} s", ms / 1000.0),
        ms if ms >= 9.95 => format!("{ms:.0} ms"),
        ms => format!("{ms:.1} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixes::ALL;

    #[test]
    fn the_committed_run_has_a_measured_row_for_each_fix_and_for_the_plain_server() {
        let rows = ALL.iter().map(|fix| fix.measured_as).chain([PLAIN, PLAIN_RAILS]);
        for name in rows {
            let cells = cells(name).unwrap_or_else(|| panic!("no row {name}"));
            for shown in [&cells.tabs, &cells.event, &cells.held] {
                assert!(shown.starts_with(|first: char| first.is_ascii_digit()), "{name}: {cells:?}");
            }
        }
        let run: serde_json::Value = serde_json::from_str(&RUN.text().unwrap()).unwrap();
        assert_eq!(run["held"], true, "every claim of the run held");
    }

    #[test]
    fn latencies_have_two_digits_or_one_decimal() {
        let all = [0.04, 0.5, 9.94, 9.96, 97.3, 999.4, 999.6, 1014.3].map(milliseconds);
        assert_eq!(all, ["0.0 ms", "0.5 ms", "9.9 ms", "10 ms", "97 ms", "999 ms", "1.0 s", "1.0 s"]);
    }
}
