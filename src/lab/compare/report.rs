//! A comparison as a table, for the terminal and for Markdown, and as one page of HTML.

use std::time::{Duration, SystemTime};

use minijinja::{Environment, Value, context};

use super::super::picture;
use super::super::report::ReportError;
use super::super::stage::spoken;
use super::{ComparePlan, Row, Spread};
use crate::timestamp;

const TEMPLATES: &[(&str, &str)] = &[
    ("lanes.css", picture::STYLE),
    ("report/claims.html", include_str!("../../../views/report/claims.html")),
    ("report/report.css", include_str!("../../../views/report/report.css")),
    ("report/compare.html", include_str!("../../../views/report/compare.html")),
];

/// A column: its head, and a row's cell.
pub type Column = (&'static str, fn(&Row) -> String);

/// What buys and what costs, in an order in which one reads it. Each half fits a terminal.
pub const COLUMNS: [&[Column]; 2] = [
    &[
        ("live", |row| count(row.tabs_live)),
        ("page p50/p99 ms", |row| spread(row.page_ms)),
        ("held", |row| count(row.pool_threads_held)),
        ("event p50/p99 ms", |row| spread(row.event_ms)),
        ("queries/s", |row| decimal(row.queries_per_s)),
        ("free s", |row| decimal(row.pool_free_s)),
    ],
    &[
        ("missed", |row| count(row.missed)),
        ("again", |row| count(row.repeated)),
        ("blind", |row| decimal(row.blind_s)),
        ("lost", |row| count(row.lost_over_restart)),
        ("sender", |row| decimal(row.sender_worst_ms)),
        ("conns", |row| count(row.connections)),
        ("OS", |row| count(row.os_threads)),
        ("db", |row| count(row.db_connections_held)),
        ("stop", |row| said(row.stop_ends)),
        ("others", |row| said(row.outside_writer_seen)),
    ],
];

/// What the heads mean, for whoever reads the table alone.
pub const LEGEND: &str = "\
live: tabs that got models; page: /up meanwhile; held: pool threads that the
tabs hold; event: from commit to a tab that reads; free: from as many clients
that never read to a free pool; missed, again: models that a tab did not get,
or got again; blind: seconds from the order to restart to the last tab’s first
model; lost: models of that time that a tab never got; sender: ms from commit
to 201, at worst; conns, OS, db: connections, threads of the process, database
connections held; stop: it ends by itself; others: another program’s row is
seen. A dash: it did not come, or the row cannot have it.";

const NOTHING: &str = "–";

fn count<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| NOTHING.to_owned(), |value| value.to_string())
}

fn decimal(value: Option<f64>) -> String {
    value.map_or_else(|| NOTHING.to_owned(), |value| format!("{value:.1}"))
}

fn spread(Spread { p50, p99 }: Spread) -> String {
    match (p50, p99) {
        (None, None) => NOTHING.to_owned(),
        (p50, p99) => format!("{} / {}", decimal(p50), decimal(p99)),
    }
}

fn said(value: Option<bool>) -> String {
    match value {
        None => NOTHING,
        Some(true) => "yes",
        Some(false) => "no",
    }
    .to_owned()
}

/// A table in columns, for a terminal of 80.
pub fn text(rows: &[Row], columns: &[Column]) -> String {
    let heads = std::iter::once("fix".to_owned()).chain(columns.iter().map(|(head, _)| (*head).to_owned()));
    let mut lines = vec![heads.collect::<Vec<_>>()];
    for row in rows {
        let cells = columns.iter().map(|(_, cell)| cell(row));
        lines.push(std::iter::once(row.fix.to_owned()).chain(cells).collect());
    }
    let width = |column: usize| lines.iter().map(|line| console::measure_text_width(&line[column])).max();
    let widths: Vec<usize> = (0..=columns.len()).map(|column| width(column).unwrap_or_default()).collect();
    let pad = |(column, cell): (usize, &String)| {
        let blanks = " ".repeat(widths[column] - console::measure_text_width(cell));
        // Names to the left, numbers to the right.
        if column == 0 { format!("{cell}{blanks}") } else { format!("{blanks}{cell}") }
    };
    let line = |cells: &Vec<String>| {
        cells.iter().enumerate().map(pad).collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    lines.iter().map(line).collect()
}

/// The whole table in Markdown.
pub fn markdown(rows: &[Row]) -> String {
    let columns = || COLUMNS.iter().copied().flatten();
    let mut text = "| fix |".to_owned();
    columns().for_each(|(head, _)| text += &format!(" {head} |"));
    text += "\n|---|";
    columns().for_each(|_| text += "---|");
    for row in rows {
        text += &format!("\n| `{}` |", row.fix);
        columns().for_each(|(_, cell)| text += &format!(" {} |", cell(row)));
    }
    text + "\n"
}

/// What a page tells of.
pub struct CompareReport<'a> {
    pub plan: &'a ComparePlan,
    pub rows: &'a [Row],
    /// Why it did not come to its end.
    pub broken: Option<&'a str>,
    /// The line that does it again.
    pub command: &'a str,
    pub began: SystemTime,
    pub took: Duration,
}

