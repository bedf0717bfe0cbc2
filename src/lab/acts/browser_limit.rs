//! Act 3: the browser's own limit. On one host the seventh tab waits for the
//! browser, with threads to spare; on hosts of their own only the threads count.

use std::time::Duration;

use super::{Played, Theatre, count, nine_tabs};
use crate::lab::browser::{Browser, BrowserTab};
use crate::lab::chromium::{Chromium, ChromiumError, PageId};
use crate::lab::claim::Claims;
use crate::lab::http;
use crate::lab::stage::{ActError, JUDGED_AT, Plan, Stage};

/// Connections that a browser opens to one host over HTTP/1.1.
const SIX: usize = 6;
/// How long a tab may take to load and stream before it is taken for one that waits.
const PATIENCE: Duration = Duration::from_secs(3);

/// What becomes of tabs on one host, as far as the server sees them.
struct HostShares {
    /// Pages that are asked for.
    asked: usize,
    streaming: usize,
    idle: usize,
}

fn shares(plan: &Plan) -> HostShares {
    let asked = plan.tabs.min(SIX);
    let streaming = asked.min(plan.most_threads());
    HostShares { asked, streaming, idle: plan.most_threads() - streaming }
}

pub(super) fn title(plan: &Plan) -> String {
    let HostShares { idle, .. } = shares(plan);
    if plan.tabs > SIX {
        format!("The browser's own limit: tab 7, and {idle} threads idle")
    } else {
        format!("The browser's own limit is not reached by {} tabs", plan.tabs)
    }
}

pub(super) fn expects(plan: &Plan) -> String {
    let HostShares { asked, streaming, idle } = shares(plan);
    let (spread, _) = nine_tabs::shares(plan);
    format!(
        "A browser opens six connections to a host: with all {} tabs on one host the server is asked for {asked} \
         pages and holds {streaming} streams, {idle} threads idle. With each tab on a host of its own it holds {spread}.",
        plan.tabs
    )
}

pub(super) fn play(theatre: &mut Theatre<'_>) -> Result<Played, ActError> {
    let plan = theatre.plan;
    let expected = shares(plan);
    let mut claims = Claims::default();
    let mut stage =
        theatre.serve(&format!("All {} on one host, 127.0.0.1:", count(plan.tabs, "tab")), &[])?;
    let mut browser = DrivenBrowser::start(&mut stage)?;

    let port = stage.port().to_owned();
    let one_host = |tab: usize| format!("http://127.0.0.1:{port}/?tab={tab}");
    let tabs = open_all(&mut stage, &mut browser, one_host)?;
    let (asked, streaming) = seen(&stage);
    claims.equal("one host: pages that the server was asked for", expected.asked, asked);
    claims.equal("one host: streams", expected.streaming, streaming);
    let capacity = stage.stat("/pool_capacity")? as usize;
    claims.equal("one host: threads idle meanwhile", expected.idle, capacity);
    stage.settle_lanes();
    let record = stage.recorded();
    browser.close(tabs)?;
    drop(browser);
    drop(stage);

    let mut stage = theatre.serve("Each tab on a host of its own, tab1.localhost and so on:", &[])?;
    let mut browser = DrivenBrowser::start(&mut stage)?;
    let port = stage.port().to_owned();
    let own_host = |tab: usize| format!("http://tab{tab}.localhost:{port}/?tab={tab}");
    let tabs = open_all(&mut stage, &mut browser, own_host)?;
    let (spread, _) = nine_tabs::shares(plan);
    claims.equal("a host each: streams", spread, seen(&stage).1);
    stage.settle_lanes();
    browser.close(tabs)?;

    Ok(Played { claims, why: why(plan, browser.name()), record })
}

fn why(plan: &Plan, browser: &str) -> String {
    let HostShares { idle, .. } = shares(plan);
    let one_host = if plan.tabs <= SIX {
        format!(
            "The six connections that {browser} opens to a host were enough for {}.",
            count(plan.tabs, "tab")
        )
    } else if idle > 0 {
        format!(
            "{browser} kept every request behind the sixth to itself, since its six connections to 127.0.0.1 were in use, \
             and the server's {} never received them.",
            count(idle, "idle thread")
        )
    } else {
        format!(
            "{browser} kept every request behind the sixth to itself, and the server had no idle thread for the others."
        )
    };
    let own_hosts = if plan.tabs > plan.most_threads() {
        "the pool runs out instead. To the person in front of the tab both look alike."
    } else {
        "the pool has a thread for each of them."
    };
    format!(
        "{one_host} On tab1.localhost to tab{}.localhost no host has more than one stream, and {own_hosts}",
        plan.tabs
    )
}

