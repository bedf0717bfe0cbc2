//! A run in Markdown, to paste into an issue: at most [`MOST_LINES`] lines.

use super::super::findings::Finding;
use super::super::measured::Measured;
use super::super::thresholds::ThresholdVerdict;
use super::conclusion::heading;
use super::json::steps;
use super::steps::{TabGroup, groups};
use super::words::{clean, count};
use super::{ProbedRun, words};

/// Maximum number of lines of the whole text.
pub const MOST_LINES: usize = 60;
/// Maximum number of rows in the table of tabs. If there are more, the middle ones are left out.
const MOST_STEPS: usize = 20;
/// Maximum number of rows in the table of findings.
const MOST_FINDINGS: usize = 20;

/// Formats a run.
pub fn markdown(run: &ProbedRun<'_>) -> String {
    let mut lines = vec![format!("**{}**", escaped(run.sentence)), String::new()];
    // The command cannot close the fence, because a closing fence is a line of backquotes only.
    lines.extend(["```sh".to_owned(), clean(run.command).into_owned(), "```".to_owned(), String::new()]);
    lines.push(versions(run.measured));
    lines.extend(step_table(run.measured));
    lines.extend(finding_table(run));
    let failures = match run.verdict {
        ThresholdVerdict::Fails(failures) => {
            failures.iter().map(|it| format!("- {}", escaped(&it.to_string()))).collect()
        }
        ThresholdVerdict::NotMeasured(Some(threshold)) => {
            vec![format!("- {threshold}: its figure was not measured")]
        }
        ThresholdVerdict::Holds | ThresholdVerdict::NotMeasured(None) | ThresholdVerdict::Interrupted => {
            Vec::new()
        }
    };
    if !failures.is_empty() {
        lines.push(String::new());
        // Each threshold can be given once, except for `--fail-on`, which can be repeated.
        lines.extend(failures.into_iter().take(5));
    }
    lines.join("\n") + "\n"
}

/// The versions of the programs involved, and the number of requests.
fn versions(measured: &Measured) -> String {
    let target = &measured.target;
    let server = target.server.as_deref().or_else(|| program(measured));
    let server = server.map_or_else(
        || "the server does not give its name".to_owned(),
        |name| format!("server {}", escaped(name)),
    );
    let http =
        if target.http.is_empty() { String::new() } else { format!(" over HTTP/{}", escaped(&target.http)) };
    format!(
        "ninetabs {} on {} {}; {server}; {}{http}; {}; abandoned: {}, {}",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH,
        escaped(&target.method),
        count(measured.requests, "request"),
        count(measured.abandoned_pages, "page"),
        count(measured.abandoned_streams, "stream"),
    )
}

fn program(measured: &Measured) -> Option<&str> {
    let figures = measured.statistics.iter().find_map(|it| it.figures.as_ref())?;
    Some(&figures.program)
}

fn step_table(measured: &Measured) -> Vec<String> {
    let groups = groups(steps(measured));
    if groups.is_empty() {
        return Vec::new();
    }
    let paths: Vec<&str> = measured.baseline.iter().map(|page| page.path.as_str()).collect();
    let heads: Vec<String> =
        paths.iter().map(|path| format!(" {} |", escaped(&words::short(path, 40)))).collect();
    let mut lines = vec![String::new(), format!("| tabs | result |{}", heads.concat())];
    lines.push(format!("|---|---|{}", "---|".repeat(paths.len())));
    let row = |group: &TabGroup<_>| step_row(group, &paths);
    let most = MOST_STEPS / 2;
    if groups.len() <= MOST_STEPS {
        lines.extend(groups.iter().map(row));
    } else {
        lines.extend(groups[..most].iter().map(row));
        let left_out = groups.len() - MOST_STEPS;
        lines.push(format!("| … | {} more |{}", left_out, " |".repeat(paths.len())));
        lines.extend(groups[groups.len() - most..].iter().map(row));
    }
    lines
}

fn step_row(group: &TabGroup<&super::super::measured::ProbedTab>, paths: &[&str]) -> String {
    let cell = |path: &&str| match group.pages().iter().find(|page| page.path == **path) {
        Some(page) if !page.asks.is_empty() => format!(" {}/{} |", page.answered(), page.asks.len()),
        _ => " |".to_owned(),
    };
    let label = group.label();
    let numbers = label.split_once(' ').map_or(label.as_str(), |(_, numbers)| numbers);
    format!("| {numbers} | {} |{}", escaped(&group.text()), paths.iter().map(cell).collect::<String>())
}

fn finding_table(run: &ProbedRun<'_>) -> Vec<String> {
    let findings = run.findings;
    let mut rows = Vec::new();
    if let Some(limit) = &findings.limit {
        rows.push(finding_row(&format!("limit: {}", heading(limit, findings)), limit));
    }
    rows.extend(findings.notes.iter().map(|note| finding_row(note.kind.name(), note)));
    if rows.is_empty() {
        return Vec::new();
    }
    rows.truncate(MOST_FINDINGS);
    let heads = [String::new(), "| finding | evidence | remedy |".to_owned(), "|---|---|---|".to_owned()];
    heads.into_iter().chain(rows).collect()
}

fn finding_row<K>(name: &str, finding: &Finding<K>) -> String {
    let see = finding.see.as_ref().map(|see| format!(" `{}`", clean(see))).unwrap_or_default();
    format!("| {} | {} | {}{see} |", escaped(name), escaped(&finding.text), escaped(&finding.remedy))
}

/// Escapes Markdown's characters, because the text may come from the server.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in clean(text).chars() {
        if matches!(c, '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::super::super::measured::ProbedTab;
    use super::super::samples;
    use super::*;

    #[test]
    fn the_text_has_the_verdict_the_command_and_two_tables() {
        let text = markdown(&samples::rails().run(&ThresholdVerdict::Holds));
        for line in [
            "**5 streams at the same time; pages that use the database answer beside 4 of them.**",
            "| tabs | result | /page | /up |",
            "| 1-4 | first event 204-219 ms | 3/3 | 3/3 |",
            "| 5 | first event 208 ms | 0/3 | 3/3 |",
            "| finding | evidence | remedy |",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} in {text}");
        }
        assert!(text.contains("| limit: DATABASE POOL (database-pool) | The next tab waits"), "{text}");
        assert!(text.contains("`ninetabs reproduce --act 6` |"), "{text}");
        assert_eq!(text.matches("\n|---").count(), 2);
    }

    #[test]
    fn it_has_at_most_sixty_lines() {
        let mut sample = samples::rails();
        let climb = &mut sample.measured.climbs[0];
        // The row of each of these tabs differs from the previous one, so that they are not grouped.
        climb.tabs = (1..1000)
            .map(|number| ProbedTab { number, status: Some(number as u16 % 2), ..climb.tabs[0].clone() })
            .collect();
        let note = sample.findings.notes[0].clone();
        sample.findings.notes = vec![note; 40];
        let text = markdown(&sample.run(&ThresholdVerdict::Holds));
        assert!(text.lines().count() <= MOST_LINES, "{}", text.lines().count());
        assert!(text.contains("| 999 |") && text.contains(" more |"), "{text}");
    }

    #[test]
    fn markup_in_text_from_the_server_is_escaped() {
        let mut sample = samples::gunicorn();
        sample.measured.target.server = Some("<b>|[x](y)`\u{1b}[31m\n".to_owned());
        let text = markdown(&sample.run(&ThresholdVerdict::Holds));
        assert!(text.contains(r"server \<b\>\|\[x\](y)\`"), "{text}");
        assert!(!text.contains('\u{1b}'));
    }
}
