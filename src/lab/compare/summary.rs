//! The conclusions of a comparison, in sentences.

use super::several::Several;
use super::{ComparePlan, Row};
use crate::lab::wording::spelled;

/// The sentences below the table. A comparison of one row has none.
pub fn lines(rows: &[Row], plan: &ComparePlan) -> Vec<String> {
    let measured: Vec<&Row> = rows.iter().filter(|row| row.is_measured()).collect();
    if measured.len() < 2 {
        return Vec::new();
    }
    if let Some(several) = plan.several {
        return on_several(&measured, several);
    }
    let (kept, lost): (Vec<&Row>, Vec<&Row>) = measured.iter().partition(|row| keeps_pages(row));
    let tabs = spelled(plan.tabs, "tab");
    let but = match lost.as_slice() {
        [] => String::new(),
        [one] => format!("; {} does not", one.fix),
        _ => format!("; {} do not", listed(&lost)),
    };
    let verb = if kept.len() == 1 { "keeps" } else { "keep" };
    let mut lines =
        vec![format!("{} of {} {verb} pages answered with {tabs} open{but}.", kept.len(), measured.len())];
    lines.extend(soonest(&measured));
    lines.extend(fewest_queries(&measured));
    lines
}

/// The sentences about several servers, one of which was killed.
fn on_several(measured: &[&Row], several: Several) -> Vec<String> {
    let (complete, others): (Vec<&Row>, Vec<&Row>) = measured.iter().partition(|row| is_complete(row));
    let but = if others.is_empty() { String::new() } else { format!("; {} did not", listed(&others)) };
    let servers = spelled(several.servers, "server");
    let mut lines = vec![format!(
        "{} of {} lost and repeated nothing when one of {servers} was killed{but}.",
        complete.len(),
        measured.len()
    )];
    let timed = measured.iter().filter_map(|row| Some((row.several?.cross_server_ms.p50?, row)));
    lines.extend(timed.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(ms, row)| {
        format!("{}: a row reaches tabs of other servers after {ms:.1} ms (p50).", row.fix)
    }));
    lines.extend(fewest_queries(measured));
    lines
}

/// Whether no tab lost or repeated a model over the kill of a server.
fn is_complete(row: &Row) -> bool {
    row.repeated == Some(0) && row.several.is_some_and(|figures| figures.lost == 0)
}

/// The headline of a report.
pub fn headline(rows: &[Row], plan: &ComparePlan) -> Option<String> {
    let measured: Vec<&Row> = rows.iter().filter(|row| row.is_measured()).collect();
    if plan.several.is_some() {
        let complete = measured.iter().filter(|row| is_complete(row)).count();
        let text =
            format!("{complete} of {} lost and repeated nothing when a server was killed.", measured.len());
        return (measured.len() > 1).then_some(text);
    }
    let kept = measured.iter().filter(|row| keeps_pages(row)).count();
    let best: Vec<&Row> = measured.iter().copied().filter(|row| is_at_once(row, plan)).collect();
    let verb = if kept == 1 { "keeps" } else { "keep" };
    let first = format!("{kept} of {} {verb} pages answered.", measured.len());
    match (measured.len(), best.as_slice()) {
        (0 | 1, _) => None,
        (_, []) => Some(first),
        (_, [one]) => {
            Some(format!("{first} One of them delivers immediately and holds no thread: {}.", one.fix))
        }
        (_, best) => Some(format!(
            "{first} {} of them deliver immediately and hold no thread: {}.",
            best.len(),
            joined(best)
        )),
    }
}

/// Whether pages are answered while the tabs are open.
fn keeps_pages(row: &Row) -> bool {
    row.page_ms.p99.is_some()
}

/// Whether events arrive long before the next update would, while no tab holds a thread.
fn is_at_once(row: &Row, plan: &ComparePlan) -> bool {
    let bound_ms = plan.pace.update_rate.as_secs_f64() * 1e3 / 4.0;
    keeps_pages(row) && holds_nothing(row) && row.event_ms.p50.is_some_and(|ms| ms < bound_ms)
}

fn holds_nothing(row: &Row) -> bool {
    row.pool_threads_held == Some(0)
}

/// The fix that delivers events soonest, among those that hold no thread.
fn soonest(measured: &[&Row]) -> Option<String> {
    let timed =
        measured.iter().filter(|row| holds_nothing(row)).filter_map(|row| Some((row.event_ms.p50?, row)));
    let (ms, row) = timed.min_by(|a, b| a.0.total_cmp(&b.0))?;
    let naive = measured.iter().find(|row| row.fix == "naive").and_then(|row| row.event_ms.p50);
    // Times are rounded to a tenth of a millisecond.
    let ratio = naive.map(|naive| naive / ms.max(0.1)).filter(|ratio| *ratio >= 2.0);
    let sooner = ratio.map_or_else(String::new, |ratio| format!(", {ratio:.0} times sooner than naive"));
    Some(format!("{}: events after {ms:.1} ms (p50){sooner}, no thread held.", row.fix))
}

fn fewest_queries(measured: &[&Row]) -> Option<String> {
    let asked =
        measured.iter().filter(|row| holds_nothing(row)).filter_map(|row| Some((row.queries_per_s?, row)));
    let (queries, row) = asked.min_by(|a, b| a.0.total_cmp(&b.0))?;
    Some(format!("Fewest queries among fixes that hold no thread: {}, {queries:.1} per second.", row.fix))
}

fn joined(rows: &[&Row]) -> String {
    rows.iter().map(|row| row.fix).collect::<Vec<_>>().join(", ")
}

/// `naive and leave`, `naive, leave and cap`.
fn listed(rows: &[&Row]) -> String {
    match rows {
        [others @ .., last] if !others.is_empty() => format!("{} and {}", joined(others), last.fix),
        rows => joined(rows),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Spread;
    use super::*;

    #[test]
    fn the_summary_of_several_servers_counts_the_rows_that_lost_nothing() {
        let (plan, rows) = super::super::tests::on_several();
        assert_eq!(
            lines(&rows, &plan),
            [
                "1 of 2 lost and repeated nothing when one of three servers was killed; naive did not.",
                "push: a row reaches tabs of other servers after 1.9 ms (p50).",
                "Fewest queries among fixes that hold no thread: push, 4.0 per second.",
            ]
        );
        let headline = headline(&rows, &plan).unwrap();
        assert_eq!(headline, "1 of 2 lost and repeated nothing when a server was killed.");
    }

    #[test]
    fn the_summary_counts_and_names_the_fixes() {
        let (plan, [naive, push]) = (super::super::tests::plan(), super::super::tests::rows());
        let leave = Row { fix: "leave", ..naive.clone() };
        let poll = Row {
            fix: "poll-shared",
            queries_per_s: Some(0.7),
            event_ms: Spread { p50: Some(900.0), p99: Some(1900.0) },
            ..push.clone()
        };
        let unmeasured = Row { fix: "shared-worker", ..Row::default() };
        let rows = [naive, leave, push, poll, unmeasured];
        assert_eq!(
            lines(&rows, &plan),
            [
                "2 of 4 keep pages answered with nine tabs open; naive and leave do not.",
                "push: events after 1.2 ms (p50), 844 times sooner than naive, no thread held.",
                "Fewest queries among fixes that hold no thread: poll-shared, 0.7 per second.",
            ]
        );
        assert_eq!(
            headline(&rows, &plan).unwrap(),
            "2 of 4 keep pages answered. One of them delivers immediately and holds no thread: push."
        );
        assert!(lines(&rows[..1], &plan).is_empty() && headline(&rows[..1], &plan).is_none());
    }
}
