//! The procedure: opens streams one after another until one gets nothing, and tries a few experiments at the limit.
//!
//! The procedure only handles sockets; it does not interpret the results. Each connection has a thread that blocks in
//! the kernel and reports what happens ([`exchange`]). [`connections`] folds the reports into the state of each
//! connection. Each step of the procedure is a module, and each of its waits has a deadline. When the run ends,
//! everything is closed, on every exit path.

mod again;
mod asks;
mod baseline;
mod beyond;
mod blind;
mod compression;
mod connection;
mod connections;
mod descriptors;
mod exchange;
mod extras;
mod figures;
mod held;
mod kept_head;
mod lanes;
mod leave;
mod listen;
mod observation;
mod slots;
mod staircase;

use std::time::{Duration, Instant};

use crossbeam_channel::{bounded, select};
use ninetabs_server::threads::{self, StopSignal};

use self::asks::{LateAsk, ProbedPage};
use self::connection::{Carries, ProbedConnection};
use self::connections::{Connections, Flow};
use self::observation::{End, Id};
use self::staircase::Climbing;
use super::measured::{Measured, ProbeTarget, Statistics, StatsMoment, Stopped};
use super::plan::ProbePlan;
use super::progress::ProbeProgress;
use super::{listeners, statistics};
use crate::lab::http::{Head, mime};

/// Maximum number of arrivals whose size is reported.
const MAX_ARRIVALS: usize = 4096;

/// If fewer streams than this run, they are listened to before some are closed.
const FEW: usize = 3;

/// Runs the probe, and returns what it measured, even if it ended early.
///
/// Blocks for about a minute, and for at most 0.2 s after the stop signal. `tell` is called on this thread.
pub fn run(plan: &ProbePlan, stop: &StopSignal, tell: &mut dyn FnMut(ProbeProgress<'_>)) -> Measured {
    descriptors::raise_limit();
    let mut run = Run::new(plan, stop, tell);
    let mut climb = Climbing::first();
    let stopped = run.steps(&mut climb).err();
    run.finish(&climb, stopped)
}

/// A run in progress.
struct Run<'a> {
    plan: &'a ProbePlan,
    stop: &'a StopSignal,
    tell: &'a mut dyn FnMut(ProbeProgress<'_>),
    net: Connections<'a>,
    measured: Measured,
    pages: Vec<ProbedPage>,
    /// `Accept-Encoding` of the streams, if it is not the usual one.
    encoding: Option<String>,
    /// The page request that is left open until the streams are closed.
    late_ask: Option<LateAsk>,
    /// The first page that stopped.
    first_dead: Option<usize>,
    /// When the count was known.
    counted_at: Option<Instant>,
    /// Whether the tabs of the first climb have been recorded for the last time.
    is_recorded: bool,
}

