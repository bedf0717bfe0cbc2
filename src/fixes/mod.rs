//! The remedies for nine tabs on eight threads. Each has a file here, and a page on which it can be tried.
//!
//! A remedy is a `Fix`: its name, its view, and the action behind `/fixes/NAME/…`. It uses the app as any controller
//! would. [`Fixes`] wraps the app: it serves the paths of the remedies and passes every other request on. All remedies
//! are registered in `ALL`; a new one is a file here, a line in `ALL`, and a template. If `serve` has a flag for it, it
//! is also in `cli::serve_args`, and its row of the comparison in `lab::compare`.
//!
//! All pages have the same order: the idea, the remedy at work, its cost, the system that it models, and how to write
//! it in Rails. No page changes its server, except that a button on the page of `poll` pauses the producer for a while.

mod arithmetic;
mod cable;
mod cap;
mod commands;
mod compared;
mod io_threads;
mod leave;
mod long_poll;
mod more_threads;
pub mod other_server;
mod partials;
mod poll;
mod push;
mod reaper;
mod shared_worker;
mod short_stream;

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::StatusCode;
use minijinja::{Value, context};

use crate::app::Rails;
use crate::app::broadcaster::Broadcaster;
use crate::app::content_security_policy::{ContentSecurityPolicy, Nonce};
use crate::app::database::Database;
use crate::app::database_place::DatabasePlace;
use crate::app::embedded::{TemplateSource, embedded};
use crate::app::producer::Lull;
use crate::app::servers::{RunningServers, is_local};
use crate::app::templates::{Templates, ViewsError};
use crate::app::views::{PAGES, PALETTE, port};
use ninetabs_server::Streams;
use ninetabs_server::{Request, Response};

/// Every fix, in the order of the list that `/fixes` shows.
const ALL: &[Fix] = &[
    more_threads::FIX,
    io_threads::FIX,
    other_server::FIX,
    reaper::FIX,
    cap::FIX,
    leave::FIX,
    shared_worker::FIX,
    push::FIX,
    partials::FIX,
    cable::FIX,
    long_poll::FIX,
    short_stream::FIX,
    poll::FIX,
];

/// The headings of the list, which group the fixes by the thing that they change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FixGroup {
    MoveTheLimit,
    BoundTheStreams,
    OpenFewerStreams,
    FreeTheThread,
    DoNotStream,
}

/// The groups, in the order of the list, each with its heading.
const GROUPS: &[(FixGroup, &str)] = &[
    (FixGroup::MoveTheLimit, "Move the limit"),
    (FixGroup::BoundTheStreams, "Bound the streams"),
    (FixGroup::OpenFewerStreams, "Open fewer streams"),
    (FixGroup::FreeTheThread, "Free the thread"),
    (FixGroup::DoNotStream, "Do not stream"),
];

/// The templates that all pages share.
const FRAME: &[TemplateSource] = &[
    embedded!("application.css"),
    embedded!("fixes/_cells.html"),
    embedded!("fixes/_live_loop.html"),
    embedded!("fixes/_start_one.html"),
    embedded!("fixes/arithmetic.js"),
    embedded!("fixes/code.js"),
    embedded!("fixes/configured.html"),
    embedded!("fixes/fixes.css"),
    embedded!("fixes/index.html"),
    embedded!("fixes/layout.html"),
    embedded!("fixes/models.js"),
    embedded!("fixes/pool.js"),
    embedded!("fixes/stream.js"),
    PALETTE,
    PAGES,
    shared_worker::WORKER,
];

/// One remedy.
struct Fix {
    /// Its name in paths.
    name: &'static str,
    /// What it does, in one sentence.
    does: &'static str,
    group: FixGroup,
    /// The name of its row in `compare`.
    measured_as: &'static str,
    /// Whether the wall can show it beside a plain server.
    has_beside: bool,
    view: TemplateSource,
    /// Whether it is enabled on this server; some remedies need a flag.
    is_on: fn(&Fixes) -> bool,
    /// The paths below its page that hold a thread or a listener. [`StreamsAccess`] decides which pages may
    /// request them.
    ///
    /// [`StreamsAccess`]: crate::app::streams_access::StreamsAccess
    streams: &'static [&'static str],
    /// Its further pages, below the first.
    pages: &'static [&'static str],
    /// Whether its page starts a worker.
    has_worker: bool,
    /// Whether scripts may swap its page for another of its pages. The policy of the first page then stays in
    /// force, so the pages share one nonce.
    is_swapped: bool,
    /// Whether it takes connections out of the pool. tiny_http cannot hand over a connection.
    detaches: bool,
    /// Answers a request below its page; `None` if there is no such path.
    action: fn(&Fixes, &Request, &str) -> Option<Response>,
    /// Answers a form that is posted below its page.
    post: fn(&Fixes, &Request, &str) -> Option<Response>,
}

/// The defaults of a remedy.
const PLAIN: Fix = Fix {
    name: "",
    does: "",
    group: FixGroup::MoveTheLimit,
    measured_as: "",
    has_beside: true,
    view: embedded!("fixes/layout.html"),
    is_on: |_| true,
    streams: &[],
    pages: &[],
    has_worker: false,
    is_swapped: false,
    detaches: false,
    action: |_, _, _| None,
    post: |_, _, _| None,
};

