//! The measurement of one row, which is the same for all fixes.

use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use super::super::chromium::{Chromium, ChromiumError};
use super::super::interrupt::Interrupt;
use super::super::scratch::Scratch;
use super::contenders::Contender;
use super::figures::{gaps, millis, spread};
use super::listeners::{Abandoned, Endpoint, Listener, Notes, PageClients, Seen, Way};
use super::models::{ANSWER_WITHIN, MODELS, created, post};
use super::servers::Servers;
use super::window::{ListeningWindow, observe, scene, watch};
use super::{CompareError, ComparePlan, POST_EVERY, Row};

/// The pause between opening two tabs. It is shorter with many tabs.
const OPEN_EVERY: Duration = Duration::from_millis(50);
const OPEN_WITHIN: Duration = Duration::from_secs(5);
/// How long tabs may take to reconnect.
const BACK_WITHIN: Duration = Duration::from_secs(20);

/// The tabs of one row.
enum Tabs {
    Own(Vec<Listener>),
    InABrowser(PageClients),
}

impl Tabs {
    fn open(servers: &Servers<'_>, browser: Option<Chromium>) -> Result<Tabs, CompareError> {
        let plan = servers.plan;
        if let (Way::Page(path, hosts), Some(browser)) = (servers.contender.way, browser) {
            return Ok(Tabs::InABrowser(PageClients::open(
                browser,
                path,
                hosts,
                servers.main.port(),
                plan.tabs,
                servers.interrupt,
            )?));
        }
        let mut all = Vec::new();
        let pause = OPEN_EVERY.min(OPEN_WITHIN / plan.tabs as u32);
        let endpoint = Endpoint { url: servers.streams().url(""), server: None };
        for number in 1..=plan.tabs {
            all.push(Listener::open(servers.contender.way, &endpoint, number, plan.pace.update_rate)?);
            servers.interrupt.sleep(pause)?;
        }
        Ok(Tabs::Own(all))
    }

    fn notes(&self) -> Vec<Notes> {
        match self {
            Tabs::Own(all) => all.iter().map(|listener| listener.notes.clone()).collect(),
            Tabs::InABrowser(pages) => pages.notes(),
        }
    }

    /// The tab that stops reading for a while, if there are several tabs.
    fn stalled(&self) -> Option<usize> {
        match self {
            Tabs::Own(all) if all.len() > 1 => Some(all.len() / 2),
            _ => None,
        }
    }

    /// Makes this tab stop or resume reading.
    fn stall(&self, is_stalled: bool) {
        if let (Tabs::Own(all), Some(number)) = (self, self.stalled()) {
            all[number].stall(is_stalled);
        }
    }

    fn end(self) {
        if let Tabs::Own(all) = &self {
            all.iter().for_each(Listener::end);
        }
    }
}

