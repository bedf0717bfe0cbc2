//! The measurement of one row, which is the same for all fixes.

mod figures;

use std::collections::HashMap;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use super::super::chromium::{Chromium, ChromiumError};
use super::super::http;
use super::super::interrupt::Interrupt;
use super::super::record::Record;
use super::super::scratch::Scratch;
use super::super::stage::Scene;
use super::super::subject::TestedServer;
use super::contenders::Contender;
use super::listeners::{Abandoned, Listener, Notes, PageClients, Seen, Way};
use super::servers::Servers;
use super::{CompareError, ComparePlan, POST_EVERY, Row};
use figures::{gaps, median, millis, spread, worst};

/// How often a page is requested while the tabs are watched.
const ASK_EVERY: Duration = Duration::from_millis(50);
/// A page that takes longer than this counts as not answered.
const PAGE_WITHIN: Duration = Duration::from_secs(4);
/// How often the stats of the servers are read.
const SAMPLE_EVERY: Duration = Duration::from_millis(100);
/// The pause between opening two tabs. It is shorter with many tabs.
const OPEN_EVERY: Duration = Duration::from_millis(50);
const OPEN_WITHIN: Duration = Duration::from_secs(5);
/// How long tabs may take to reconnect.
const BACK_WITHIN: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(20);
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

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
        for number in 1..=plan.tabs {
            let server = servers.streams().url("");
            all.push(Listener::open(servers.contender.way, &server, number, plan.pace.update_rate)?);
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

/// Waits until `look` returns a value, the limit has passed, or an interrupt arrives.
fn watch<T>(
    limit: Duration,
    interrupt: &Interrupt,
    mut look: impl FnMut() -> Option<T>,
) -> Result<Option<T>, CompareError> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return Ok(Some(found));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        interrupt.sleep(LOOK_EVERY)?;
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
    let (seen, scene) = while_tabs_listen(plan, &servers, &tabs, interrupt)?;
    row.scene = Some(scene);
    row.page_ms = spread(seen.pages);
    row.sender_worst_ms = worst(&seen.senders);
    row.pool_threads_held = median(seen.held);
    row.action_threads = median(seen.actions);
    row.os_threads = seen.threads;
    row.connections = seen.connections;
    row.db_connections_held = median(seen.database);
    row.queries_per_s = Some(seen.queries_per_s);
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

/// The measured values while the tabs listen.
#[derive(Default)]
struct Observations {
    pages: Vec<Option<f64>>,
    senders: Vec<Option<f64>>,
    held: Vec<u64>,
    /// Actions that run on their own threads. Empty if the server has no such threads.
    actions: Vec<u64>,
    database: Vec<u64>,
    threads: Option<u64>,
    connections: Option<u64>,
    queries_per_s: f64,
}

fn while_tabs_listen(
    plan: &ComparePlan,
    servers: &Servers<'_>,
    tabs: &Tabs,
    interrupt: &Interrupt,
) -> Result<(Observations, Scene), CompareError> {
    let window = plan.pace.window;
    let main = &servers.main;
    let (pages, senders) = (Mutex::default(), Mutex::default());
    let (is_over, posts) = (AtomicBool::new(false), AtomicU64::new(0));
    let note = |list: &Mutex<Vec<Option<f64>>>, value| {
        list.lock().unwrap_or_else(PoisonError::into_inner).push(value);
    };
    let mut seen = Observations::default();
    let until_over = || !is_over.load(Ordering::Acquire);
    thread::scope(|scope| {
        scope.spawn(|| {
            while until_over() {
                let began = Instant::now();
                let answer = http::get(&main.url("/up"), PAGE_WITHIN.min(window));
                let is_answered = answer.is_ok_and(|answer| answer.status() == 200);
                note(&pages, is_answered.then(|| millis(began.elapsed())));
                thread::sleep(ASK_EVERY);
            }
        });
        scope.spawn(|| {
            while until_over() {
                posts.fetch_add(1, Ordering::Relaxed);
                note(&senders, commit_to_answer(main, window));
                thread::sleep(POST_EVERY);
            }
        });
        let watched = sample(servers, tabs, interrupt, &mut seen, &posts);
        is_over.store(true, Ordering::Release);
        watched
    })?;
    seen.pages = pages.into_inner().unwrap_or_else(PoisonError::into_inner);
    seen.senders = senders.into_inner().unwrap_or_else(PoisonError::into_inner);
    let record = servers.streams().follower().record(Record::clone);
    let from_us = record.stories.values().next().map_or(0, |story| story.queued_us.saturating_sub(50_000));
    let caption = format!("tabs of {}", servers.contender.name);
    Ok((seen, Scene { caption, record, from_us }))
}

/// Reads the stats of the servers repeatedly. For a third of the time, one of the tabs does not read.
fn sample(
    servers: &Servers<'_>,
    tabs: &Tabs,
    interrupt: &Interrupt,
    seen: &mut Observations,
    posts: &AtomicU64,
) -> Result<(), CompareError> {
    let began = Instant::now();
    let number = |stats: &Value, at: &str| stats.pointer(at).and_then(Value::as_u64).unwrap_or_default();
    let window = servers.plan.pace.window;
    let measured = || servers.measured().map(TestedServer::stats).collect::<Result<Vec<_>, _>>();
    let sum = |all: &[Value], at: &str| all.iter().map(|stats| number(stats, at)).sum::<u64>();
    let first = measured()?;
    let posted = posts.load(Ordering::Relaxed);
    loop {
        let part = began.elapsed().as_secs_f64() / window.as_secs_f64();
        tabs.stall((1.0 / 3.0..2.0 / 3.0).contains(&part));
        let stats = measured()?;
        seen.held.push(sum(&stats, "/busy_threads").saturating_sub(sum(&stats, "/backlog")));
        if stats.iter().any(|stats| stats.get("live_threads").is_some()) {
            seen.actions.push(sum(&stats, "/live_threads/running"));
        }
        seen.database.push(sum(&stats, "/database/busy"));
        let threads = servers.measured().map(|server| os_threads(server.id())).sum::<Option<u64>>();
        seen.threads = seen.threads.max(threads);
        seen.connections = seen.connections.max(Some(sum(&stats, "/connections/open")));
        if part >= 1.0 {
            let queries = sum(&stats, "/queries") - sum(&first, "/queries");
            let posts = posts.load(Ordering::Relaxed) - posted;
            seen.queries_per_s = queries.saturating_sub(posts) as f64 / began.elapsed().as_secs_f64();
            return Ok(());
        }
        interrupt.sleep(SAMPLE_EVERY)?;
    }
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

/// Inserts a row on this server, and returns its id.
fn post(server: &TestedServer, name: &str) -> Result<i64, CompareError> {
    let form = "application/x-www-form-urlencoded";
    let answer = http::post(&server.url("/models"), form, format!("name={name}"), ANSWER_WITHIN)?;
    let model: Value = answer.json().unwrap_or_default();
    model["id"].as_i64().ok_or(CompareError::NoModel(answer.status()))
}

/// The time from a row's commit to the answer of its POST. `None` if the answer did not arrive in time.
fn commit_to_answer(server: &TestedServer, window: Duration) -> Option<f64> {
    let form = "application/x-www-form-urlencoded";
    let answer =
        http::post(&server.url("/models"), form, "name=posted".to_owned(), PAGE_WITHIN.min(window)).ok()?;
    let now = SystemTime::now();
    let model: Value = answer.json().ok()?;
    let committed = humantime::parse_rfc3339(model["created_at"].as_str()?).ok()?;
    Some(millis(now.duration_since(committed).unwrap_or_default()))
}

/// When each row was created.
fn created(server: &TestedServer) -> Result<HashMap<i64, SystemTime>, CompareError> {
    let one = |model: &Value| {
        let at = humantime::parse_rfc3339(model["created_at"].as_str()?).ok()?;
        Some((model["id"].as_i64()?, at))
    };
    let (mut all, mut since) = (HashMap::new(), 0);
    loop {
        let answer = http::get(&server.url(&format!("/models.json?since={since}")), ANSWER_WITHIN)?;
        let models: Vec<Value> = serde_json::from_slice(&answer.body).unwrap_or_default();
        all.extend(models.iter().filter_map(one));
        // The length of an answer is limited. An answer with a Link header is not the last one.
        let has_more = answer.head.header("link").is_some();
        match models.last().and_then(|model| model["id"].as_i64()) {
            Some(last) if has_more && last > since => since = last,
            _ => return Ok(all),
        }
    }
}

/// The number of threads of a process, if the system has /proc.
fn os_threads(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Threads:"))?.trim().parse().ok()
}