/// The server's settings that pages show.
#[derive(Debug, Clone)]
pub struct Told {
    /// Maximum number of threads.
    pub threads: usize,
    pub max_io_threads: usize,
    /// The origin of the server that serves the streams of its pages; `None`: this server.
    pub streams_at: Option<String>,
    /// Whether its front door can hand over a connection.
    pub can_detach: bool,
    /// The interval between a stream's queries; clients of `short-stream` reconnect at the same interval.
    pub update_rate: Duration,
    /// The database, as given on the command line.
    pub database: DatabasePlace,
    /// Pauses the producer.
    pub lull: Arc<Lull>,
    /// Both servers; set once they have started.
    pub servers: RunningServers,
}

/// The app with its fixes.
pub struct Fixes {
    rails: Rails,
    database: Arc<Database>,
    live: Arc<Streams>,
    broadcaster: Arc<Broadcaster>,
    server: Told,
    templates: Arc<Templates>,
    /// The nonce of pages that are swapped for each other.
    common_nonce: OnceLock<Nonce>,
    shared: poll::SharedAnswer,
}

impl Fixes {
    /// Wraps the app. The views are the embedded ones, or those of a folder, which must have either all views
    /// of the remedies or no folder `fixes`.
    pub fn new(
        rails: Rails,
        database: Arc<Database>,
        live: Arc<Streams>,
        broadcaster: Arc<Broadcaster>,
        server: Told,
        folder: Option<&Path>,
    ) -> Result<Fixes, ViewsError> {
        let views = FRAME.iter().copied().chain(partials::PARTIALS).chain(ALL.iter().map(|fix| fix.view));
        let views: Vec<TemplateSource> = views.collect();
        let folder = folder.filter(|folder| folder.join("fixes").is_dir());
        let templates = Arc::new(Templates::new(views, folder)?);
        Ok(Fixes {
            rails,
            database,
            live,
            broadcaster,
            server,
            templates,
            common_nonce: OnceLock::new(),
            shared: poll::SharedAnswer::default(),
        })
    }

    /// Answers a request, on the calling thread. Paths below `/fixes`, and `/cable`, are served here; the app
    /// serves all others.
    pub fn call(&self, request: &Request) -> Response {
        self.answer(request).with_default_headers()
    }

    fn answer(&self, request: &Request) -> Response {
        let path = request.path();
        let below = path.strip_prefix("/fixes");
        if below.is_none() && path != cable::PATH {
            return self.rails.call(request);
        }
        if let Err(refusal) = self.rails.check_host(request) {
            return refusal;
        }
        let Some(below) = below else { return cable::connect(self, request) };
        let answer = match request.method().as_str() {
            "GET" | "HEAD" => self.get(request, below),
            "OPTIONS" => named(below)
                .filter(|(fix, rest)| fix.streams.contains(rest))
                .map(|_| self.rails.streams().preflight(request)),
            "POST" => match self.rails.check_origin(request) {
                Ok(()) => named(below).and_then(|(fix, rest)| (fix.post)(self, request, rest)),
                Err(refusal) => Some(refusal),
            },
            _ => None,
        };
        answer.unwrap_or_else(|| Response::status(StatusCode::NOT_FOUND))
    }

    fn get(&self, request: &Request, below: &str) -> Option<Response> {
        if below.is_empty() {
            return Some(self.index(request));
        }
        match named(below)? {
            (fix, page) if page.is_empty() || fix.pages.contains(&page) => {
                Some(self.page(request, fix, page))
            }
            (fix, rest) if fix.streams.contains(&rest) => {
                let missing = || Response::status(StatusCode::NOT_FOUND);
                let action = || (fix.action)(self, request, rest).unwrap_or_else(missing);
                Some(self.rails.streams().answer(request, action))
            }
            (fix, rest) => (fix.action)(self, request, rest),
        }
    }

    fn index(&self, request: &Request) -> Response {
        let beside = self.beside(request);
        let shown = |fix: &Fix| {
            let beside = beside.as_ref().filter(|_| fix.has_beside).map(|wall| wall.to_owned() + fix.name);
            context! {
                name => fix.name,
                does => fix.does,
                is_on => (fix.is_on)(self) && self.works(fix),
                beside,
                cells => compared::cells(fix.measured_as).map(Value::from),
            }
        };
        let group = |&(group, name): &(FixGroup, &str)| {
            let fixes: Vec<Value> = ALL.iter().filter(|fix| fix.group == group).map(shown).collect();
            context! { name, fixes }
        };
        let max_age = self.live.max_age().map(|age| age.as_secs_f64());
        let (threads, age) = (self.threads(), max_age.unwrap_or(arithmetic::REAPER_AGE_S));
        let more = context! {
            page => "fixes",
            groups => GROUPS.iter().map(group).collect::<Vec<_>>(),
            plain => compared::cells(compared::PLAIN).map(Value::from),
            plain_rails => compared::cells(compared::PLAIN_RAILS).map(Value::from),
            date => compared::DATE,
            viewers => arithmetic::VIEWERS,
            age => age.to_string(),
            is_reaped => max_age.is_some(),
            costs => Value::from(arithmetic::costs(arithmetic::VIEWERS, threads, age)),
        };
        self.rendered(request, "fixes/index.html", None, self.policy(request), more)
    }

