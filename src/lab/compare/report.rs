//! A comparison as a table for the terminal and for Markdown, and as one HTML page.

use std::time::{Duration, SystemTime};

use console::{Style, measure_text_width};
use minijinja::{Environment, Value, context};

use super::super::narrator::wrapped;
use super::super::picture::{self, PictureLook};
use super::super::report::size::{self, Detail};
use super::super::report::{ReportError, claim, date};
use super::super::stage::{Scene, spoken};
use super::columns::{self, CellTone, Column, Group};
use super::several::Several;
use super::{ComparePlan, Row, summary};

const TEMPLATES: &[(&str, &str)] = &[
    ("palette.css", picture::PALETTE),
    ("lanes.css", picture::STYLE),
    ("report/claims.html", include_str!("../../../views/report/claims.html")),
    ("report/report.css", include_str!("../../../views/report/report.css")),
    ("report/compare.css", include_str!("../../../views/report/compare.css")),
    ("report/compare.html", include_str!("../../../views/report/compare.html")),
];

/// The width of the tables and paragraphs in a terminal.
const WIDTH: usize = 80;

/// The tables for a terminal of 80 columns, and the meanings of the columns. A column with the same value in all rows
/// is left out, and named in a sentence.
pub fn text(rows: &[Row], plan: &ComparePlan) -> String {
    let columns = columns::of(plan);
    let (same, shown): (Vec<&Column>, Vec<&Column>) =
        columns.iter().partition(|column| column.same_in_all(rows, plan).is_some());
    let mut text = String::new();
    let mut left = shown.as_slice();
    while !left.is_empty() {
        let fits = |count: &usize| table_width(rows, &left[..*count], plan) <= WIDTH;
        let count = (1..=left.len()).rev().find(fits).unwrap_or(1);
        let (columns, rest) = left.split_at(count);
        text.push_str(&table(rows, columns, plan));
        text.push('\n');
        left = rest;
    }
    let mut paragraph =
        |words: &str| wrapped(words, WIDTH).iter().for_each(|line| text += &format!("{line}\n"));
    let same: Vec<String> = same
        .iter()
        .filter_map(|column| Some(format!("{} {}", column.head, column.same_in_all(rows, plan)?)))
        .collect();
    if !same.is_empty() {
        paragraph(&format!("The same in every row: {}.", same.join(", ")));
    }
    let meanings: Vec<String> =
        columns.iter().map(|column| format!("{}: {}", column.head, column.means)).collect();
    paragraph(&format!("{}.", meanings.join("; ")));
    text
}

/// The cells of a table, with the headings first.
fn cells(rows: &[Row], columns: &[&Column], plan: &ComparePlan) -> Vec<Vec<(String, CellTone)>> {
    let head = |text: &str| (text.to_owned(), CellTone::Neutral);
    let heads = std::iter::once(head("fix")).chain(columns.iter().map(|column| head(column.head)));
    let mut lines = vec![heads.collect::<Vec<_>>()];
    for row in rows {
        let cells = columns.iter().map(|column| {
            let cell = column.cell(row, plan);
            (cell.text, cell.tone)
        });
        lines.push(std::iter::once(head(row.fix)).chain(cells).collect());
    }
    lines
}

fn widths(lines: &[Vec<(String, CellTone)>]) -> Vec<usize> {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| lines.iter().map(|line| measure_text_width(&line[column].0)).max();
    (0..columns).map(|column| width(column).unwrap_or_default()).collect()
}

const GAP: &str = "  ";

fn table_width(rows: &[Row], columns: &[&Column], plan: &ComparePlan) -> usize {
    let widths = widths(&cells(rows, columns, plan));
    widths.iter().sum::<usize>() + GAP.len() * widths.len().saturating_sub(1)
}