/// Opens the plan's tabs one by one: each streams, or has had its chance.
fn open_all(
    stage: &mut Stage<'_>,
    browser: &mut DrivenBrowser,
    url: impl Fn(usize) -> String,
) -> Result<Vec<OpenedTab>, ActError> {
    let mut tabs = Vec::new();
    let mut is_full = false;
    for tab in 1..=stage.plan.tabs {
        tabs.push(browser.open(&url(tab))?);
        let stream = format!("tab={tab}");
        // Where a tab is expected to come it gets all the time of a slow machine;
        // behind one that has waited in vain, no such patience is needed.
        let patience = match tab {
            _ if is_full => PATIENCE / 10,
            1..=SIX => PATIENCE * JUDGED_AT,
            _ => PATIENCE,
        };
        let settled = stage.wait_until(patience, |stage| {
            stage.record(|record| {
                let mine = |target: &str| target.split(['?', '&']).any(|part| part == stream);
                let stories = || record.stories.values().filter(|story| mine(&story.target));
                let waits = |us: u64| record.now_us.saturating_sub(us) > PATIENCE.as_micros() as u64 / 10;
                let streams = stories().any(|story| story.is_stream && !story.writes_us.is_empty());
                let queued = stories().any(|story| story.is_queued() && waits(story.queued_us));
                (streams || queued).then_some(())
            })
        })?;
        is_full |= settled.is_none();
    }
    Ok(tabs)
}

/// Pages that were asked for, and streams that are open.
fn seen(stage: &Stage<'_>) -> (usize, usize) {
    stage.record(|record| {
        let pages = record.stories.values().filter(|story| story.target.starts_with("/?tab=")).count();
        (pages, record.open_streams())
    })
}

/// The real Chromium, or, where it is not installed, a model of a browser.
enum DrivenBrowser {
    Real(Chromium),
    Simulated(Browser),
}

enum OpenedTab {
    Page(PageId),
    Simulated(BrowserTab),
}

impl DrivenBrowser {
    fn start(stage: &mut Stage<'_>) -> Result<DrivenBrowser, ActError> {
        match Chromium::start(stage.interrupt()) {
            Ok(chromium) => Ok(DrivenBrowser::Real(chromium)),
            Err(ChromiumError::NotInstalled) => {
                stage.say("(simulated: Chromium is not installed, and a model of a browser opens the tabs)");
                Ok(DrivenBrowser::Simulated(Browser::new()))
            }
            Err(ChromiumError::Interrupted) => Err(ActError::Interrupted),
            Err(error) => {
                stage.say(&format!("(simulated: Chromium does not start: {error})"));
                Ok(DrivenBrowser::Simulated(Browser::new()))
            }
        }
    }

    fn name(&self) -> &'static str {
        match self {
            DrivenBrowser::Real(_) => "Chromium",
            DrivenBrowser::Simulated(_) => "The simulated browser",
        }
    }

    fn open(&mut self, url: &str) -> Result<OpenedTab, ActError> {
        match self {
            DrivenBrowser::Real(chromium) => {
                Ok(OpenedTab::Page(chromium.open(url).map_err(ActError::Browser)?))
            }
            DrivenBrowser::Simulated(browser) => {
                let tab = http::parse_url(url)?.query().unwrap_or_default().to_owned();
                Ok(OpenedTab::Simulated(browser.open(url, &format!("/models/live_stream?{tab}"))?))
            }
        }
    }

    fn close(&mut self, tabs: Vec<OpenedTab>) -> Result<(), ActError> {
        for tab in tabs {
            match (&*self, tab) {
                (DrivenBrowser::Real(chromium), OpenedTab::Page(page)) => {
                    chromium.close(&page).map_err(ActError::Browser)?
                }
                (_, OpenedTab::Simulated(tab)) => tab.close(),
                (DrivenBrowser::Simulated(_), OpenedTab::Page(_)) => {}
            }
        }
        Ok(())
    }
}
