//! A run as one self-contained HTML page, without scripts or other files.

use std::time::{Duration, SystemTime};

use minijinja::{Environment, Value, context};

use super::super::super::picture as lanes;
use super::super::super::report::{ReportError, date};
use super::super::super::stage::spoken;
use super::super::findings::Finding;
use super::super::measured::Measured;
use super::super::thresholds::ThresholdVerdict;
use super::conclusion::heading;
use super::json::steps;
use super::steps::{TabGroup, groups};
use super::{ProbedRun, extras, picture, rows, words};

const TEMPLATES: &[(&str, &str)] = &[
    ("palette.css", lanes::PALETTE),
    ("lanes.css", lanes::STYLE),
    ("report/claims.html", include_str!("../../../../views/report/claims.html")),
    ("report/report.css", include_str!("../../../../views/report/report.css")),
    ("report/report.html", include_str!("../../../../views/report/report.html")),
    ("report/probe.css", include_str!("../../../../views/report/probe.css")),
    ("report/probe.html", include_str!("../../../../views/report/probe.html")),
];

/// Maximum number of rows in the table of tabs. If there are more, the middle ones are left out.
const MOST_STEPS: usize = 60;
/// Maximum length of a path in a column heading, in characters.
const LONGEST_PATH: usize = 60;

/// Formats a run as a page.
pub fn html(run: &ProbedRun<'_>, began: SystemTime, took: Duration) -> Result<String, ReportError> {
    let ProbedRun { measured, findings, .. } = run;
    let target = &measured.target;
    let label = format!("Lanes of the connections: {}", run.sentence);
    let picture = match measured.lanes.as_slice() {
        [] => None,
        all => Some(picture::draw(all, &label)?),
    };
    let paths: Vec<&str> = measured.baseline.iter().map(|page| page.path.as_str()).collect();
    let limit = findings.limit.as_ref().map(|limit| {
        let see = limit.see.as_deref();
        let (text, remedy) = (words::clean(&limit.text), words::clean(&limit.remedy));
        context! { heading => heading(limit, findings), text, remedy, see }
    });
    let notes: Vec<Value> = findings.notes.iter().map(|it| note(it, it.kind.name())).collect();
    let failures: Vec<String> = match run.verdict {
        ThresholdVerdict::Fails(failures) => failures.iter().map(ToString::to_string).collect(),
        ThresholdVerdict::NotMeasured(Some(threshold)) => {
            vec![format!("{threshold}: its figure was not measured")]
        }
        ThresholdVerdict::Holds | ThresholdVerdict::NotMeasured(None) | ThresholdVerdict::Interrupted => {
            Vec::new()
        }
    };
    let server = words::server(measured).unwrap_or_else(|| "unknown".to_owned());
    let mut environment = Environment::new();
    for (name, source) in TEMPLATES {
        environment.add_template(name, source)?;
    }
    Ok(environment.get_template("report/probe.html")?.render(context! {
        sentence => words::clean(run.sentence),
        began => date(began),
        failures,
        limit,
        advice => findings.advice.iter().map(|line| words::clean(line).into_owned()).collect::<Vec<_>>(),
        picture => picture.map(|it| context! {
            svg => it.svg, left_out => it.left_out, is_thinned => it.is_thinned
        }),
        paths => paths.iter().map(|path| words::short(path, LONGEST_PATH)).collect::<Vec<_>>(),
        steps => step_rows(measured, &paths),
        notes,
        figures => figures(measured),
        configuration => vec![
            ("stream", words::clean(&target.url).into_owned()),
            ("method", target.method.clone()),
            ("server", server),
            ("maximum tabs", target.tabs.to_string()),
            ("ninetabs", env!("CARGO_PKG_VERSION").to_owned()),
            ("system", format!("{} {}", std::env::consts::OS, std::env::consts::ARCH)),
            ("took", spoken(took)),
        ],
        command => words::clean(run.command),
    })?)
}

fn note<K>(finding: &Finding<K>, name: &str) -> Value {
    context! {
        name,
        text => words::clean(&finding.text),
        remedy => words::clean(&finding.remedy),
        see => finding.see.as_deref(),
    }
}

fn step_rows(measured: &Measured, paths: &[&str]) -> Vec<Value> {
    let groups = groups(steps(measured));
    let row = |group: &TabGroup<_>| step_row(group, paths);
    if groups.len() <= MOST_STEPS {
        return groups.iter().map(row).collect();
    }
    let half = MOST_STEPS / 2;
    let more = context! {
        label => "…", text => format!("{} more", groups.len() - MOST_STEPS), cells => vec![""; paths.len()]
    };
    let (first, last) = (&groups[..half], &groups[groups.len() - half..]);
    first.iter().map(row).chain([more]).chain(last.iter().map(row)).collect()
}