    /// The address of the wall that shows a fix beside this server, up to the name of the fix. The wall
    /// refuses this if the app can be reached from other machines.
    fn beside(&self, request: &Request) -> Option<String> {
        let app = self.server.servers.started()?.app.ip().to_canonical();
        let control = self.server.servers.control(request).filter(|_| app.is_loopback())?;
        Some(format!("{control}/wall?beside="))
    }

    /// Whether this server's front door can serve the fix.
    fn works(&self, fix: &Fix) -> bool {
        self.server.can_detach || !fix.detaches
    }

    /// The maximum number of threads that is currently in force.
    fn threads(&self) -> usize {
        self.server.servers.threads(self.server.threads)
    }

    fn page(&self, request: &Request, fix: &Fix, page: &str) -> Response {
        let started = self.server.servers.started();
        let database = &self.server.database;
        let is_shared = fix.name == other_server::FIX.name;
        let database = if is_shared { other_server::shared(database) } else { database.clone() };
        let start = commands::start(fix.name, started, &database);
        let more = context! {
            page => "fix",
            name => fix.name,
            does => fix.does,
            subpage => page,
            listener => request.param("listener"),
            hidden => request.param("hidden"),
            is_on => (fix.is_on)(self),
            works => self.works(fix),
            newest => self.database.newest(),
            cap => self.live.cap(),
            max_age => self.live.max_age().map(|age| age.as_secs_f64().to_string()),
            max_io_threads => self.server.max_io_threads,
            streams_at => self.server.streams_at.as_deref(),
            update_rate_s => self.server.update_rate.as_secs_f64().to_string(),
            lull_s => poll::LULL.as_secs(),
            other_server => self.other_server(request),
            start,
            takes_addresses => started.is_some(),
            tabs => tabs(request),
        };
        // `None` if the system cannot provide random bytes. `page` then fails to draw a nonce as well, and logs the
        // error.
        let common = || Nonce::draw().ok().map(|nonce| self.common_nonce.get_or_init(|| nonce).clone());
        let nonce = if fix.is_swapped { common() } else { None };
        let policy = ContentSecurityPolicy { workers: fix.has_worker, ..self.policy(request) };
        self.rendered(request, fix.view.name, nonce, policy, more)
    }

    /// Renders a page with the values that all pages of fixes share.
    fn rendered(
        &self,
        request: &Request,
        view: &str,
        nonce: Option<Nonce>,
        policy: ContentSecurityPolicy,
        more: Value,
    ) -> Response {
        let servers = &self.server.servers;
        let more = context! {
            control => servers.control(request),
            pool_at => servers.pool_at(request),
            threads => self.threads(),
            ..more
        };
        self.templates.page(view, nonce, &policy, more)
    }

    /// The command that starts a second server for the streams of pages with this request's host.
    fn other_server(&self, request: &Request) -> String {
        let streams_at = self.server.streams_at.as_deref().unwrap_or(other_server::STREAMS_AT);
        let host = request.authority().map_or_else(|| "127.0.0.1".to_owned(), ToString::to_string);
        let port = port(request).map(|port| format!(":{port}")).unwrap_or_default();
        let mut pages = vec![format!("http://{host}")];
        // The host names of the tabs, and of the wall's frames.
        let local = [format!("http://localhost{port}"), format!("http://*.localhost{port}")];
        pages.extend(local.into_iter().filter(|it| *it != format!("http://{host}")));
        other_server::command(streams_at, &pages.join(","), &self.server.database)
    }

    /// The policy of all pages of the remedies: they connect to this server, to the one with the streams,
    /// and to the control server for the numbers of the pool.
    fn policy(&self, request: &Request) -> ContentSecurityPolicy {
        let pool_at = self.server.servers.pool_at(request);
        let connects = self.server.streams_at.iter().cloned().chain(pool_at).collect();
        // The wall shows these pages in frames, as it does the app's.
        ContentSecurityPolicy { connects, frame_ancestors: self.rails.framers(), ..Default::default() }
    }
}

/// Origins of this server for more tabs: each has six connections of its own in a browser. There are none if
/// the names below `localhost` do not lead here.
fn tabs(request: &Request) -> Vec<String> {
    let port = port(request).map(|port| format!(":{port}")).unwrap_or_default();
    let origin = |tab: u32| format!("http://tab{tab}.localhost{port}");
    if is_local(request) { (1..=3).map(origin).collect() } else { Vec::new() }
}

/// The remedy of a path below `/fixes`, and the rest of the path.
fn named(below: &str) -> Option<(&'static Fix, &str)> {
    let below = below.strip_prefix('/')?;
    let (name, rest) = below.split_once('/').unwrap_or((below, ""));
    ALL.iter().find(|fix| fix.name == name).map(|fix| (fix, rest))
}
