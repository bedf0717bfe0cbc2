//! The second server of `/wall?beside=NAME`: the same program as a child process, with one fix, on the database
//! of this server.
//!
//! There is one at a time; another fix replaces it. It ends on a reset, after [`UNWATCHED_AFTER`] without a viewer, and
//! when this process ends for any reason: its standard input is then closed, and a shell kills it
//! ([`crate::lab::scratch`]). A thread watches it, and notices if it ends by itself. To end it, it is killed: rows that
//! were answered are in the database, and there is nothing else to save.

use std::convert::Infallible;
use std::io;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use serde::Serialize;
use serde_json::Value;
use thiserror::Error;

use super::token::Token;
use crate::app::database_place::{DatabasePlace, DatabaseUrl};
use crate::lab::http::{self, HttpError};
use crate::lab::interrupt::Interrupt;
use crate::lab::subject::{ChildServer, FREE_PORT, Launch, SubjectError};
use ninetabs_server::threads::{SpawnError, StopSignal, StoppableThread};

/// How long the second server runs without a viewer.
const UNWATCHED_AFTER: Duration = Duration::from_secs(30);
/// How often its process and its viewers are checked.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long its control server may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// How a fix is set beside a plain server.
#[derive(Debug)]
struct BesideFix {
    name: &'static str,
    way: BesideWay,
}

#[derive(Debug, PartialEq, Eq)]
enum BesideWay {
    /// By `--fix`, which sets these flags.
    Flags(&'static [&'static str]),
    /// By showing its page in the frames. The flags listed here would break that page, so they are not passed on.
    Page(&'static [&'static str]),
    /// Not at all, for this reason.
    Refused(&'static str),
}

use BesideWay::{Flags, Page, Refused};

/// Only this front door can hand over a connection, and it is the default.
const FRONT: &[&str] = &["--front"];

const FIXES: &[BesideFix] = &[
    BesideFix { name: "reaper", way: Flags(&["--max-stream-age"]) },
    BesideFix { name: "more-threads", way: Flags(&["--threads", "--db-pool", "--db-lease"]) },
    BesideFix { name: "cap", way: Flags(&["--stream-cap"]) },
    BesideFix { name: "io-threads", way: Flags(&["--max-io-threads"]) },
    BesideFix {
        name: "other-server",
        way: Refused(
            "its streams need a third server, and the threads that they hold would be on neither side",
        ),
    },
    BesideFix {
        name: "leave",
        way: Refused("it closes the stream of a page that is left, and here every page stays open"),
    },
    BesideFix { name: "short-stream", way: Page(&[]) },
    BesideFix { name: "shared-worker", way: Page(&[]) },
    BesideFix { name: "push", way: Page(FRONT) },
    BesideFix { name: "partials", way: Page(FRONT) },
    BesideFix { name: "cable", way: Page(FRONT) },
    BesideFix { name: "poll", way: Page(&[]) },
    BesideFix { name: "long-poll", way: Page(FRONT) },
];

/// The names of all fixes, for the table of orders.
pub(super) const NAMES: &[&str] = &{
    let mut names = [""; FIXES.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = FIXES[at].name;
        at += 1;
    }
    names
};

