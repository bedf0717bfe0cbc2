//! A stage: a server under test, the visitors that an act sends to it, and what
//! may end the wait for them.
//!
//! Acts are written in these verbs: serve, open a tab, watch, wait until, ask for
//! a page. All waiting happens in [`Stage::wait_until`]: it draws the lanes
//! meanwhile, and ends early, with [`ActError::Interrupted`], when it is told to.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use serde_json::Value;
use thiserror::Error;

use super::chromium::ChromiumError;
use super::http::{self, HttpError};
use super::interrupt::{Interrupt, Interrupted};
use super::narrator::Narrator;
use super::record::Record;
use super::story::Story;
use super::subject::{SubjectError, TestedServer};
use super::tab::{Settings, Tab, TabError};
use ninetabs_server::threads::{self, SpawnError};

/// How much later than its bound something may come before it counts as not coming.
pub const JUDGED_AT: u32 = 10;
/// After this long a tab that the server has not read is taken for stranded.
pub const UNREAD_AFTER: Duration = Duration::from_secs(1);
/// How long a request must have been in todo to be said to wait.
const QUEUED_AFTER_US: u64 = 200_000;
/// How often a tab or a zombie is opened, until the server has read it.
pub const ATTEMPTS: usize = 5;
/// How often conditions are looked at, and lanes drawn.
const LOOK_EVERY: Duration = Duration::from_millis(10);
const DRAW_EVERY: Duration = Duration::from_millis(100);
/// How long the record may take to hear what the server knows already.
const CATCHING_UP: Duration = Duration::from_secs(1);

/// How fast everything goes: the seed's own times, or a tenth of them.
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
    /// The seed's: an update every two seconds.
    pub const SEED: Pace = Pace {
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

/// What the acts are played with.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The program to start as the server.
    pub program: PathBuf,
    /// Least and most threads.
    pub threads: RangeInclusive<usize>,
    pub tabs: usize,
    pub front: String,
    pub pace: Pace,
}

impl Plan {
    /// The most threads, which is the most streams.
    pub fn most_threads(&self) -> usize {
        *self.threads.end()
    }
}

/// Why an act did not come to its end.
#[derive(Debug, Error)]
pub enum ActError {
    /// Somebody pressed Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    #[error(transparent)]
    Subject(SubjectError),
    #[error("a visitor could not be sent: {0}")]
    Visitor(#[from] TabError),
    #[error("the browser could not be driven: {0}")]
    Browser(ChromiumError),
    #[error("the server ended while it was looked at")]
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

impl From<HttpError> for ActError {
    fn from(error: HttpError) -> Self {
        ActError::Visitor(TabError::Http(error))
    }
}

/// What became of a tab that was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placed {
    /// Its first byte came.
    Streams,
    /// The server has read its request, and it waits in todo.
    Queued,
    /// The server's front never read it: it waits for nothing.
    NeverRead,
}

/// One server, and what is needed to watch it.
pub struct Stage<'a> {
    pub plan: &'a Plan,
    subject: TestedServer,
    narrator: &'a mut Narrator,
    interrupt: &'a Interrupt,
    drawn: Option<Instant>,
    began_us: Option<u64>,
}