impl<'a> Run<'a> {
    fn new(plan: &'a ProbePlan, stop: &'a StopSignal, tell: &'a mut dyn FnMut(ProbeProgress<'_>)) -> Run<'a> {
        let target = ProbeTarget {
            url: without_credentials(plan),
            method: plan.method.clone(),
            has_cookie: plan.has_cookie(),
            tabs: plan.tabs,
            address: Some(plan.address.ip()),
            patience: plan.waiting_patience(),
            ..ProbeTarget::default()
        };
        Run {
            plan,
            stop,
            tell,
            net: Connections::new(plan, stop),
            measured: Measured { target, ..Measured::default() },
            pages: Vec::new(),
            encoding: None,
            late_ask: None,
            first_dead: None,
            counted_at: None,
            is_recorded: false,
        }
    }

    /// Runs all steps, in order.
    fn steps(&mut self, climb: &mut Climbing) -> Flow<()> {
        self.baseline()?;
        self.measured.listeners_before = listeners::of(self.plan.address);
        self.ask_statistics(StatsMoment::Before)?;
        (self.tell)(ProbeProgress::Ready(&self.measured));

        self.climb(climb)?;
        self.first_dead = climb.first_dead;
        let has_limit = self.met_a_limit(climb) || climb.page_stopped_at.is_some();
        if has_limit {
            self.look_at_limit()?;
        }
        self.record(climb);
        self.counted_at = Some(Instant::now());
        (self.tell)(ProbeProgress::Count(&self.measured));

        self.listen_and_close(climb, has_limit)?;
        self.check_is_readable(climb)?;
        self.record(climb);
        self.is_recorded = true;
        self.leave_first()?;
        self.ask_statistics(StatsMoment::After)?;
        if climb.is_session_lock {
            return Ok(());
        }
        if has_limit {
            self.idle_and_kept(climb.n())?;
        }
        if !self.page_is_back()? {
            return Err(Stopped::Leak);
        }
        self.compression()?;
        self.settle_down()?;
        self.climb_again(climb)?;
        self.extras()
    }

    /// Steps 4 and 5. If there are only a few streams, they are listened to first, because closing them would leave
    /// none.
    fn listen_and_close(&mut self, climb: &mut Climbing, has_limit: bool) -> Flow<()> {
        let flowing = self.net.flowing().len();
        let closes = self.met_a_limit(climb) && !climb.is_blind;
        if closes && flowing >= FEW && !climb.is_session_lock {
            self.slot_returns(climb)?;
            return self.listen(has_limit);
        }
        self.listen(has_limit)?;
        match (closes, has_limit || climb.is_blind) {
            (true, _) => self.slot_returns(climb),
            (false, false) => self.try_late_tab(climb),
            (false, true) => Ok(()),
        }
    }

    /// Waits as [`Connections::wait`] does, and reports streams that the server ended in the meantime.
    fn wait<T>(
        &mut self,
        until: Instant,
        look: impl FnMut(&Connections<'a>) -> Option<T>,
    ) -> Flow<Option<T>> {
        let found = self.net.wait(until, look);
        let told = self.measured.cuts.len();
        for cut in &self.net.cuts()[told..] {
            self.measured.cuts.push(*cut);
            (self.tell)(ProbeProgress::Cut(cut));
        }
        found
    }

    /// Watches the connections for this time.
    fn pause(&mut self, time: Duration) -> Flow<()> {
        self.wait(Instant::now() + time, |_| None::<()>).map(|_| ())
    }

    /// Records the first climb as it is now.
    fn record(&mut self, climb: &Climbing) {
        let (figures, waiting) = self.figures(climb);
        self.measured.climbs = vec![figures];
        self.measured.waiting = waiting;
    }

    /// Records what the head of a response reveals about the server.
    fn note_head(&mut self, id: Id) {
        let Some((_, head)) = self.net.get(id).and_then(|it| it.head.as_ref()) else { return };
        let target = &mut self.measured.target;
        if target.http.is_empty() {
            target.http = format!("1.{}", head.minor_version);
            target.server = server_of(head);
        }
        target.names_a_cache |= listen::is_cache_hit(head);
        for cookie in head.values("set-cookie").map(cookie_name) {
            if !target.sets_cookies.contains(&cookie) && target.sets_cookies.len() < MAX_COOKIES {
                target.sets_cookies.push(cookie);
            }
        }
    }

    /// Queries the control server on another thread, so that a stop signal can end the wait.
    fn ask_statistics(&mut self, moment: StatsMoment) -> Flow<()> {
        let Some(control) = self.plan.control.clone() else { return Ok(()) };
        let (to, from) = bounded(1);
        let asked = threads::spawn("statistics", move || {
            let _ = to.send(statistics::ask(&control));
        });
        if let Err(error) = asked {
            return Err(Stopped::OwnLimit { why: error.to_string(), held: self.net.held() });
        }
        let figures = select! {
            recv(from) -> figures => figures.unwrap_or(None),
            recv(self.stop.receiver()) -> _ => return Err(Stopped::Interrupted),
            default(statistics::WITHIN + Duration::from_millis(500)) => None,
        };
        self.measured.statistics.push(Statistics { moment, figures });
        Ok(())
    }

    /// Completes the measurements. Dropping the run closes everything.
    fn finish(mut self, climb: &Climbing, stopped: Option<Stopped>) -> Measured {
        if !self.is_recorded && climb.opened > 0 {
            self.record(climb);
        }
        self.end_late_ask();
        self.measured.cuts = self.net.cuts().to_vec();
        self.note_late_events();
        let streams = || self.net.iter().filter(|(_, it)| matches!(it.kind, Carries::Stream(_)));
        self.measured.watched = streams().map(|(_, it)| watched(it)).max().unwrap_or_default();
        // The first arrival is left out: it contains everything that was ready when the stream began.
        let arrivals = streams().flat_map(|(_, it)| it.arrivals.iter().skip(1).copied());
        self.measured.arrivals = arrivals.take(MAX_ARRIVALS).collect();
        self.measured.lanes = self.lanes();
        self.net.close_all(if self.stop.has_come() {
            super::measured::CloseBy::Rst
        } else {
            super::measured::CloseBy::Fin
        });
        self.measured.requests = self.net.requests;
        self.measured.abandoned_pages = self.net.abandoned_pages;
        self.measured.abandoned_streams = self.net.abandoned_streams;
        self.measured.stopped = stopped;
        self.measured
    }
}

/// Maximum number of cookie names that are kept.
const MAX_COOKIES: usize = 20;

fn watched(stream: &ProbedConnection) -> Duration {
    let end = stream.server_end().map(|(at, _)| at).or(stream.closed.map(|(at, _)| at));
    end.unwrap_or_else(Instant::now).saturating_duration_since(stream.opened)
}

/// The `Server` header, without control characters.
fn server_of(head: &Head) -> Option<String> {
    head.header("server").map(|server| plain(&server, 80))
}

fn cookie_name(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    plain(text.split('=').next().unwrap_or_default().trim(), 80)
}

/// Text from the server, truncated and with control characters replaced.
fn plain(text: &str, most: usize) -> String {
    text.chars().take(most).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Describes a response for a message: its status and type, and why it cannot be read.
fn spoken_head(connection: &ProbedConnection) -> String {
    let end = connection.server_end().map(|(_, end)| end);
    let head = connection
        .head
        .as_ref()
        .map(|(_, head)| format!("{} {}", head.status, plain(&mime::spoken(head), 80)).trim_end().to_owned());
    match (head, end) {
        (Some(head), Some(End::Unusable(why) | End::EventTooLarge(why))) => format!("{head}: {why}"),
        (Some(head), _) => head,
        (None, Some(End::Unusable(why))) => why.clone(),
        (None, Some(End::Reset)) => "a reset without a response".to_owned(),
        (None, _) => "a closed connection without a response".to_owned(),
    }
}

fn without_credentials(plan: &ProbePlan) -> String {
    let mut url = plan.url.clone();
    // Both calls fail only for URLs without a host.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.to_string()
}