/// The settings with which the second server is started.
pub struct BesideSettings {
    pub database: DatabasePlace,
    pub cable_database: Option<DatabaseUrl>,
    /// The flags of this server that the second one has as well, so that only the fix differs.
    pub flags: Vec<(&'static str, String)>,
    pub token: Option<Token>,
    /// The fix that this server was started with.
    pub own_fix: Option<String>,
    /// Whether this server listens on loopback addresses only.
    pub is_local: bool,
}

/// The reason why the second server does not run.
#[derive(Debug, Error)]
pub(super) enum BesideError {
    #[error("fix: {name} cannot be shown beside a plain server: {why}")]
    Refused { name: &'static str, why: &'static str },
    #[error(
        "a second server is started only beside one that listens on loopback addresses; give --bind and --control-url addresses such as tcp://127.0.0.1:0"
    )]
    NotLocal,
    #[error("a reset ended this order before it was carried out; repeat the order")]
    Reset,
    #[error("cannot start a second server: this program is not found: {0}")]
    Program(io::Error),
    #[error("cannot start a second server: {0}")]
    Child(#[from] SubjectError),
    #[error("cannot prepare the second server: {0}")]
    Asked(#[from] HttpError),
    #[error("cannot prepare the second server: it answered {0}")]
    Answered(String),
    #[error(transparent)]
    Thread(#[from] SpawnError),
}

/// The second server as the pages see it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct BesideShown {
    fix: &'static str,
    /// The address of its control server.
    control: String,
    /// Why it ended; null while it runs.
    ended: Option<String>,
}

/// The slot for the second server.
pub struct Beside {
    settings: BesideSettings,
    /// The port of this control server, whose pages may show the wall of the second server.
    port: OnceLock<u16>,
    /// On a second server: the port of the control server whose pages may show its wall. 0: none.
    framed_by: AtomicU16,
    /// Held while one is started.
    one: Mutex<()>,
    now: Mutex<BesideNow>,
}

#[derive(Default)]
struct BesideNow {
    /// Dropped to interrupt a start.
    starting: Option<Sender<Infallible>>,
    running: Option<SecondServer>,
    shown: Option<BesideShown>,
    /// How many were started.
    count: u64,
}

/// A running second server.
struct SecondServer {
    number: u64,
    /// Dropped to interrupt it.
    asks: Sender<Infallible>,
    child: ChildServer,
    watch: StoppableThread,
}

impl Beside {
    pub fn new(settings: BesideSettings) -> Beside {
        Beside {
            settings,
            port: OnceLock::new(),
            framed_by: AtomicU16::new(0),
            one: Mutex::default(),
            now: Mutex::default(),
        }
    }

    /// Sets the port of this control server, which is known once it listens.
    pub fn listens_at(&self, port: u16) {
        // It is set once, at the start.
        let _ = self.port.set(port);
    }

    /// Allows the pages of the control server at this port of this machine to show this server's wall in a frame.
    pub(super) fn show_in_frames_of(&self, port: u16) {
        self.framed_by.store(port, Ordering::Release);
    }

    /// The port of that control server.
    pub(super) fn framed_by(&self) -> Option<u16> {
        Some(self.framed_by.load(Ordering::Acquire)).filter(|port| *port != 0)
    }

    /// The fix that this server was started with.
    pub(super) fn own_fix(&self) -> Option<&str> {
        self.settings.own_fix.as_deref()
    }

    /// The second server, or the last one that ran; `None` before the first start.
    pub(super) fn shown(&self) -> Option<BesideShown> {
        self.now().shown.clone()
    }

    /// Starts it with this fix. If it already runs with this fix, it is kept. Blocks until it listens.
    pub(super) fn start(self: &Arc<Self>, name: &str) -> Result<BesideShown, BesideError> {
        let Some(fix) = FIXES.iter().find(|fix| fix.name == name) else {
            // The table of orders refuses every other name.
            return Err(BesideError::Refused { name: "it", why: "there is no such fix" });
        };
        if let Refused(why) = fix.way {
            return Err(BesideError::Refused { name: fix.name, why });
        }
        let port = *self.port.get().filter(|_| self.settings.is_local).ok_or(BesideError::NotLocal)?;
        let _one = self.one.lock().unwrap_or_else(PoisonError::into_inner);
        let interrupt = {
            let mut now = self.now();
            if let (Some(_), Some(shown)) = (&now.running, &now.shown)
                && shown.fix == fix.name
            {
                return Ok(shown.clone());
            }
            let (asks, interrupt) = Interrupt::new();
            now.starting = Some(asks);
            interrupt
        };
        self.end_running(&format!("one with {} was ordered instead", fix.name));
        let started = self.launch(fix, &interrupt).and_then(|child| {
            self.ask(child.control(), "POST", &format!("/lab/framed-by?port={port}")).map(|_| child)
        });
        let mut now = self.now();
        let Some(asks) = now.starting.take() else {
            drop(now);
            return Err(BesideError::Reset);
        };
        let child = started?;
        now.count += 1;
        let number = now.count;
        let (beside, control) = (Arc::clone(self), child.control().to_owned());
        let watch =
            StoppableThread::start("second server", move |stop| beside.watch(stop, number, &control))?;
        let shown = BesideShown { fix: fix.name, control: child.control().to_owned(), ended: None };
        now.running = Some(SecondServer { number, asks, child, watch });
        now.shown = Some(shown.clone());
        Ok(shown)
    }

    /// Ends it, or its start, for this reason. Blocks until its process has ended.
    pub fn end(&self, why: &str) {
        let starting = self.now().starting.take();
        drop(starting);
        self.end_running(why);
    }

    fn end_running(&self, why: &str) {
        let running = {
            let mut now = self.now();
            now.end_shown(why);
            now.running.take()
        };
        // The lock must be released by now, because the thread that watches the server may be waiting for it.
        drop(running.map(SecondServer::kill));
    }

    fn launch(&self, fix: &BesideFix, interrupt: &Interrupt) -> Result<ChildServer, BesideError> {
        let BesideSettings { database, cable_database, flags, token, .. } = &self.settings;
        let program = std::env::current_exe().map_err(BesideError::Program)?;
        let token = token.as_ref().map(|token| ("NINETABS_CONTROL_TOKEN", token.reveal().to_owned()));
        // A URL may contain a password, and any user can read the arguments of a process.
        let url = match database {
            DatabasePlace::Server(url) => Some(("NINETABS_DATABASE", url.reveal().to_owned())),
            DatabasePlace::File(_) | DatabasePlace::Memory => None,
        };
        let cable = cable_database.as_ref().map(|url| ("NINETABS_CABLE_DATABASE", url.reveal().to_owned()));
        let launch = Launch {
            program: &program,
            bind: FREE_PORT,
            database: database.file(),
            flags: &flags_of(fix, flags),
            variables: &token.into_iter().chain(url).chain(cable).collect::<Vec<_>>(),
        };
        Ok(ChildServer::start(launch, interrupt)?)
    }

    /// Sends a request to its control server.
    fn ask(&self, control: &str, method: &str, path: &str) -> Result<Value, BesideError> {
        let mark = if path.contains('?') { '&' } else { '?' };
        let token = self.settings.token.as_ref();
        let query = token.map(|token| format!("{mark}token={}", token.reveal())).unwrap_or_default();
        let url = format!("{control}{path}{query}");
        let answer = match method {
            "POST" => http::post(&url, "text/plain", "", ANSWER_WITHIN)?,
            _ => http::get(&url, ANSWER_WITHIN)?,
        };
        match (answer.status(), answer.json()) {
            (200, Ok(json)) => Ok(json),
            (status, _) => Err(BesideError::Answered(format!("{status}: {}", answer.text().trim()))),
        }
    }

    /// Watches the server of this number until it ends. Ends it after too long without a viewer.
    fn watch(&self, stop: &StopSignal, number: u64, control: &str) {
        let mut watched = Instant::now();
        while stop.sleep(LOOK_EVERY) {
            match self.status_of(number) {
                None => return,
                Some(Ok(None)) => {}
                Some(Ok(Some(status))) => return self.end_of(number, &how_it_ended(status)),
                Some(Err(error)) => return self.end_of(number, &format!("its process is lost: {error}")),
            }
            // A server that does not answer counts as having no viewer.
            let viewers = self.ask(control, "GET", "/lab/viewers").ok();
            if viewers.and_then(|it| it.get("viewers")?.as_u64()) > Some(0) {
                watched = Instant::now();
            }
            if watched.elapsed() >= UNWATCHED_AFTER {
                let why = format!("no page has shown it for {} s", UNWATCHED_AFTER.as_secs());
                return self.end_of(number, &why);
            }
        }
    }

    /// None if it no longer runs, or another one runs instead.
    fn status_of(&self, number: u64) -> Option<io::Result<Option<ExitStatus>>> {
        let mut now = self.now();
        now.running.as_mut().filter(|it| it.number == number).map(|it| it.child.status())
    }

    fn end_of(&self, number: u64, why: &str) {
        let ended = {
            let mut now = self.now();
            let ended = now.running.take_if(|it| it.number == number);
            // A reset may have ended it first.
            if ended.is_some() {
                log::info!("the second server ended: {why}");
                now.end_shown(why);
            }
            ended
        };
        drop(ended.map(SecondServer::kill));
    }

    fn now(&self) -> MutexGuard<'_, BesideNow> {
        // Every change under this lock is complete even after a panic.
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BesideNow {
    fn end_shown(&mut self, why: &str) {
        if let Some(shown) = self.shown.as_mut().filter(|shown| shown.ended.is_none()) {
            shown.ended = Some(why.to_owned());
        }
    }
}

impl SecondServer {
    /// Interrupts it, so that dropping it does not wait for its stop. Returns what is left to be dropped.
    fn kill(self) -> (ChildServer, StoppableThread) {
        let SecondServer { asks, child, watch, .. } = self;
        drop(asks);
        (child, watch)
    }
}

/// The flags of a second server: the fix, and those of this server that do not set it.
fn flags_of(fix: &BesideFix, own: &[(&'static str, String)]) -> Vec<String> {
    let (left_out, name) = match fix.way {
        Flags(set) => (set, Some(fix.name)),
        Page(left_out) => (left_out, None),
        Refused(_) => (&[][..], None),
    };
    let given = name.map(|name| ["--fix".to_owned(), name.to_owned()]);
    // The rows of this server arrive there as well.
    let quiet = ["--produce-every".to_owned(), "off".to_owned()];
    let own = own.iter().filter(|(flag, _)| !left_out.contains(flag));
    let own = own.flat_map(|(flag, value)| [(*flag).to_owned(), value.clone()]);
    given.into_iter().flatten().chain(quiet).chain(own).collect()
}

fn how_it_ended(status: ExitStatus) -> String {
    format!("its process ended by itself ({status})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_server_has_the_flags_of_this_one_except_those_of_the_fix() {
        let own = vec![
            ("--threads", "8:8".to_owned()),
            ("--front", "tiny-http".to_owned()),
            ("--retry", "1s".to_owned()),
        ];
        let flags = |name: &str| {
            let fix = FIXES.iter().find(|fix| fix.name == name).unwrap();
            flags_of(fix, &own).join(" ")
        };
        assert_eq!(
            flags("more-threads"),
            "--fix more-threads --produce-every off --front tiny-http --retry 1s"
        );
        assert_eq!(flags("cap"), "--fix cap --produce-every off --threads 8:8 --front tiny-http --retry 1s");
        assert_eq!(flags("push"), "--produce-every off --threads 8:8 --retry 1s");
        assert_eq!(flags("poll"), "--produce-every off --threads 8:8 --front tiny-http --retry 1s");
    }
}
