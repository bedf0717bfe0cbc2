//! The time in which the tabs listen: models are created, pages are requested, and the servers' figures are read.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::super::http;
use super::super::interrupt::Interrupt;
use super::super::record::Record;
use super::super::stage::Scene;
use super::super::subject::TestedServer;
use super::figures::{median, millis, spread, worst};
use super::models::{CreatedModel, create};
use super::{CompareError, Row};

/// How often a page is requested.
const ASK_EVERY: Duration = Duration::from_millis(50);
/// A page that takes longer than this counts as not answered.
const PAGE_WITHIN: Duration = Duration::from_secs(4);
/// How often the stats of the servers are read.
const SAMPLE_EVERY: Duration = Duration::from_millis(100);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Waits until `look` returns a value, the limit has passed, or an interrupt arrives.
pub fn watch<T>(
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

/// What happens while the tabs listen.
pub struct ListeningWindow<'a> {
    /// The page that is requested.
    pub page: String,
    /// The URL to which creates are posted, and how often.
    pub models: String,
    pub create_every: Duration,
    /// The servers whose threads and queries count as the cost of the fix.
    pub measured: Vec<&'a TestedServer>,
    pub lasts: Duration,
}

/// The measured values of a window.
#[derive(Debug, Default)]
pub struct Observations {
    pages: Vec<Option<f64>>,
    /// The models that were created. `None` if the answer did not arrive in time.
    pub created: Vec<Option<CreatedModel>>,
    held: Vec<u64>,
    /// Actions that run on their own threads. Empty if the servers have no such threads.
    actions: Vec<u64>,
    database: Vec<u64>,
    threads: Option<u64>,
    connections: Option<u64>,
    queries_per_s: f64,
}

impl Observations {
    /// Writes the values into a row.
    pub fn enter(self, row: &mut Row) {
        row.page_ms = spread(self.pages);
        let senders = self.created.iter().map(|model| model.map(|model| model.after_commit_ms));
        row.sender_worst_ms = worst(&senders.collect::<Vec<_>>());
        row.pool_threads_held = median(self.held);
        row.action_threads = median(self.actions);
        row.os_threads = self.threads;
        row.connections = self.connections;
        row.db_connections_held = median(self.database);
        row.queries_per_s = Some(self.queries_per_s);
    }
}

/// Blocks until the window is over. `part` is called repeatedly with the part of it that is over, from 0 to 1.
pub fn observe(
    window: &ListeningWindow<'_>,
    interrupt: &Interrupt,
    part: impl FnMut(f64),
) -> Result<Observations, CompareError> {
    let (pages, created) = (Mutex::default(), Mutex::default());
    let (is_over, creates) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut seen = Observations::default();
    let until_over = || !is_over.load(Ordering::Acquire);
    let within = PAGE_WITHIN.min(window.lasts);
    thread::scope(|scope| {
        scope.spawn(|| {
            while until_over() {
                let began = Instant::now();
                let answer = http::get(&window.page, within);
                let is_answered = answer.is_ok_and(|answer| answer.status() == 200);
                add(&pages, is_answered.then(|| millis(began.elapsed())));
                thread::sleep(ASK_EVERY);
            }
        });
        scope.spawn(|| {
            while until_over() {
                creates.fetch_add(1, Ordering::Relaxed);
                add(&created, create(&window.models, within));
                thread::sleep(window.create_every);
            }
        });
        let watched = sample(window, interrupt, &mut seen, &creates, part);
        is_over.store(true, Ordering::Release);
        watched
    })?;
    seen.pages = pages.into_inner().unwrap_or_else(PoisonError::into_inner);
    seen.created = created.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(seen)
}

fn add<T>(list: &Mutex<Vec<T>>, value: T) {
    list.lock().unwrap_or_else(PoisonError::into_inner).push(value);
}

/// Reads the stats of the servers repeatedly.
fn sample(
    window: &ListeningWindow<'_>,
    interrupt: &Interrupt,
    seen: &mut Observations,
    creates: &AtomicU64,
    mut tell_part: impl FnMut(f64),
) -> Result<(), CompareError> {
    let began = Instant::now();
    let number = |stats: &Value, at: &str| stats.pointer(at).and_then(Value::as_u64).unwrap_or_default();
    let measured = || window.measured.iter().map(|server| server.stats()).collect::<Result<Vec<_>, _>>();
    let sum = |all: &[Value], at: &str| all.iter().map(|stats| number(stats, at)).sum::<u64>();
    let first = measured()?;
    let created = creates.load(Ordering::Relaxed);
    loop {
        let part = began.elapsed().as_secs_f64() / window.lasts.as_secs_f64();
        tell_part(part);
        let stats = measured()?;
        seen.held.push(sum(&stats, "/busy_threads").saturating_sub(sum(&stats, "/backlog")));
        if stats.iter().any(|stats| stats.get("live_threads").is_some()) {
            seen.actions.push(sum(&stats, "/live_threads/running"));
        }
        seen.database.push(sum(&stats, "/database/busy"));
        let threads = window.measured.iter().map(|server| os_threads(server.id())).sum::<Option<u64>>();
        seen.threads = seen.threads.max(threads);
        seen.connections = seen.connections.max(Some(sum(&stats, "/connections/open")));
        if part >= 1.0 {
            let queries = sum(&stats, "/queries") - sum(&first, "/queries");
            let created = creates.load(Ordering::Relaxed) - created;
            seen.queries_per_s = queries.saturating_sub(created) as f64 / began.elapsed().as_secs_f64();
            return Ok(());
        }
        interrupt.sleep(SAMPLE_EVERY)?;
    }
}

/// The number of threads of a process, if the system has /proc.
fn os_threads(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Threads:"))?.trim().parse().ok()
}

/// What a server has recorded since its first request.
pub fn scene(server: &TestedServer, caption: String) -> Scene {
    let record = server.follower().record(Record::clone);
    let from_us = record.stories.values().next().map_or(0, |story| story.queued_us.saturating_sub(50_000));
    Scene { caption, record, from_us }
}
