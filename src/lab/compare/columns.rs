//! The columns of a comparison: their headings, their meanings, and their cells.

mod several;

use super::{ComparePlan, Row, Spread};

/// Whether the value of a cell is good or bad for its fix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CellTone {
    Neutral,
    Good,
    Bad,
    /// The value never arrived.
    Never,
}

impl CellTone {
    /// The name of its CSS class in a page.
    pub fn class(self) -> &'static str {
        match self {
            CellTone::Neutral => "neutral",
            CellTone::Good => "good",
            CellTone::Bad => "bad",
            CellTone::Never => "never",
        }
    }
}

/// The text and the tone of a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellText {
    pub text: String,
    pub tone: CellTone,
}

/// The group of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    Viewers,
    Cost,
    Stress,
}

impl Group {
    pub const ALL: [Group; 3] = [Group::Viewers, Group::Cost, Group::Stress];

    pub fn heading(self) -> &'static str {
        match self {
            Group::Viewers => "What viewers get",
            Group::Cost => "What it costs",
            Group::Stress => "Under stress",
        }
    }
}

pub struct Column {
    /// The heading in a terminal and in Markdown.
    pub head: &'static str,
    /// The heading in a report.
    pub heading: &'static str,
    /// What the column means.
    pub means: &'static str,
    pub group: Group,
    cell: fn(&Row, &ComparePlan) -> CellText,
}

impl Column {
    /// The cell of a row, or a dash if the row was not measured.
    pub fn cell(&self, row: &Row, plan: &ComparePlan) -> CellText {
        if row.is_measured() { (self.cell)(row, plan) } else { neutral("–".to_owned()) }
    }

    /// The value that all measured rows have in this column, if there are several rows. What happens over the kill of a
    /// server is always shown in full.
    pub fn same_in_all(&self, rows: &[Row], plan: &ComparePlan) -> Option<String> {
        if plan.several.is_some() && self.group == Group::Stress {
            return None;
        }
        let mut cells = rows.iter().filter(|row| row.is_measured()).map(|row| self.cell(row, plan).text);
        let (first, second) = (cells.next()?, cells.next()?);
        (first == second && cells.all(|cell| cell == first)).then_some(first)
    }
}

/// The columns of a comparison, as a report groups them.
pub fn of(plan: &ComparePlan) -> Vec<&'static Column> {
    match plan.several {
        None => COLUMNS.iter().collect(),
        Some(_) => several::columns(),
    }
}

/// All columns of a comparison on one server.
const COLUMNS: &[Column] = &[
    Column {
        head: "tabs",
        heading: "tabs that stream",
        means: "tabs that receive rows",
        group: Group::Viewers,
        cell: |row, plan| compared(row.tabs_live.map(|tabs| tabs as u64), |tabs| tabs >= plan.tabs as u64),
    },
    Column {
        head: "page ms",
        heading: "page latency, p50 / p99 ms",
        means: "GET /up while the tabs stream, p50/p99",
        group: Group::Viewers,
        cell: |row, _| spread(row.page_ms),
    },
    Column {
        head: "event ms",
        heading: "event latency, p50 / p99 ms",
        means: "from the commit of a row to its arrival in a tab that reads, p50/p99",
        group: Group::Viewers,
        cell: |row, _| spread(row.event_ms),
    },
    Column {
        head: "missed",
        heading: "rows missed",
        means: "rows that a tab did not receive",
        group: Group::Viewers,
        cell: |row, _| none_is_good(row.missed),
    },
    Column {
        head: "twice",
        heading: "rows received twice",
        means: "rows that a tab received more than once",
        group: Group::Viewers,
        cell: |row, _| none_is_good(row.repeated),
    },
    Column {
        head: "held",
        heading: "threads held",
        means: "pool threads that the tabs hold",
        group: Group::Cost,
        cell: |row, _| compared(row.pool_threads_held, |held| held == 0),
    },
    Column {
        head: "queries/s",
        heading: "queries per second",
        means: "database queries per second for all tabs",
        group: Group::Cost,
        cell: |row, _| {
            neutral(row.queries_per_s.map_or_else(|| "–".to_owned(), |value| format!("{value:.1}")))
        },
    },
    Column {
        head: "conns",
        heading: "connections",
        means: "open client connections",
        group: Group::Cost,
        cell: |row, _| counted(row.connections),
    },
    Column {
        head: "OS",
        heading: "OS threads",
        means: "threads of the process",
        group: Group::Cost,
        cell: |row, _| counted(row.os_threads),
    },
    Column {
        head: "db",
        heading: "database connections held",
        means: "database connections held",
        group: Group::Cost,
        cell: |row, _| counted(row.db_connections_held),
    },
    Column {
        head: "free s",
        heading: "until the pool is free despite zombies, s",
        means: "time until the pool is free, although clients that never read stay connected",
        group: Group::Stress,
        cell: |row, _| in_time(row.pool_free_s),
    },
    Column {
        head: "blind s",
        heading: "blind during a restart, s",
        means: "from the order to restart until every tab has received a row again",
        group: Group::Stress,
        cell: |row, _| in_time(row.blind_s),
    },
    Column {
        head: "lost",
        heading: "rows lost in a restart",
        means: "rows that a tab never received because of a restart",
        group: Group::Stress,
        cell: |row, _| none_is_good(row.lost_over_restart),
    },
    Column {
        head: "post ms",
        heading: "slowest POST, ms",
        means: "longest time from the commit of a posted row to its answer",
        group: Group::Stress,
        cell: |row, _| in_time(row.sender_worst_ms),
    },
    Column {
        head: "stops",
        heading: "server stops by itself",
        means: "the server stops when it is ordered to",
        group: Group::Stress,
        cell: |row, _| yes_is_good(row.stop_ends),
    },
    Column {
        head: "others",
        heading: "other program's row seen",
        means: "tabs receive a row that another program inserted",
        group: Group::Stress,
        cell: |row, _| yes_is_good(row.outside_writer_seen),
    },
];

