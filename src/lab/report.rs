//! A run as one self-contained HTML page, without a script or other files.
//!
//! The verdict comes first, then the failures, what was tested, and one line per act. After that, each act has its
//! expectation, pictures, claims and figures. The configuration and the command that repeats the run are at the end.
//! The page is a pure function of the results of the acts.

use std::time::{Duration, SystemTime};

use minijinja::{Environment, Value, context};
use thiserror::Error;

use super::acts::Outcome;
use super::claim::Claim;
use super::picture::{self, PictureError, PictureLook};
use super::stage::{Plan, Scene, spoken};
use super::story::Story;
use super::wording::{capitalized, spelled};
use crate::timestamp;

pub mod size;
pub mod window;

use size::Detail;

/// The parts of the page, by their names in the folder `views/`.
const TEMPLATES: &[(&str, &str)] = &[
    ("palette.css", picture::PALETTE),
    ("lanes.css", picture::STYLE),
    ("report/claims.html", include_str!("../../views/report/claims.html")),
    ("report/report.css", include_str!("../../views/report/report.css")),
    ("report/report.html", include_str!("../../views/report/report.html")),
];

/// The report could not be made.
#[derive(Debug, Error)]
pub enum ReportError {
    #[error("cannot make the report: {0}")]
    Template(#[from] minijinja::Error),
    #[error(transparent)]
    Picture(#[from] PictureError),
}

/// The contents of a report.
pub struct Report<'a> {
    pub plan: &'a Plan,
    pub outcomes: &'a [Outcome],
    /// Why an act could not be finished, which ended the run.
    pub broken: Option<&'a str>,
    /// The command that repeats the run.
    pub command: &'a str,
    pub began: SystemTime,
    pub took: Duration,
}

impl Report<'_> {
    /// Renders the page. It has at most [`size::MOST_BYTES`], unless it is larger even without pictures.
    pub fn html(&self) -> Result<String, ReportError> {
        size::fitting(|detail| self.render(detail))
    }

    fn render(&self, detail: Detail) -> Result<String, ReportError> {
        let acts = self.outcomes.iter().map(|outcome| act(outcome, detail)).collect::<Result<Vec<_>, _>>()?;
        let claims = || self.outcomes.iter().flat_map(|outcome| &outcome.verdict.claims);
        let plan = self.plan;
        let mut environment = Environment::new();
        for (name, source) in TEMPLATES {
            environment.add_template(name, source)?;
        }
        Ok(environment.get_template("report/report.html")?.render(context! {
            acts,
            left_out => detail.left_out(),
            broken => self.broken,
            claims => claims().count(),
            failed => claims().filter(|claim| !claim.held).count(),
            summary => summary(plan),
            began => date(self.began),
            command => self.command,
            configuration => vec![
                ("threads", format!("{}:{}", plan.threads.start(), plan.threads.end())),
                ("tabs", plan.tabs.to_string()),
                ("front door", plan.front.clone()),
                ("a write every", spoken(plan.pace.update_rate)),
                ("a new row every", spoken(plan.pace.produce_every)),
                ("clients reconnect after", spoken(plan.pace.retry)),
                ("ninetabs", env!("CARGO_PKG_VERSION").to_owned()),
                ("system", format!("{} {}", std::env::consts::OS, std::env::consts::ARCH)),
                ("took", spoken(self.took)),
            ],
        })?)
    }
}

/// The first sentences of the report: the tabs and the server that were tested.
fn summary(plan: &Plan) -> String {
    let tabs = match plan.tabs {
        1 => "One browser tab with an event stream was opened".to_owned(),
        _ => format!(
            "{}, each with an event stream, were opened",
            capitalized(&spelled(plan.tabs, "browser tab"))
        ),
    };
    format!(
        "{tabs} on a model of Puma with {}. Each act states an expectation, runs on its own server, and checks the \
         result.",
        spelled(plan.most_threads(), "thread")
    )
}

/// A date as `28 November 2026, 10:42 UTC`.
pub fn date(time: SystemTime) -> String {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    let text = timestamp::seconds(time).to_string();
    let part = |range: std::ops::Range<usize>| text.get(range).unwrap_or_default();
    let number = |range| part(range).trim_start_matches('0').to_owned();
    let month = part(5..7).parse().ok().and_then(|month: usize| MONTHS.get(month.checked_sub(1)?));
    format!("{} {} {}, {} UTC", number(8..10), month.unwrap_or(&""), part(0..4), part(11..16))
}

fn act(outcome: &Outcome, detail: Detail) -> Result<Value, PictureError> {
    let Outcome { verdict, heading, expects, why, conclusion, scenes, .. } = outcome;
    let figures = outcome.main_scene().map(figures).unwrap_or_default();
    Ok(context! {
        number => verdict.act,
        heading => heading,
        held => verdict.held(),
        claims => verdict.claims.iter().map(claim).collect::<Vec<_>>(),
        expects,
        why,
        conclusion => capitalized(conclusion),
        pictures => scenes.iter().map(|scene| picture(scene, detail)).collect::<Result<Vec<_>, _>>()?,
        figures,
    })
}

fn picture(scene: &Scene, detail: Detail) -> Result<Value, PictureError> {
    let look = PictureLook { label: &scene.caption, folds_idle: true, ..PictureLook::default() };
    Ok(context! { caption => capitalized(&scene.caption), svg => detail.draw(scene, look)? })
}

