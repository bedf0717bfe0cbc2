//! A stage is a server under test, with the verbs in which acts are written: serve, open a tab, watch, wait until,
//! request a page.
//!
//! All waiting happens in [`Stage::wait_until`]. It draws the lanes while it waits, and ends early with
//! [`ActError::Interrupted`] on Ctrl-C.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use serde_json::Value;
use thiserror::Error;

use super::chromium::ChromiumError;
use super::cluster::ClusterError;
use super::cluster::pooler::PoolerError;
use super::cluster::postgres::PostgresError;
use super::http::{self, HttpError};
use super::interrupt::{Interrupt, Interrupted};
use super::narrator::Narrator;
use super::record::Record;
use super::story::Story;
use super::subject::{SubjectError, TestedServer};
use super::tab::{Settings, Tab, TabError};
use ninetabs_server::threads::{self, SpawnError};

/// A time limit is multiplied by this before something counts as missing, so that a slow machine passes.
pub const JUDGED_AT: u32 = 10;
/// If the server has not read a tab's connection after this time, the tab is opened again.
pub const UNREAD_AFTER: Duration = Duration::from_secs(1);
/// A request that has been in the queue for this long counts as waiting for a thread.
const QUEUED_AFTER_US: u64 = 200_000;
/// How many times a tab or a zombie is opened if the server does not read its connection.
pub const ATTEMPTS: usize = 5;
/// How often conditions are checked, and lanes drawn.
const LOOK_EVERY: Duration = Duration::from_millis(10);
const DRAW_EVERY: Duration = Duration::from_millis(100);
/// A picture begins this long before the first event that it shows.
const BEFORE_US: u64 = 50_000;
/// How long the record may lag behind the server.
const CATCHING_UP: Duration = Duration::from_secs(1);

/// The pace of the acts: the times of the article's controller, or a tenth of them.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    pub update_rate: Duration,
    pub produce_every: Duration,
    pub max_stream_age: Duration,
    pub reap_every: Duration,
    pub retry: Duration,
    pub checkout_timeout: Duration,
}

impl Pace {
    /// The article's pace: an update every two seconds.
    pub const ARTICLE: Pace = Pace {
        update_rate: Duration::from_secs(2),
        produce_every: Duration::from_secs(1),
        max_stream_age: Duration::from_secs(5),
        reap_every: Duration::from_secs(1),
        retry: Duration::from_secs(1),
        checkout_timeout: Duration::from_secs(5),
    };
    /// Ten times as fast.
    pub const FAST: Pace = Pace {
        update_rate: Duration::from_millis(200),
        produce_every: Duration::from_millis(100),
        max_stream_age: Duration::from_millis(500),
        reap_every: Duration::from_millis(100),
        retry: Duration::from_millis(100),
        checkout_timeout: Duration::from_millis(500),
    };
}

/// The settings of the acts.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The program to start as the server.
    pub program: PathBuf,
    /// Minimum and maximum number of threads.
    pub threads: RangeInclusive<usize>,
    pub tabs: usize,
    pub front: String,
    pub pace: Pace,
}

impl Plan {
    /// The maximum number of threads, which is the maximum number of streams.
    pub fn most_threads(&self) -> usize {
        *self.threads.end()
    }
}