fn neutral(text: String) -> CellText {
    CellText { text, tone: CellTone::Neutral }
}

fn never() -> CellText {
    CellText { text: "never".to_owned(), tone: CellTone::Never }
}

fn counted(value: Option<u64>) -> CellText {
    neutral(value.map_or_else(|| "–".to_owned(), |value| value.to_string()))
}

fn compared(value: Option<u64>, is_good: impl Fn(u64) -> bool) -> CellText {
    let tone = match value {
        None => CellTone::Neutral,
        Some(value) if is_good(value) => CellTone::Good,
        Some(_) => CellTone::Bad,
    };
    CellText { tone, ..counted(value) }
}

fn none_is_good(value: Option<usize>) -> CellText {
    compared(value.map(|value| value as u64), |value| value == 0)
}

fn yes_is_good(value: Option<bool>) -> CellText {
    let text = match value {
        None => "–",
        Some(true) => "yes",
        Some(false) => "no",
    };
    let tone = match value {
        None => CellTone::Neutral,
        Some(true) => CellTone::Good,
        Some(false) => CellTone::Bad,
    };
    CellText { text: text.to_owned(), tone }
}

/// The cell of a time. Without a time, the event never happened.
fn in_time(value: Option<f64>) -> CellText {
    value.map_or_else(never, |value| neutral(format!("{value:.1}")))
}

/// The cell of a median and a p99. Without a median, the event never happened. Without a p99, it happened too rarely.
fn spread(Spread { p50, p99 }: Spread) -> CellText {
    match (p50, p99) {
        (None, _) => never(),
        (Some(p50), None) => CellText { text: format!("{p50:.1} / never"), tone: CellTone::Bad },
        (Some(p50), Some(p99)) => neutral(format!("{p50:.1} / {p99:.1}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_value_is_shown_as_never_and_an_unmeasured_row_as_a_dash() {
        let plan = super::super::tests::plan();
        let page = COLUMNS.iter().find(|column| column.head == "page ms").unwrap();
        let [naive, push] = super::super::tests::rows();
        assert_eq!(page.cell(&naive, &plan), never());
        assert_eq!(page.cell(&push, &plan).text, "0.6 / 1.5");
        let rare = Row { page_ms: Spread { p50: Some(0.6), p99: None }, ..push };
        assert_eq!(page.cell(&rare, &plan).text, "0.6 / never");
        assert_eq!(page.cell(&Row { fix: "leave", ..Row::default() }, &plan).text, "–");
    }

    #[test]
    fn a_value_that_all_measured_rows_share_is_found() {
        let plan = super::super::tests::plan();
        let rows = super::super::tests::rows();
        let same = |head: &str| {
            let column = COLUMNS.iter().find(|column| column.head == head).unwrap();
            column.same_in_all(&rows, &plan)
        };
        assert_eq!((same("stops"), same("tabs"), same("held")), (Some("yes".into()), None, None));
        assert_eq!(COLUMNS[0].same_in_all(&rows[..1], &plan), None);
    }
}