/// A claim as the templates show it.
pub fn claim(claim: &Claim) -> Value {
    let Claim { expected, measured, held, .. } = claim;
    context! { sentence => capitalized(&claim.sentence()), expected, measured, held }
}

/// The counts of a record, with their names.
fn figures(scene: &Scene) -> Vec<(&'static str, String)> {
    let Scene { record, from_us, .. } = scene;
    let stories = || record.stories.values();
    let count = |is_one: fn(&&Story) -> bool| stories().filter(is_one).count().to_string();
    let time = |us: u64| spoken(Duration::from_micros(us));
    let until = |at_us: Option<u64>, from_us: u64| at_us.unwrap_or(record.now_us).saturating_sub(from_us);
    let longest = |times: &mut dyn Iterator<Item = (u64, String)>| {
        times.max().map_or_else(|| "none".to_owned(), |(us, name)| format!("{}, {name}", time(us)))
    };
    let mut held = stories().filter_map(|story| {
        let (from_us, _) = story.started?;
        Some((until(story.finished_us, from_us), story.name()))
    });
    let mut waited = stories().map(|story| (until(story.left_todo_us(), story.queued_us), story.name()));
    let blocked = stories().flat_map(|story| &story.blocked_us).map(|(from, to)| to - from).sum();
    let mut figures = vec![
        ("time shown", time(record.now_us.saturating_sub(*from_us))),
        ("requests", stories().count().to_string()),
        ("streams", count(|story| story.is_stream)),
        ("writes", stories().map(|story| story.writes_us.len()).sum::<usize>().to_string()),
        ("writes that failed", count(|story| story.gone.is_some())),
        ("streams reaped", count(|story| story.reaped_us.is_some())),
        ("writes blocked for", time(blocked)),
        ("thread held longest", longest(&mut held)),
        ("longest in the queue", longest(&mut waited)),
    ];
    if record.forgotten > 0 {
        figures.push(("events not recorded", record.forgotten.to_string()));
    }
    figures
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::claim::{Claims, Verdict};
    use crate::lab::record::tests::two_threads;
    use crate::lab::stage::Pace;

    fn page(held: bool, broken: Option<&str>) -> String {
        let plan = Plan {
            program: "ninetabs".into(),
            threads: 2..=2,
            tabs: 3,
            front: "puma".into(),
            pace: Pace::FAST,
        };
        let mut claims = Claims::default();
        claims.push("tabs <b>", "2", "2", true);
        claims.push("pages & more", "no byte", "200", held);
        let verdict = Verdict { act: 4, title: "Three & two".into(), claims: claims.into_vec() };
        let scene = Scene { caption: "two tabs".into(), record: two_threads(), from_us: 0 };
        let outcome = Outcome {
            verdict,
            heading: "three & two".into(),
            expects: "2 < 3".into(),
            why: "so".into(),
            conclusion: "one of two".into(),
            scenes: vec![scene],
            main: 0,
            skipped: Vec::new(),
        };
        let report = Report {
            plan: &plan,
            outcomes: &[outcome],
            broken,
            command: "ninetabs reproduce --act '4'",
            began: SystemTime::UNIX_EPOCH,
            took: Duration::from_secs(3),
        };
        report.html().unwrap()
    }

    #[test]
    fn failures_come_before_everything_else() {
        let page = page(false, None);
        let (failure, first_act) = (page.find("200").unwrap(), page.find("id=\"act-4\"").unwrap());
        assert!(failure < first_act && page.find("1 of 2 claims failed").unwrap() < failure, "{page}");
        assert!(page.contains("Pages &amp; more") && !page.contains("<b>"), "{page}");
    }

    #[test]
    fn an_unfinished_run_is_not_as_expected() {
        let page = page(true, Some("act 5: the server under test ended"));
        assert!(page.contains("The run was not finished.") && !page.contains("claims held."), "{page}");
        let broken = page.find("the server under test ended").unwrap();
        assert!(broken < page.find("id=\"act-4\"").unwrap(), "{page}");
    }

    #[test]
    fn figures_are_counted_from_the_record() {
        let mut record = two_threads();
        record.now_us = 9_000_000;
        let figures = figures(&Scene { caption: String::new(), record, from_us: 0 });
        let value = |what| &figures.iter().find(|figure| figure.0 == what).unwrap().1;
        assert_eq!((value("requests").as_str(), value("streams").as_str()), ("3", "2"));
        assert_eq!((value("writes").as_str(), value("writes that failed").as_str()), ("2", "1"));
        assert_eq!(value("thread held longest"), "9.0 s, tab 2");
        assert_eq!(value("longest in the queue"), "9.0 s, /up");
    }

    #[test]
    fn a_date_is_written_out_in_utc() {
        let at = |seconds| date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1 January 1970, 00:00 UTC");
        assert_eq!(at(1_795_862_520), "28 November 2026, 10:42 UTC");
    }

    #[test]
    fn the_page_states_what_was_tested_and_the_result() {
        let page = page(true, None);
        assert!(
            page.contains("Three browser tabs, each with an event stream, were opened on a model of Puma"),
            "{page}"
        );
        let conclusion = page.find("One of two.").unwrap();
        assert!(conclusion < page.find("<article").unwrap(), "{page}");
    }
}
