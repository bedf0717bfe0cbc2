//! The columns of a comparison on several servers.

use super::super::several::{CrossDelay, SeveralFigures};
use super::{COLUMNS, CellText, Column, Group, compared, in_time, neutral, never, none_is_good};
use crate::lab::compare::Row;

/// The headings of the columns that a comparison on one server has as well, before and after the others.
const BEFORE: [&str; 1] = ["tabs"];
const AFTER: [&str; 5] = ["page ms", "event ms", "held", "queries/s", "conns"];

pub(super) fn columns() -> Vec<&'static Column> {
    let shared = |heads: &'static [&str]| {
        heads.iter().filter_map(|head| COLUMNS.iter().find(|column| column.head == *head))
    };
    shared(&BEFORE).chain(OWN).chain(shared(&AFTER)).collect()
}

const OWN: &[Column] = &[
    Column {
        head: "cross ms",
        heading: "to tabs of other servers, p50 / max ms",
        means: "from the answer to a POST to the arrival of its row in a tab of another server, p50/max",
        group: Group::Viewers,
        cell: |row, _| cross(figures(row).cross_server_ms),
    },
    Column {
        head: "moved",
        heading: "tabs that changed the server",
        means: "tabs of the killed server that received a row from another one",
        group: Group::Stress,
        cell: |row, _| {
            let SeveralFigures { moved_tabs, tabs_of_killed_server, .. } = figures(row);
            compared(moved_tabs.map(|tabs| tabs as u64), |tabs| {
                tabs > 0 && tabs == tabs_of_killed_server as u64
            })
        },
    },
    Column {
        head: "lost",
        heading: "rows lost over the kill",
        means: "rows of the table that a tab never received",
        group: Group::Stress,
        cell: |row, _| none_is_good(row.several.map(|figures| figures.lost)),
    },
    Column {
        head: "twice",
        heading: "rows received twice",
        means: "rows that a tab received more than once, or after a later one",
        group: Group::Stress,
        cell: |row, _| none_is_good(row.repeated),
    },
    Column {
        head: "blind s",
        heading: "blind after the kill, s",
        means: "from the kill until every tab of the killed server has received a row again",
        group: Group::Stress,
        cell: |row, _| in_time(row.blind_s),
    },
];

fn figures(row: &Row) -> SeveralFigures {
    row.several.unwrap_or_default()
}

fn cross(delay: CrossDelay) -> CellText {
    match (delay.p50, delay.max) {
        (Some(p50), Some(max)) => neutral(format!("{p50:.1} / {max:.1}")),
        _ => never(),
    }
}