fn table(rows: &[Row], columns: &[&Column], plan: &ComparePlan) -> String {
    let lines = cells(rows, columns, plan);
    let widths = widths(&lines);
    let pad = |(column, (text, tone)): (usize, &(String, CellTone))| {
        let blanks = " ".repeat(widths[column] - measure_text_width(text));
        let style = if *tone == CellTone::Never { Style::new().red() } else { Style::new() };
        let text = style.apply_to(text);
        // Names are aligned to the left, numbers to the right.
        if column == 0 { format!("{text}{blanks}") } else { format!("{blanks}{text}") }
    };
    let line = |cells: &Vec<(String, CellTone)>| {
        cells.iter().enumerate().map(pad).collect::<Vec<_>>().join(GAP).trim_end().to_owned() + "\n"
    };
    lines.iter().map(line).collect()
}

/// The whole table in Markdown.
pub fn markdown(rows: &[Row], plan: &ComparePlan) -> String {
    let columns = columns::of(plan);
    let mut text = "| fix |".to_owned();
    columns.iter().for_each(|column| text += &format!(" {} |", column.head));
    text += "\n|---|";
    columns.iter().for_each(|_| text += "---|");
    for row in rows {
        text += &format!("\n| `{}` |", row.fix);
        columns.iter().for_each(|column| text += &format!(" {} |", column.cell(row, plan).text));
    }
    text + "\n"
}

/// The contents of a page.
pub struct CompareReport<'a> {
    pub plan: &'a ComparePlan,
    pub rows: &'a [Row],
    /// How several servers are set up.
    pub notes: &'a [String],
    /// Why a row could not be measured, which ended the comparison.
    pub broken: Option<&'a str>,
    /// The command that repeats the comparison.
    pub command: &'a str,
    pub began: SystemTime,
    pub took: Duration,
}

impl CompareReport<'_> {
    /// The page. It has at most [`size::MOST_BYTES`].
    pub fn html(&self) -> Result<String, ReportError> {
        size::fitting(|detail| self.render(detail))
    }

    fn configuration(&self) -> Vec<(&'static str, String)> {
        let ComparePlan { tabs, pace, several, .. } = self.plan;
        let servers = several.iter().flat_map(|several| {
            [("servers", several.servers.to_string()), ("engine", several.engine.name().to_owned())]
        });
        let window = several.map_or(pace.window, |_| Several::window(pace));
        let rest = [
            ("tabs", tabs.to_string()),
            ("threads", super::THREADS.to_string()),
            ("a write every", spoken(pace.update_rate)),
            ("a new row every", spoken(pace.produce_every)),
            ("watched for", spoken(window)),
            ("ninetabs", env!("CARGO_PKG_VERSION").to_owned()),
            ("system", format!("{} {}", std::env::consts::OS, std::env::consts::ARCH)),
            ("took", spoken(self.took)),
        ];
        servers.chain(rest).collect()
    }

    fn render(&self, detail: Detail) -> Result<String, ReportError> {
        let CompareReport { plan, rows, .. } = self;
        // All pictures have the time span of the shortest one.
        let scenes = || rows.iter().filter_map(|row| row.scene.as_ref());
        let span_us = scenes().map(|scene| scene.record.now_us.saturating_sub(scene.from_us)).min();
        let (same, shown): (Vec<&Column>, Vec<&Column>) =
            columns::of(plan).into_iter().partition(|column| column.same_in_all(rows, plan).is_some());
        let mut headings = Vec::new();
        let groups = Group::ALL.map(|group| {
            let of_group = || shown.iter().filter(|it| it.group == group);
            headings.extend(of_group().map(|it| it.heading));
            let columns: Vec<Value> = of_group().map(|it| column(it)).collect();
            context! { heading => group.heading(), width => columns.len(), columns }
        });
        let same: Vec<String> = same
            .iter()
            .filter_map(|column| Some(format!("{}: {}", column.heading, column.same_in_all(rows, plan)?)))
            .collect();
        let measured = |row: &Row| measured(row, &shown, plan, span_us, detail);
        let until_us = |scene: &Scene| span_us.map(|span_us| scene.from_us + span_us);
        let legend = picture::legend(scenes(), until_us)?;
        let claims = || rows.iter().flat_map(|row| &row.claims);
        let mut environment = Environment::new();
        for (name, source) in TEMPLATES {
            environment.add_template(name, source)?;
        }
        Ok(environment.get_template("report/compare.html")?.render(context! {
            rows => rows.iter().map(measured).collect::<Result<Vec<_>, _>>()?,
            left_out => detail.left_out(),
            legend,
            headings,
            groups => groups.into_iter().collect::<Vec<_>>(),
            same => (!same.is_empty()).then(|| same.join(", ")),
            headline => summary::headline(rows, plan),
            summary => summary::lines(rows, plan),
            notes => self.notes.to_vec(),
            has_several => plan.several.is_some(),
            broken => self.broken,
            claims => claims().count(),
            failed => claims().filter(|claim| !claim.held).count(),
            began => date(self.began),
            command => self.command,
            configuration => self.configuration(),
        })?)
    }
}

