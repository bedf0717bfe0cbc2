//! A run as one page of HTML that needs nothing else: no script, no other file.
//!
//! The verdict stands first, and below it whatever failed. Then each act: what it
//! expected, its lanes, its claims, its figures. At the end what it was played with,
//! and the line that plays it again. Pure: the page is drawn from what the acts left.

use std::time::{Duration, SystemTime};

use minijinja::{Environment, Value, context};
use thiserror::Error;

use super::acts::Outcome;
use super::claim::Claim;
use super::picture::{self, PictureError};
use super::record::Record;
use super::stage::{Plan, spoken};
use super::story::Story;
use crate::timestamp;

/// The page's parts, by the names that they have in the folder `views/`.
const TEMPLATES: &[(&str, &str)] = &[
    ("lanes.css", picture::STYLE),
    ("report/claims.html", include_str!("../../views/report/claims.html")),
    ("report/report.css", include_str!("../../views/report/report.css")),
    ("report/report.html", include_str!("../../views/report/report.html")),
];

/// The report could not be drawn.
#[derive(Debug, Error)]
pub enum ReportError {
    #[error("the report could not be drawn: {0}")]
    Template(#[from] minijinja::Error),
    #[error(transparent)]
    Picture(#[from] PictureError),
}

/// What a report tells of.
pub struct Report<'a> {
    pub plan: &'a Plan,
    pub outcomes: &'a [Outcome],
    /// Why an act did not come to its end, and with it the run.
    pub broken: Option<&'a str>,
    /// The line that plays it again.
    pub command: &'a str,
    pub began: SystemTime,
    pub took: Duration,
}

impl Report<'_> {
    /// The page.
    pub fn html(&self) -> Result<String, ReportError> {
        let acts = self.outcomes.iter().map(act).collect::<Result<Vec<_>, _>>()?;
        let claims = || self.outcomes.iter().flat_map(|outcome| &outcome.verdict.claims);
        let plan = self.plan;
        let mut environment = Environment::new();
        for (name, source) in TEMPLATES {
            environment.add_template(name, source)?;
        }
        Ok(environment.get_template("report/report.html")?.render(context! {
            acts,
            broken => self.broken,
            claims => claims().count(),
            failed => claims().filter(|claim| !claim.held).count(),
            began => timestamp::seconds(self.began).to_string(),
            command => self.command,
            configuration => vec![
                ("threads", format!("{}:{}", plan.threads.start(), plan.threads.end())),
                ("tabs", plan.tabs.to_string()),
                ("front door", plan.front.clone()),
                ("an update every", spoken(plan.pace.update_rate)),
                ("a model every", spoken(plan.pace.produce_every)),
                ("a client comes back after", spoken(plan.pace.retry)),
                ("ninetabs", env!("CARGO_PKG_VERSION").to_owned()),
                ("on", format!("{} {}", std::env::consts::OS, std::env::consts::ARCH)),
                ("took", spoken(self.took)),
            ],
        })?)
    }
}

fn act(outcome: &Outcome) -> Result<Value, PictureError> {
    let Outcome { verdict, expects, why, record, began_us } = outcome;
    Ok(context! {
        number => verdict.act,
        title => &verdict.title,
        held => verdict.held(),
        claims => verdict.claims.iter().map(claim).collect::<Vec<_>>(),
        expects,
        why,
        lanes => picture::inline(&verdict.title, record, *began_us)?,
        figures => figures(record, *began_us),
    })
}

fn claim(claim: &Claim) -> Value {
    let Claim { claim, expected, measured, held } = claim;
    context! { claim, expected, measured, held }
}

/// What is counted in a record, and the number.
fn figures(record: &Record, began_us: u64) -> Vec<(&'static str, String)> {
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
        ("drawn", time(record.now_us.saturating_sub(began_us))),
        ("requests", stories().count().to_string()),
        ("streams", count(|story| story.is_stream)),
        ("writes", stories().map(|story| story.writes_us.len()).sum::<usize>().to_string()),
        ("writes that failed", count(|story| story.gone.is_some())),
        ("streams told to end", count(|story| story.reaped_us.is_some())),
        ("writes were blocked", time(blocked)),
        ("longest on a thread", longest(&mut held)),
        ("longest in todo", longest(&mut waited)),
    ];
    if record.forgotten > 0 {
        figures.push(("moments lost", record.forgotten.to_string()));
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
        let record = two_threads();
        let outcome = Outcome { verdict, expects: "2 < 3".into(), why: "so".into(), record, began_us: 0 };
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
    fn what_failed_stands_before_everything_else() {
        let page = page(false, None);
        let (failure, first_act) = (page.find("200").unwrap(), page.find("id=\"act-4\"").unwrap());
        assert!(failure < first_act && page.find("1 of 2 claims failed").unwrap() < failure, "{page}");
        assert!(page.contains("pages &amp; more") && !page.contains("<b>tabs"), "{page}");
    }

    #[test]
    fn a_run_that_broke_off_has_not_held() {
        let page = page(true, Some("act 5: the server ended while it was looked at"));
        assert!(!page.contains("held."), "{page}");
        let broken = page.find("the server ended while").unwrap();
        assert!(broken < page.find("id=\"act-4\"").unwrap(), "{page}");
    }

    #[test]
    fn figures_are_counted_from_the_record() {
        let mut record = two_threads();
        record.now_us = 9_000_000;
        let figures = figures(&record, 0);
        let value = |what| &figures.iter().find(|figure| figure.0 == what).unwrap().1;
        assert_eq!((value("requests").as_str(), value("streams").as_str()), ("3", "2"));
        assert_eq!((value("writes").as_str(), value("writes that failed").as_str()), ("2", "1"));
        assert_eq!(value("longest on a thread"), "9.0 s, tab 2");
        assert_eq!(value("longest in todo"), "9.0 s, /up");
    }
}
