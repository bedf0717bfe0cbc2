//! Act 3: the browser's own limit. With all tabs on one host, the seventh waits in the browser although threads are
//! idle. With one host per tab, only the number of threads matters.

use std::time::Duration;

use super::{Played, count, nine_tabs};
use crate::lab::browser::{Browser, BrowserTab};
use crate::lab::chromium::{Chromium, ChromiumError, PageId};
use crate::lab::claim::Claims;
use crate::lab::http;
use crate::lab::stage::{ActError, JUDGED_AT, Plan, Stage, Theater};

/// Connections that a browser opens to one host over HTTP/1.1.
const SIX: usize = 6;
/// A tab that has not loaded and streamed after this time counts as waiting.
const PATIENCE: Duration = Duration::from_secs(3);

/// The tabs on one host, as the server sees them.
struct HostShares {
    /// Pages that the browser requests.
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

pub(super) fn heading(plan: &Plan) -> String {
    let HostShares { idle, .. } = shares(plan);
    match idle {
        _ if plan.tabs <= SIX => "the browser's own limit, which is not reached".to_owned(),
        0 => "the browser's own limit: tab 7 waits in the browser".to_owned(),
        1 => "the browser's own limit: tab 7 waits, and 1 thread is idle".to_owned(),
        _ => format!("the browser's own limit: tab 7 waits, and {idle} threads are idle"),
    }
}

pub(super) fn expects(plan: &Plan) -> String {
    let HostShares { streaming, idle, .. } = shares(plan);
    let (spread, _) = nine_tabs::shares(plan);
    let kept = match plan.tabs.saturating_sub(SIX) {
        0 => String::new(),
        kept => format!(", {kept} {} in the browser", if kept == 1 { "stays" } else { "stay" }),
    };
    format!(
        "A browser opens six connections per host. With all {} on one host, {streaming} {}{kept}, and {} {} idle. With \
         one host per tab, {spread} stream.",
        count(plan.tabs, "tab"),
        if streaming == 1 { "streams" } else { "stream" },
        count(idle, "thread"),
        if idle == 1 { "is" } else { "are" },
    )
}

pub(super) fn play(theater: &mut Theater<'_>) -> Result<Played, ActError> {
    let plan = theater.plan;
    let expected = shares(plan);
    let mut claims = Claims::default();
    let caption = format!("{} on one host, 127.0.0.1", count(plan.tabs, "tab"));
    let mut stage = Stage::serve(theater, &caption, &[])?;
    let mut browser = DrivenBrowser::start(&mut stage)?;

    let port = stage.port().to_owned();
    let one_host = |tab: usize| format!("http://127.0.0.1:{port}/?tab={tab}");
    let tabs = open_all(&mut stage, &mut browser, expected.streaming, one_host)?;
    let (asked, streaming) = seen(&stage);
    claims
        .equal("one host: pages requested from the server", expected.asked, asked)
        .says(format!("one host: {} reached the server", count(asked, "page request")));
    claims
        .equal("one host: streams", expected.streaming, streaming)
        .says(format!("one host: {}", count(streaming, "stream")));
    let idle = stage.stat("/pool_capacity")? as usize;
    claims
        .equal("one host: idle threads", expected.idle, idle)
        .says(format!("one host: {} idle", count(idle, "thread")));
    stage.finish_picture(4);
    browser.close(tabs)?;
    drop(stage);

    let caption = format!("one host per tab, tab1.localhost to tab{}.localhost", plan.tabs);
    let mut stage = Stage::serve(theater, &caption, &[])?;
    let port = stage.port().to_owned();
    let own_host = |tab: usize| format!("http://tab{tab}.localhost:{port}/?tab={tab}");
    let (spread, _) = nine_tabs::shares(plan);
    let tabs = open_all(&mut stage, &mut browser, spread, own_host)?;
    let streams = seen(&stage).1;
    claims
        .equal("one host per tab: streams", spread, streams)
        .says(format!("one host per tab: {}", count(streams, "stream")));
    stage.finish_picture(4);
    browser.close(tabs)?;

    let conclusion = format!(
        "{streaming} of {} stream on one host, with {} idle; {streams} with one host per tab",
        count(plan.tabs, "tab"),
        count(idle, "thread"),
    );
    Ok(Played { claims, why: why(plan, browser.name()), conclusion, main: 0 })
}

fn why(plan: &Plan, browser: &str) -> String {
    let HostShares { idle, .. } = shares(plan);
    let one_host = if plan.tabs <= SIX {
        format!(
            "The six connections that {browser} opens per host were enough for {}.",
            count(plan.tabs, "tab")
        )
    } else if idle > 0 {
        format!(
            "{browser} held back every request after the sixth, because its six connections to 127.0.0.1 were in use; \
             the server's {} never received one.",
            count(idle, "idle thread")
        )
    } else {
        format!(
            "{browser} held back every request after the sixth, while all threads of the server were held."
        )
    };
    let own_hosts = if plan.tabs > plan.most_threads() {
        "the pool is exhausted instead. In a tab, both limits look the same."
    } else {
        "the pool has a thread for each of them."
    };
    format!("{one_host} With one host per tab, no host has more than one stream, and {own_hosts}")
}

/// Opens the plan's tabs one by one. Each is opened once the previous one streams or is queued, or has had enough time
/// to do so. `expected` is how many of them are expected to stream.
fn open_all(
    stage: &mut Stage<'_>,
    browser: &mut DrivenBrowser,
    expected: usize,
    url: impl Fn(usize) -> String,
) -> Result<Vec<OpenedTab>, ActError> {
    let mut tabs = Vec::new();
    let mut is_full = false;
    for tab in 1..=stage.plan.tabs {
        tabs.push(browser.open(&url(tab))?);
        let stream = format!("tab={tab}");
        // A tab that is expected to stream gets the time that a slow machine needs. Once a tab has timed out, the tabs
        // after it get less time.
        let patience = match tab {
            _ if tab <= expected => PATIENCE * JUDGED_AT,
            _ if is_full => PATIENCE / 10,
            _ => PATIENCE,
        };
        let settled = stage.wait_until(patience, |stage| {
            stage.record(|record| {
                let is_its_own = |target: &str| target.split(['?', '&']).any(|part| part == stream);
                let stories = || record.stories.values().filter(|story| is_its_own(&story.target));
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

/// Pages that were requested, and streams that are open.
fn seen(stage: &Stage<'_>) -> (usize, usize) {
    stage.record(|record| {
        let pages = record.stories.values().filter(|story| story.target.starts_with("/?tab=")).count();
        (pages, record.open_streams())
    })
}

/// The real Chromium, or a simulated browser if Chromium is not installed or does not start.
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
                stage.say("(Chromium is not installed: a simulated browser opens the tabs.)");
                Ok(DrivenBrowser::Simulated(Browser::new()))
            }
            Err(ChromiumError::Interrupted) => Err(ActError::Interrupted),
            Err(error) => {
                stage
                    .say(&format!("(Chromium does not start: {error}. A simulated browser opens the tabs.)"));
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