fn column(column: &Column) -> Value {
    context! { heading => column.heading, means => column.means }
}

fn measured(
    row: &Row,
    shown: &[&Column],
    plan: &ComparePlan,
    span_us: Option<u64>,
    detail: Detail,
) -> Result<Value, ReportError> {
    let label = format!("Lanes of {}", row.fix);
    let lanes = row.scene.as_ref().map(|scene| {
        let until_us = span_us.map(|span_us| scene.from_us + span_us);
        let look = PictureLook {
            label: &label,
            until_us,
            folds_idle: true,
            without_legend: true,
            ..PictureLook::default()
        };
        detail.draw(scene, look)
    });
    // In the order of the groups.
    let columns = Group::ALL.into_iter().flat_map(|group| shown.iter().filter(move |it| it.group == group));
    let cells = columns.map(|column| {
        let cell = column.cell(row, plan);
        context! { text => cell.text, class => cell.tone.class() }
    });
    Ok(context! {
        fix => row.fix,
        note => row.note.as_deref(),
        held => row.held(),
        cells => cells.collect::<Vec<_>>(),
        claims => row.claims.iter().map(claim).collect::<Vec<_>>(),
        lanes => lanes.transpose()?.flatten(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::Spread;
    use super::super::tests::{on_several, plan, rows};
    use super::*;
    use crate::lab::record::tests::two_threads;
    use crate::lab::story::Story;

    fn with_unmeasured() -> Vec<Row> {
        let unmeasured = Row { fix: "shared-worker", note: Some("none".into()), ..Row::default() };
        rows().into_iter().chain([unmeasured]).collect()
    }

    #[test]
    fn the_tables_fit_a_terminal_of_eighty_columns() {
        let mut wide = with_unmeasured();
        wide[0].page_ms = Spread { p50: Some(1000.0), p99: Some(10000.0) };
        wide[0].event_ms = wide[0].page_ms;
        wide[0].queries_per_s = Some(10000.0);
        let text = text(&wide, &plan());
        let widest = text.lines().map(measure_text_width).max().unwrap();
        assert!(widest <= 80, "{widest}:\n{text}");
    }

    #[test]
    fn on_several_servers_the_table_shows_what_a_kill_costs_in_every_row() {
        let (plan, rows) = on_several();
        let text = text(&rows, &plan);
        let widest = text.lines().map(measure_text_width).max().unwrap();
        assert!(widest <= 80, "{widest}:\n{text}");
        let heads: Vec<&str> = text.lines().filter(|line| line.starts_with("fix ")).collect();
        assert_eq!(
            heads[0].split_whitespace().collect::<Vec<_>>()[..4],
            ["fix", "tabs", "cross", "ms"],
            "{text}"
        );
        for head in ["moved", "lost", "twice", "blind s"] {
            assert!(heads.join(" ").contains(head), "{head} is missing in {text}");
        }
        let table = markdown(&rows, &plan);
        assert!(table.contains("| `naive` | 8 | 2.5 / 11017.2 | – | 2 | 0 | never |"), "{table}");
        assert!(table.contains("| `push` | 9 | 1.9 / 11017.2 | 3 | 0 | 0 | never |"), "{table}");
    }

    #[test]
    fn a_column_of_one_value_is_left_out_and_named() {
        let text = text(&with_unmeasured(), &plan());
        let heads: Vec<&str> = text.lines().filter(|line| line.starts_with("fix ")).collect();
        assert!(!heads.join(" ").contains("stops"), "{text}");
        assert!(text.replace('\n', " ").contains("The same in every row: "), "{text}");
        assert!(text.contains("stops yes"), "{text}");
        // One row alone is shown with all its columns.
        let alone = super::text(&with_unmeasured()[..1], &plan());
        assert!(alone.contains("stops") && !alone.contains("The same in every row"), "{alone}");
    }

    #[test]
    fn markdown_has_every_column_and_shows_never() {
        let text = markdown(&with_unmeasured(), &plan());
        assert!(text.contains("| `naive` | 8 | never | 1012.5 / never |"), "{text}");
        let columns = text.lines().map(|line| line.matches('|').count()).collect::<Vec<_>>();
        assert_eq!(columns, [18; 5]);
    }

    /// A row of a busy server: eight threads with many streams, and pages on each of them.
    fn busy(pages: u64) -> Row {
        let mut record = two_threads();
        let (stream, page) = (record.stories[&2].clone(), record.stories[&3].clone());
        record.stories.clear();
        let mut add = |of: &Story, thread: usize, from_us: u64, for_us: u64| {
            let request = record.stories.len() as u64 + 1;
            let mut story = Story { request, started: Some((from_us, thread)), ..of.clone() };
            (story.queued_us, story.finished_us) = (from_us, Some(from_us + for_us));
            story.writes_us = (0..20).map(|write| from_us + write * for_us / 20).collect();
            record.stories.insert(request, story);
        };
        for thread in 1..=8 {
            (0..6).for_each(|turn| add(&stream, thread, 50_000 + turn * 1_000_000, 400_000));
            (0..pages).for_each(|number| add(&page, thread, 500_000 + number * 7_000_000 / pages, 300));
        }
        record.now_us = 8_000_000;
        let scene = Some(Scene { caption: "busy".into(), record, from_us: 0 });
        Row { scene, claims: vec![rows()[1].claims[0].clone(); 9], ..rows()[1].clone() }
    }

    #[test]
    fn the_page_of_sixteen_busy_rows_has_at_most_a_hundred_thousand_bytes() {
        for pages in [20, 400, 4_000] {
            let (plan, rows) = (plan(), vec![busy(pages); 16]);
            let (command, began) = ("ninetabs compare", SystemTime::UNIX_EPOCH);
            let took = Duration::from_secs(1);
            let report =
                CompareReport { plan: &plan, rows: &rows, notes: &[], broken: None, command, began, took };
            let page = report.html().unwrap();
            assert!(page.len() <= size::MOST_BYTES, "{pages}: {}", page.len());
            assert_eq!(page.matches("<svg").count(), 17, "{pages}: the lanes and their legend are there");
        }
    }

    #[test]
    fn failures_come_first_in_the_page() {
        let (rows, began) = (with_unmeasured(), SystemTime::UNIX_EPOCH);
        let plan = plan();
        let report = CompareReport {
            plan: &plan,
            rows: &rows,
            notes: &[],
            broken: None,
            command: "ninetabs compare",
            began,
            took: Duration::from_secs(1),
        };
        let page = report.html().unwrap();
        let failure = page.find("A page &amp; more").unwrap();
        assert!(failure < page.find("<table").unwrap(), "{page}");
        assert!(page.contains("1 of 2 claims failed"), "{page}");
        assert!(page.contains("1 of 2 keeps pages answered."), "{page}");
        assert!(page.contains("What viewers get") && page.contains(">never<"), "{page}");
    }
}