/// Measures one row. `tell` is called with the name of each step.
pub fn measure(
    plan: &ComparePlan,
    contender: &Contender,
    interrupt: &Interrupt,
    mut tell: impl FnMut(&str),
) -> Result<Row, CompareError> {
    let mut row = Row { fix: contender.name, ..Row::default() };
    let browser = match contender.way {
        Way::Page(..) => match Chromium::start(interrupt) {
            Ok(browser) => Some(browser),
            Err(ChromiumError::NotInstalled) => {
                row.note = Some(
                    "not measured, because it is a script in a page and Chromium is not installed".to_owned(),
                );
                return Ok(row);
            }
            Err(error) => return Err(error.into()),
        },
        _ => None,
    };
    let folder = Scratch::make("ninetabs")?;
    let servers = Servers::start(plan, contender, folder.path(), interrupt)?;

    tell("tabs listen");
    let tabs = Tabs::open(&servers, browser)?;
    watch(plan.pace.update_rate * 2, interrupt, || None::<()>)?;
    let began = SystemTime::now();
    let window = ListeningWindow {
        page: servers.main.url("/up"),
        models: servers.main.url(MODELS),
        create_every: POST_EVERY,
        measured: servers.measured().collect(),
        lasts: plan.pace.window,
    };
    // For a third of the time, one of the tabs does not read.
    let seen = observe(&window, interrupt, |part| tabs.stall((1.0 / 3.0..2.0 / 3.0).contains(&part)))?;
    row.scene = Some(scene(servers.streams(), format!("tabs of {}", contender.name)));
    seen.enter(&mut row);
    let notes = tabs.notes();
    let live: Vec<&Notes> =
        notes.iter().filter(|notes| notes.last().is_some_and(|seen| seen.at > began)).collect();
    row.tabs_live = Some(live.len());

    tell("another program writes");
    let theirs = post(&servers.other, "theirs")?;
    let seen = watch(plan.pace.update_rate * 3 + plan.pace.retry + ANSWER_WITHIN, interrupt, || {
        live.iter().any(|notes| notes.all().iter().any(|seen| seen.id == theirs)).then_some(())
    })?;
    row.outside_writer_seen = Some(seen.is_some());

    tell("the server is restarted");
    let before: Vec<Option<Seen>> = live.iter().map(|notes| notes.last()).collect();
    let ordered = SystemTime::now();
    let mut meanwhile = Ok(0);
    let (servers, ended) = servers.restart(|other| meanwhile = post(other, "meanwhile"))?;
    let meanwhile = meanwhile?;
    row.stop_ends = Some(ended);
    let back = || {
        let of = |(notes, before): (&&Notes, &Option<Seen>)| {
            let after =
                |seen: &&Seen| seen.at > ordered && seen.id > meanwhile.max(before.map_or(0, |seen| seen.id));
            notes.all().iter().find(after).map(|seen| seen.at)
        };
        live.iter().zip(&before).map(of).collect::<Option<Vec<SystemTime>>>()
    };
    let all_back = watch(BACK_WITHIN, interrupt, back)?;
    let blind = |at: &SystemTime| at.duration_since(ordered).unwrap_or_default().as_secs_f64();
    row.blind_s = all_back.map(|times| times.iter().map(blind).fold(0.0, f64::max));

    // The commit times of the rows are read from a server that always has an idle thread.
    let created = created(&servers.other)?;
    tell("the tabs leave");
    let got: Vec<Vec<Seen>> = live.iter().map(|notes| notes.all()).collect();
    // The tab that stopped reading is left out, because its rows arrive late for that reason.
    let stalled = tabs.stalled();
    let steady = notes.iter().enumerate().filter(|(number, _)| Some(*number) != stalled);
    let steady: Vec<Seen> = steady.flat_map(|(_, notes)| notes.all()).collect();
    drop(live);
    tabs.end();
    let delays = steady.iter().filter(|seen| seen.at > began && seen.at < ordered);
    let delay =
        |seen: &Seen| Some(millis(seen.at.duration_since(*created.get(&seen.id)?).unwrap_or_default()));
    row.event_ms = spread(delays.filter_map(delay).map(Some).collect());
    let around = |seen: &&Seen| seen.at < ordered;
    let (mut missed, mut repeated, mut lost) = (0, 0, 0);
    for got in &got {
        let before = got.iter().filter(around).count();
        let (first, rest) = got.split_at(before);
        let (gaps, doubles) = gaps(&first.iter().map(|seen| seen.id).collect::<Vec<_>>());
        missed += gaps;
        repeated += doubles;
        let over: Vec<i64> = first.last().into_iter().chain(rest).map(|seen| seen.id).collect();
        let (gaps, doubles) = self::gaps(&over);
        lost = lost.max(gaps);
        repeated += doubles;
    }
    (row.missed, row.repeated, row.lost_over_restart) = (Some(missed), Some(repeated), Some(lost));
    drop(servers);

    tell("clients connect and never read");
    row.pool_free_s = free_after_nine_abandoned(plan, contender, interrupt)?;
    row.claims = contender.judge(plan, &row).into_vec();
    Ok(row)
}

/// Connects as many clients as there are tabs to a new server. They never read. Returns the seconds until all of the
/// server's threads are free.
fn free_after_nine_abandoned(
    plan: &ComparePlan,
    contender: &Contender,
    interrupt: &Interrupt,
) -> Result<Option<f64>, CompareError> {
    let folder = Scratch::make("ninetabs")?;
    let servers = Servers::start(plan, contender, folder.path(), interrupt)?;
    // Tabs that share a worker have one connection.
    let clients = match contender.way {
        Way::Page(_, super::listeners::Hosts::One) => 1,
        _ => plan.tabs,
    };
    let server = servers.streams().url("");
    let abandoned: Result<Vec<_>, _> =
        (1..=clients).map(|n| Abandoned::open(contender.way, &server, n)).collect();
    let _abandoned = abandoned?;
    let began = Instant::now();
    // All clients have connected once the server has counted them.
    let has_come = |stats: &Value| {
        let number = |at: &str| stats.pointer(at).and_then(Value::as_u64).unwrap_or_default();
        number("/requests_count") + number("/backlog") >= clients as u64
    };
    watch(OPEN_WITHIN, interrupt, || servers.streams().stats().is_ok_and(|it| has_come(&it)).then_some(()))?;
    watch(plan.pace.patience, interrupt, || {
        let stats = servers.main.stats().ok()?;
        let is_free = stats["busy_threads"] == 0 && stats["pool_capacity"] == stats["max_threads"];
        is_free.then(|| began.elapsed().as_secs_f64())
    })
}