impl CompareReport<'_> {
    /// The page.
    pub fn html(&self) -> Result<String, ReportError> {
        let rows = self.rows.iter().map(row).collect::<Result<Vec<_>, _>>()?;
        let claims = || self.rows.iter().flat_map(|row| &row.claims);
        let columns = || COLUMNS.iter().copied().flatten();
        let pace = &self.plan.pace;
        let mut environment = Environment::new();
        for (name, source) in TEMPLATES {
            environment.add_template(name, source)?;
        }
        Ok(environment.get_template("report/compare.html")?.render(context! {
            rows,
            heads => columns().map(|(head, _)| *head).collect::<Vec<_>>(),
            legend => LEGEND,
            broken => self.broken,
            claims => claims().count(),
            failed => claims().filter(|claim| !claim.held).count(),
            began => timestamp::seconds(self.began).to_string(),
            command => self.command,
            configuration => vec![
                ("tabs", self.plan.tabs.to_string()),
                ("threads", super::THREADS.to_string()),
                ("an update every", spoken(pace.update_rate)),
                ("a model every", spoken(pace.produce_every)),
                ("watched for", spoken(pace.window)),
                ("ninetabs", env!("CARGO_PKG_VERSION").to_owned()),
                ("on", format!("{} {}", std::env::consts::OS, std::env::consts::ARCH)),
                ("took", spoken(self.took)),
            ],
        })?)
    }
}

fn row(row: &Row) -> Result<Value, ReportError> {
    let lanes = match &row.record {
        Some((record, from_us)) => Some(picture::inline(row.fix, record, *from_us)?),
        None => None,
    };
    let cells = COLUMNS.iter().copied().flatten().map(|(head, cell)| (*head, cell(row)));
    let claims = row.claims.iter().map(|it| {
        context! { claim => &it.claim, expected => &it.expected, measured => &it.measured, held => it.held }
    });
    Ok(context! {
        fix => row.fix,
        note => row.note.as_deref(),
        held => row.held(),
        cells => cells.collect::<Vec<_>>(),
        claims => claims.collect::<Vec<_>>(),
        lanes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::claim::Claims;

    fn rows() -> Vec<Row> {
        let mut claims = Claims::default();
        claims.push("a page & more", "no answer", "3.0 ms", false);
        let naive = Row {
            fix: "naive",
            tabs_live: Some(8),
            event_ms: Spread { p50: Some(1012.25), p99: None },
            stop_ends: Some(true),
            claims: claims.into_vec(),
            ..Row::default()
        };
        vec![naive, Row { fix: "shared-worker", note: Some("none".into()), ..Row::default() }]
    }

    #[test]
    fn both_halves_fit_a_terminal_of_eighty() {
        let mut wide = rows();
        wide[0].page_ms = Spread { p50: Some(1000.0), p99: Some(10000.0) };
        wide[0].event_ms = wide[0].page_ms;
        wide[0].queries_per_s = Some(10000.0);
        for columns in COLUMNS {
            let table = text(&wide, columns);
            let widest = table.lines().map(console::measure_text_width).max().unwrap();
            assert!(widest <= 80, "{widest}:\n{table}");
        }
        assert!(LEGEND.lines().all(|line| line.chars().count() <= 80));
    }

    #[test]
    fn the_table_is_the_same_in_markdown() {
        let text = markdown(&rows());
        assert!(text.contains("| `naive` | 8 | – | – | 1012.2 / – | – |"), "{text}");
        let columns = text.lines().map(|line| line.matches('|').count()).collect::<Vec<_>>();
        assert_eq!(columns, [18; 4]);
    }

    #[test]
    fn what_failed_stands_first_in_the_page() {
        let plan = ComparePlan { program: "ninetabs".into(), tabs: 9, pace: super::super::ComparePace::FAST };
        let (rows, began) = (rows(), SystemTime::UNIX_EPOCH);
        let took = Duration::from_secs(1);
        let report = CompareReport {
            plan: &plan,
            rows: &rows,
            broken: None,
            command: "ninetabs compare",
            began,
            took,
        };
        let page = report.html().unwrap();
        let failure = page.find("a page &amp; more").unwrap();
        assert!(failure < page.find("<table").unwrap(), "{page}");
        assert!(page.contains("1 of 1 claims failed"), "{page}");
    }
}
