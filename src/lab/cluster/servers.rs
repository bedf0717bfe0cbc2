//! The servers of a cluster. Each is restarted at its address if it ends, and its statistics are requested regularly.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ninetabs_server::threads::StoppableThread;
use serde_json::Value;

use super::super::http;
use super::super::interrupt::Interrupt;
use super::super::subject::{ChildServer, FREE_PORT, Launch, SubjectError};
use super::{ClusterError, ClusterPlan};

/// How often a server's statistics are requested.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// A server that takes longer than this counts as not answering.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// How long a server that has ended stays down.
const DOWN_FOR: Duration = Duration::from_secs(2);
/// How many times in a row a server may fail to start again.
const ATTEMPTS: u32 = 10;

/// The database of all servers.
#[derive(Clone, Copy)]
pub(super) enum ServersDatabase<'a> {
    /// Passed as a variable, because it may contain a password.
    Url(&'a str),
    File(&'a Path),
}

/// The newest statistics of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ServerView {
    pub answers: bool,
    /// The number of connected tabs.
    pub listeners: u64,
    /// Whether notifications of commits arrive. `None` if the engine does not send any.
    pub listening: Option<bool>,
}

/// One server.
pub struct ClusterServer {
    number: usize,
    address: SocketAddr,
    state: ServerState,
    /// The newest view that was printed.
    told: ServerView,
}

enum ServerState {
    Up(Box<RunningServer>),
    Down { since: Instant, failures: u32 },
}

struct RunningServer {
    view: Arc<Mutex<ServerView>>,
    // Fields are dropped in this order, because the thread sends requests to the child.
    _asks: StoppableThread,
    child: ChildServer,
}

impl RunningServer {
    fn start(
        plan: &ClusterPlan,
        bind: &str,
        database: ServersDatabase<'_>,
        interrupt: &Interrupt,
    ) -> Result<RunningServer, ClusterError> {
        let (variables, file) = match database {
            ServersDatabase::Url(url) => (vec![("NINETABS_DATABASE", url.to_owned())], None),
            ServersDatabase::File(file) => (Vec::new(), Some(file)),
        };
        let launch = Launch {
            program: &plan.program,
            bind,
            database: file,
            flags: &plan.server_flags,
            variables: &variables,
        };
        let child = ChildServer::start(launch, interrupt)?;
        let view = Arc::new(Mutex::new(ServerView { answers: true, ..ServerView::default() }));
        let (to, control) = (Arc::clone(&view), format!("{}/stats", child.control()));
        let asks = StoppableThread::start("server numbers", move |stop| {
            while stop.sleep(ASK_EVERY) {
                let seen = ask(&control);
                let mut view = to.lock().unwrap_or_else(PoisonError::into_inner);
                *view = seen.unwrap_or(ServerView { answers: false, ..*view });
            }
        })?;
        Ok(RunningServer { view, _asks: asks, child })
    }

    fn view(&self) -> ServerView {
        *self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `None` if the server did not answer.
fn ask(url: &str) -> Option<ServerView> {
    let stats: Value = http::get(url, ANSWER_WITHIN).ok()?.json().ok()?;
    let listening = stats["engine"]["listening"].as_bool();
    Some(ServerView { answers: true, listeners: stats["listeners"]["open"].as_u64()?, listening })
}

impl ClusterServer {
    /// Starts a server on a free port, and blocks until it listens.
    pub(super) fn start(
        number: usize,
        plan: &ClusterPlan,
        database: ServersDatabase<'_>,
        interrupt: &Interrupt,
    ) -> Result<ClusterServer, ClusterError> {
        let server =
            RunningServer::start(plan, FREE_PORT, database, interrupt).map_err(|error| match error {
                ClusterError::Subject(error) => ClusterError::Server { number, error },
                error => error,
            })?;
        let url = server.child.url("");
        let address = url.trim_start_matches("http://").parse();
        let address = address.map_err(|_| ClusterError::Server { number, error: SubjectError::NotReady })?;
        let told = ServerView { answers: true, ..ServerView::default() };
        Ok(ClusterServer { number, address, state: ServerState::Up(Box::new(server)), told })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of the app, `http://HOST:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// One line about the server.
    pub(super) fn introduction(&self) -> String {
        match &self.state {
            ServerState::Up(server) => format!(
                "Server {} (process {}): {}/, control {}/",
                self.number,
                server.child.id(),
                self.url(),
                server.child.control()
            ),
            ServerState::Down { .. } => format!("Server {} is down", self.number),
        }
    }

    /// The newest statistics.
    pub fn view(&self) -> ServerView {
        match &self.state {
            ServerState::Up(server) => server.view(),
            ServerState::Down { .. } => ServerView::default(),
        }
    }

    /// Kills the server.
    pub(super) fn kill(&mut self) {
        if let ServerState::Up(server) = &mut self.state
            && let Err(error) = server.child.kill()
        {
            log::warn!("cannot kill server {}: {error}", self.number);
        }
    }

    /// Restarts the server if it has been down for long enough. Returns a line about the change.
    pub(super) fn look_after(
        &mut self,
        plan: &ClusterPlan,
        database: ServersDatabase<'_>,
        interrupt: &Interrupt,
    ) -> Result<Option<String>, ClusterError> {
        let number = self.number;
        match &mut self.state {
            ServerState::Up(server) => {
                let status = server.child.status().map_err(|error| not_watched(number, &error))?;
                let Some(status) = status else { return Ok(self.changes()) };
                let said = format!("Server {number} (process {}) ended with {status}", server.child.id());
                self.state = ServerState::Down { since: Instant::now(), failures: 0 };
                Ok(Some(said))
            }
            ServerState::Down { since, failures } => {
                if since.elapsed() < DOWN_FOR {
                    return Ok(None);
                }
                match RunningServer::start(plan, &format!("tcp://{}", self.address), database, interrupt) {
                    Ok(server) => {
                        self.state = ServerState::Up(Box::new(server));
                        self.told = ServerView { answers: true, ..ServerView::default() };
                        Ok(Some(self.introduction()))
                    }
                    Err(ClusterError::Subject(error)) if *failures + 1 >= ATTEMPTS => {
                        Err(ClusterError::Server { number, error })
                    }
                    Err(ClusterError::Subject(error)) => {
                        (*since, *failures) = (Instant::now(), *failures + 1);
                        Ok(Some(format!("Server {number} did not start again: {error}")))
                    }
                    Err(error) => Err(error),
                }
            }
        }
    }

    /// A line about a change in a running server.
    fn changes(&mut self) -> Option<String> {
        let (before, now, number) = (self.told, self.view(), self.number);
        self.told = now;
        if before.answers != now.answers {
            let what = if now.answers { "answers again" } else { "does not answer" };
            return Some(format!("Server {number} {what}"));
        }
        match (before.listening, now.listening) {
            (Some(false), Some(true)) => Some(format!("Server {number} receives notifications again")),
            (Some(true) | None, Some(false)) => Some(format!("Server {number} receives no notifications")),
            _ => None,
        }
    }
}

fn not_watched(number: usize, error: &io::Error) -> ClusterError {
    let error = SubjectError::Ended(format!("its state is unknown: {error}"));
    ClusterError::Server { number, error }
}