impl<'a> Stage<'a> {
    /// Starts the server with the plan's threads and pace, and these flags besides.
    /// `caption` says what its picture shows.
    pub fn serve(
        plan: &'a Plan,
        narrator: &'a mut Narrator,
        interrupt: &'a Interrupt,
        caption: &str,
        flags: &[(&str, String)],
    ) -> Result<Stage<'a>, ActError> {
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
        let mut stage = Stage { plan, subject, narrator, interrupt, drawn: None, began_us: None };
        // Until the server has been asked once there is nothing to draw.
        stage.wait_until(Duration::from_secs(30), |stage| {
            (stage.record(|record| record.now_us) > 0).then_some(())
        })?;
        Ok(stage)
    }

    /// An address of the app.
    pub fn url(&self, path: &str) -> String {
        self.subject.url(path)
    }

    pub fn port(&self) -> &str {
        self.subject.port()
    }

    /// What ends the waits of this stage.
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

    /// Reads something from what the server has recorded.
    pub fn record<T>(&self, read: impl FnOnce(&Record) -> T) -> T {
        read(&self.subject.follower().record())
    }

    /// The story of a tab's newest connection.
    pub fn story_of(&self, port: Option<u16>) -> Option<Story> {
        self.record(|record| record.of_port(port?).cloned())
    }

    /// Waits until there is something, at most for `limit`.
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

    /// Lets time pass.
    pub fn watch(&mut self, time: Duration) -> Result<(), ActError> {
        self.wait_until(time, |_| None::<()>).map(drop)
    }

    /// Waits until one of the stats is this.
    pub fn wait_for_stat(&mut self, pointer: &str, wanted: u64, limit: Duration) -> Result<u64, ActError> {
        let mut last = self.stat(pointer)?;
        self.wait_until(limit, |stage| {
            last = stage.stat(pointer).unwrap_or(last);
            (last == wanted).then_some(())
        })?;
        self.catch_up();
        Ok(last)
    }

    /// Waits until the record has what the server knew at this moment: an answer
    /// that was under way says less, so it is the second from now.
    fn catch_up(&self) {
        let heard = || self.record(|record| record.now_us);
        let (deadline, mut last) = (Instant::now() + CATCHING_UP, heard());
        for _ in 0..2 {
            while heard() == last && Instant::now() < deadline {
                // An interrupt ends the wait that comes next as well.
                if self.interrupt.sleep(LOOK_EVERY) == Err(Interrupted) {
                    return;
                }
            }
            last = heard();
        }
    }

    /// Opens tab `number` on the stream, and waits until it streams or is seen in
    /// todo. One that the front never reads is opened again.
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
                "(the {front} front never read tab {number}'s connection; it is opened again)"
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

    /// Asks for a page, and waits for its answer at most for `patience`: its status
    /// and how long it took, or None for no byte.
    pub fn page(&mut self, path: &str, patience: Duration) -> Result<Option<(u16, Duration)>, ActError> {
        let began = Instant::now();
        let answer = self.page_body(path, patience)?;
        Ok(answer.map(|(status, _)| (status, began.elapsed())))
    }

    /// The same, for the whole body.
    pub fn page_body(&mut self, path: &str, patience: Duration) -> Result<Option<(u16, Vec<u8>)>, ActError> {
        let (tell, told) = bounded(1);
        let url = self.url(path);
        threads::spawn(&format!("page {path}"), move || {
            // Nobody listens any more when the act was interrupted.
            let _ = tell.send(http::get(&url, patience).ok().map(|answer| (answer.status(), answer.body)));
        })?;
        let answer = self.wait_until(patience + UNREAD_AFTER, |_| told.try_recv().ok())?;
        Ok(answer.flatten())
    }

    /// How long something must last before it is said to last: two and a half updates.
    pub fn a_while(&self) -> Duration {
        self.plan.pace.update_rate * 5 / 2
    }

    /// The bound of the second write after a close, at which things are judged.
    pub fn two_writes(&self) -> Duration {
        self.plan.pace.update_rate * 2
    }

    /// Draws the lanes for good.
    pub fn settle_lanes(&mut self) {
        self.catch_up();
        let began_us = self.began_us.unwrap_or_default();
        let record = self.subject.follower().record();
        self.narrator.lanes(&record, began_us);
    }

    /// What is known at the end, and since when lanes are to be drawn.
    pub fn recorded(&self) -> (Record, u64) {
        (self.record(Record::clone), self.began_us.unwrap_or_default())
    }

    /// What the picture shows from now on.
    pub fn caption(&mut self, text: &str) {
        self.narrator.caption(text);
    }

    pub fn say(&mut self, text: &str) {
        self.narrator.say(text);
    }

    fn draw(&mut self) {
        if self.drawn.is_some_and(|drawn| drawn.elapsed() < DRAW_EVERY) {
            return;
        }
        self.drawn = Some(Instant::now());
        let record = self.subject.follower().record();
        // Lanes begin with the first visitor, not with the server.
        if self.began_us.is_none() {
            self.began_us =
                record.stories.values().next().map(|story| story.queued_us.saturating_sub(50_000));
        }
        if let Some(began_us) = self.began_us {
            self.narrator.watch(&record, began_us);
        }
    }
}

/// As flags take it, and as people read it.
pub fn in_seconds(time: Duration) -> String {
    format!("{}s", time.as_secs_f64())
}

/// With one digit behind the point, or in milliseconds where that says nothing.
pub fn spoken(time: Duration) -> String {
    if time < Duration::from_millis(100) {
        format!("{:.1} ms", time.as_secs_f64() * 1e3)
    } else {
        format!("{:.1} s", time.as_secs_f64())
    }
}