/// Why an act could not be finished.
#[derive(Debug, Error)]
pub enum ActError {
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    #[error(transparent)]
    Subject(SubjectError),
    #[error("cannot open a client: {0}")]
    Visitor(#[from] TabError),
    #[error("cannot drive the browser: {0}")]
    Browser(ChromiumError),
    /// A program that the act needs is not installed.
    #[error(transparent)]
    NotInstalled(ClusterError),
    /// The servers under test would not support what the act needs.
    #[error("{0}")]
    Unsupported(String),
    #[error(transparent)]
    Cluster(ClusterError),
    #[error("the server under test ended unexpectedly")]
    ServerEnded,
    #[error(transparent)]
    Thread(#[from] SpawnError),
}

impl From<Interrupted> for ActError {
    fn from(Interrupted: Interrupted) -> Self {
        ActError::Interrupted
    }
}

impl From<SubjectError> for ActError {
    fn from(error: SubjectError) -> Self {
        match error {
            SubjectError::Interrupted => ActError::Interrupted,
            error => ActError::Subject(error),
        }
    }
}

impl From<ClusterError> for ActError {
    fn from(error: ClusterError) -> Self {
        match error {
            ClusterError::Interrupted => ActError::Interrupted,
            ClusterError::Postgres(PostgresError::NotInstalled)
            | ClusterError::Pooler(PoolerError::NotInstalled) => ActError::NotInstalled(error),
            error => ActError::Cluster(error),
        }
    }
}

impl From<HttpError> for ActError {
    fn from(error: HttpError) -> Self {
        ActError::Visitor(TabError::Http(error))
    }
}

/// The state of a tab after it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placed {
    /// It received its first byte.
    Streams,
    /// Its request waits in the queue.
    Queued,
    /// The server's front never read its connection.
    NeverRead,
}

/// The contents of one picture, which a report draws again.
#[derive(Debug, Clone)]
pub struct Scene {
    pub caption: String,
    pub record: Record,
    /// The start of the picture on the server's clock.
    pub from_us: u64,
}

/// The parts that all stages of an act share.
pub struct Theater<'a> {
    pub plan: &'a Plan,
    pub narrator: &'a mut Narrator,
    pub interrupt: &'a Interrupt,
    /// The finished pictures.
    pub scenes: Vec<Scene>,
    /// The parts that were not played, each with the reason.
    pub skipped: Vec<String>,
}

/// One server, and what is needed to watch it.
pub struct Stage<'a> {
    pub plan: &'a Plan,
    subject: TestedServer,
    narrator: &'a mut Narrator,
    scenes: &'a mut Vec<Scene>,
    interrupt: &'a Interrupt,
    caption: String,
    drawn: Option<Instant>,
    began_us: Option<u64>,
}