fn step_row(group: &TabGroup<&super::super::measured::ProbedTab>, paths: &[&str]) -> Value {
    let cell = |path: &&str| match group.pages().iter().find(|page| page.path == **path) {
        Some(page) if !page.asks.is_empty() => format!("{} of {}", page.answered(), page.asks.len()),
        _ => String::new(),
    };
    context! {
        label => group.label(), text => group.text(), cells => paths.iter().map(cell).collect::<Vec<_>>()
    }
}

/// The facts other than the tabs, worded as on the terminal.
fn figures(measured: &Measured) -> Vec<(String, String)> {
    let stopped: Vec<&str> = measured
        .baseline
        .iter()
        .map(|page| page.path.as_str())
        .filter(|path| super::super::findings::pages_stop_at(measured, path).is_some())
        .collect();
    let first = stopped.first().copied().or(measured.baseline.first().map(|page| page.path.as_str()));
    let flows = measured.climbs.iter().any(|climb| climb.streams > 0);
    let end = rows::end_of_tabs(&measured.waiting);
    let slots =
        (!measured.slot_returns.is_empty()).then(|| rows::slots(&measured.slot_returns, end.as_deref()));
    let free = measured.free.as_ref().map(|free| rows::free(free, first, flows));
    let late = measured.late_page.as_ref().and_then(rows::late_page).map(rows::late);
    let held = |held: &super::super::measured::HeldConnections, what: &str| {
        (format!("{} {what}", held.n), rows::beside_held(held, &stopped))
    };
    let pairs = [slots, free, late].into_iter().flatten().chain(extras::rows(measured));
    let pairs = pairs.chain(measured.climbs.iter().skip(1).map(rows::climb)).chain([rows::sent(measured)]);
    let mut figures: Vec<_> = pairs.map(|row| (row.label, row.text)).collect();
    figures.extend(measured.idle.iter().map(|it| held(it, "idle")));
    figures.extend(measured.kept.iter().map(|it| held(it, "keep-alive")));
    figures
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    fn page(sample: &samples::Sample) -> String {
        html(&sample.run(&ThresholdVerdict::Holds), SystemTime::UNIX_EPOCH, Duration::from_secs(45)).unwrap()
    }

    #[test]
    fn the_page_has_the_verdict_the_limit_the_tabs_and_the_command() {
        let page = page(&samples::rails());
        for seen in [
            "<h1>5 streams at the same time; pages that use the database answer beside 4 of them.</h1>",
            "DATABASE POOL (database-pool)",
            "ninetabs reproduce --act 6",
            ">tabs 1-4</th>",
            ">0 of 3</td>",
            "late-first-event",
            "after 5.3 s",
            "--page",
        ] {
            assert!(page.contains(seen), "{seen} in {page}");
        }
    }

    #[test]
    fn a_page_with_forty_lanes_is_smaller_than_100_000_bytes() {
        let page = page(&samples::forty_lanes());
        assert!(page.len() < 100_000, "{} bytes", page.len());
        for seen in [">tab 1<", ">tab 40<", ">C<", ">X<", ">R<", ">kernel<", "10 idle", "&lt;b&gt;"] {
            assert!(page.contains(seen), "{seen}");
        }
        assert!(page.contains("Not every event has a tick"), "{page}");
        assert!(!page.contains("<b>"));
    }

    #[test]
    fn streams_beyond_the_lane_limit_are_counted_instead_of_drawn() {
        let mut sample = samples::forty_lanes();
        let lane = sample.measured.lanes[0].clone();
        sample.measured.lanes.extend(vec![lane; 960]);
        let page = page(&sample);
        assert!(page.contains("940 more streams are not drawn"));
        assert!(page.len() < 100_000, "{} bytes", page.len());
    }

    #[test]
    fn the_page_loads_no_other_file_and_contains_no_control_character() {
        for mut sample in samples::all() {
            sample.measured.target.server = Some("\u{1b}[31m<script>".to_owned());
            let page = page(&sample);
            for outside in ["http-equiv", "<script", "<img", "src=", "<link rel=\"stylesheet\"", "@import"] {
                assert!(!page.contains(outside), "{outside} in {page}");
            }
            assert!(!page.contains('\u{1b}'), "{page}");
        }
    }

    #[test]
    fn a_run_that_was_not_measured_still_gets_a_page() {
        let page = page(&samples::unreachable());
        assert!(page.contains("No limit was measured.") && !page.contains("<svg"), "{page}");
    }
}