impl<'a> Stage<'a> {
    /// Starts the server with the threads and times of the plan, and with these additional flags. `caption` describes
    /// what its picture shows.
    pub fn serve(
        theater: &'a mut Theater<'_>,
        caption: &str,
        flags: &[(&str, String)],
    ) -> Result<Stage<'a>, ActError> {
        let Theater { plan, narrator, interrupt, scenes, .. } = theater;
        let (plan, interrupt) = (*plan, *interrupt);
        let pace = &plan.pace;
        let ours = [
            ("--threads", format!("{}:{}", plan.threads.start(), plan.threads.end())),
            ("--front", plan.front.clone()),
            ("--update-rate", in_seconds(pace.update_rate)),
            ("--produce-every", in_seconds(pace.produce_every)),
            ("--retry", in_seconds(pace.retry)),
        ];
        let flags: Vec<String> =
            ours.iter().chain(flags).flat_map(|(flag, value)| [(*flag).to_owned(), value.clone()]).collect();
        narrator.caption(caption);
        let subject = TestedServer::start(&plan.program, &flags, interrupt)?;
        let caption = caption.to_owned();
        let mut stage =
            Stage { plan, subject, narrator, scenes, interrupt, caption, drawn: None, began_us: None };
        // There is nothing to draw before the first answer.
        stage.wait_until(Duration::from_secs(30), |stage| {
            (stage.record(|record| record.now_us) > 0).then_some(())
        })?;
        Ok(stage)
    }

    /// The URL of a path of the app.
    pub fn url(&self, path: &str) -> String {
        self.subject.url(path)
    }

    pub fn port(&self) -> &str {
        self.subject.port()
    }

    /// The interrupt that ends the waits of this stage.
    pub fn interrupt(&self) -> &Interrupt {
        self.interrupt
    }

    pub fn stats(&self) -> Result<Value, ActError> {
        Ok(self.subject.stats()?)
    }

    /// One number of the stats.
    pub fn stat(&self, pointer: &str) -> Result<u64, ActError> {
        Ok(self.stats()?.pointer(pointer).and_then(Value::as_u64).unwrap_or_default())
    }

    /// Returns the result of `read` on the record so far.
    pub fn record<T>(&self, read: impl FnOnce(&Record) -> T) -> T {
        self.subject.follower().record(read)
    }

    /// The story of a tab's newest connection.
    pub fn story_of(&self, port: Option<u16>) -> Option<Story> {
        self.record(|record| record.of_port(port?).cloned())
    }

    /// Waits until `look` returns a value, for at most `limit`.
    pub fn wait_until<T>(
        &mut self,
        limit: Duration,
        mut look: impl FnMut(&mut Self) -> Option<T>,
    ) -> Result<Option<T>, ActError> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(found) = look(self) {
                return Ok(Some(found));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            if self.subject.has_ended() {
                return Err(ActError::ServerEnded);
            }
            self.interrupt.sleep(LOOK_EVERY)?;
            self.draw();
        }
    }

    /// Draws the lanes for this long.
    pub fn watch(&mut self, time: Duration) -> Result<(), ActError> {
        self.wait_until(time, |_| None::<()>).map(drop)
    }

    /// Waits until one number of the stats has this value. Returns its last value.
    pub fn wait_for_stat(&mut self, pointer: &str, wanted: u64, limit: Duration) -> Result<u64, ActError> {
        let mut last = self.stat(pointer)?;
        self.wait_until(limit, |stage| {
            last = stage.stat(pointer).unwrap_or(last);
            (last == wanted).then_some(())
        })?;
        self.catch_up();
        Ok(last)
    }

    /// Waits until the record contains everything so far. An answer that is already in transit may lack
    /// the newest moments, so this waits for the answer after it.
    fn catch_up(&self) {
        let heard = || self.record(|record| record.now_us);
        let (deadline, mut last) = (Instant::now() + CATCHING_UP, heard());
        for _ in 0..2 {
            while heard() == last && Instant::now() < deadline {
                // An interrupt also ends the next wait.
                if self.interrupt.sleep(LOOK_EVERY) == Err(Interrupted) {
                    return;
                }
            }
            last = heard();
        }
    }

    /// Opens tab `number` on the stream, and waits until it streams or is in the queue. A tab that the front never
    /// reads is opened again.
    pub fn open_tab(&mut self, number: usize, query: &str) -> Result<(Tab, Placed), ActError> {
        let url = self.url(&format!("/models/live_stream?tab={number}{query}"));
        let mut attempt = 1;
        loop {
            let settings = Settings { name: format!("tab {number}"), ..Settings::default() };
            let tab = Tab::open(&url, settings)?;
            let placed = self.place(&tab)?;
            if placed != Placed::NeverRead || attempt == ATTEMPTS {
                return Ok((tab, placed));
            }
            attempt += 1;
            let front = &self.plan.front;
            self.narrator.say(&format!(
                "(The {front} front never read the connection of tab {number}. The tab is opened again.)"
            ));
        }
    }

    fn place(&mut self, tab: &Tab) -> Result<Placed, ActError> {
        let patience = UNREAD_AFTER;
        let opened = Instant::now();
        let placed = self.wait_until(patience * JUDGED_AT, |stage| {
            if tab.first_byte().is_some() {
                return Some(Placed::Streams);
            }
            let port = tab.local_port()?;
            let seen = stage.record(|record| {
                record.of_port(port).map(|story| {
                    story.is_queued() && record.now_us.saturating_sub(story.queued_us) > QUEUED_AFTER_US
                })
            });
            match seen {
                Some(true) => Some(Placed::Queued),
                Some(false) => None,
                None => (opened.elapsed() > patience).then_some(Placed::NeverRead),
            }
        })?;
        Ok(placed.unwrap_or(Placed::NeverRead))
    }

    /// Opens tabs 1 to `count`, one after the other.
    pub fn open_tabs(&mut self, count: usize, query: &str) -> Result<Vec<(Tab, Placed)>, ActError> {
        (1..=count).map(|number| self.open_tab(number, query)).collect()
    }

    /// Requests a page, and waits for the answer for at most `patience`. Returns its status and how long it took,
    /// or `None` if nothing arrived.
    pub fn page(&mut self, path: &str, patience: Duration) -> Result<Option<(u16, Duration)>, ActError> {
        let began = Instant::now();
        let answer = self.page_body(path, patience)?;
        Ok(answer.map(|(status, _)| (status, began.elapsed())))
    }

    /// Like [`Stage::page`], but returns the body instead of the time.
    pub fn page_body(&mut self, path: &str, patience: Duration) -> Result<Option<(u16, Vec<u8>)>, ActError> {
        let (tell, told) = bounded(1);
        let url = self.url(path);
        threads::spawn(&format!("page {path}"), move || {
            // This fails if the act was interrupted.
            let _ = tell.send(http::get(&url, patience).ok().map(|answer| (answer.status(), answer.body)));
        })?;
        let answer = self.wait_until(patience + UNREAD_AFTER, |_| told.try_recv().ok())?;
        Ok(answer.flatten())
    }

    /// How long a state is watched before it counts as permanent: two and a half updates.
    pub fn a_while(&self) -> Duration {
        self.plan.pace.update_rate * 5 / 2
    }

    /// The time within which the second write after a close is expected.
    pub fn two_writes(&self) -> Duration {
        self.plan.pace.update_rate * 2
    }

    /// Closes a tab, and notes when.
    pub fn close(&self, tab: &Tab) {
        let port = tab.local_port();
        tab.close();
        self.client_closed(port);
    }

    /// Notes that the client with this port has just closed.
    pub fn client_closed(&self, port: Option<u16>) {
        if let Some(port) = port {
            self.subject.follower().client_closed(port);
        }
    }

    /// The server's clock.
    pub fn clock_us(&self) -> u64 {
        self.subject.follower().clock_us()
    }

    /// Draws the finished picture, with at most this many lanes on a screen of 24 rows.
    pub fn finish_picture(&mut self, most_lanes: usize) {
        self.catch_up();
        let from_us = self.began_us.unwrap_or_default();
        let record = self.record(Record::clone);
        self.narrator.lanes(&record, from_us, most_lanes);
        self.scenes.push(Scene { caption: self.caption.clone(), record, from_us });
    }

    /// Begins another picture of the same server.
    pub fn next_picture(&mut self, caption: &str) {
        self.narrator.caption(caption);
        caption.clone_into(&mut self.caption);
        self.began_us = Some(self.clock_us().saturating_sub(BEFORE_US));
    }

    pub fn say(&mut self, text: &str) {
        self.narrator.say(text);
    }

    fn draw(&mut self) {
        if self.drawn.is_some_and(|drawn| drawn.elapsed() < DRAW_EVERY) {
            return;
        }
        self.drawn = Some(Instant::now());
        self.subject.follower().record(|record| {
            // A picture begins with the first client, not with the server.
            if self.began_us.is_none() {
                self.began_us =
                    record.stories.values().next().map(|story| story.queued_us.saturating_sub(BEFORE_US));
            }
            if let Some(began_us) = self.began_us {
                self.narrator.watch(record, began_us);
            }
        });
    }
}

/// A time in seconds, in the format of the flags.
pub fn in_seconds(time: Duration) -> String {
    format!("{}s", time.as_secs_f64())
}

/// A time as text: in seconds with one decimal, or in milliseconds if it is short.
pub fn spoken(time: Duration) -> String {
    if time < Duration::from_millis(100) {
        format!("{:.1} ms", time.as_secs_f64() * 1e3)
    } else {
        format!("{:.1} s", time.as_secs_f64())
    }
}
