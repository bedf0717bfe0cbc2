//! The control server: the numbers of the app's server, and the orders that it accepts.
//!
//! As in Puma it is a second server, with an address and threads of its own, so that it answers while every
//! thread of the first is held. Its answers are one line of JSON and close the connection, except for its own
//! pages ([`Pages`]) and their events. The commands of pumactl are Puma's and work with any method; everything
//! else is read with `GET` and changed with `POST`. `/stats` has the names and meanings of Puma 8, then our own;
//! docs/puma.md says what each counts.

mod aside;
mod beside;
mod beside_latency;
mod command;
mod guard;
mod kernel_table;
mod laboratory;
pub mod orders;
mod pages;
mod pool;
mod saved;
mod sizing;
mod stats;
mod steering;
mod token;
mod view;
mod viewers;
mod warnings;
mod watcher;

use std::io::{self, Write};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::Sender;
use http::StatusCode;
use minijinja::context;
use serde::Serialize;
use serde_json::json;

use ninetabs_server::escape;
use ninetabs_server::log_limit::limited;
use ninetabs_server::response::ResponseBody;
use ninetabs_server::threads::SpawnError;
use ninetabs_server::timeline::Excerpt;
use ninetabs_server::{Request, Response};

use aside::{Aside, AsideAnswer, SMALL, WhenFull};
use command::PumaCommand;
use guard::Asks;
use orders::{Ask, Deed, Given, ReadOnly, SavedFile, Wrong};
use pages::STEPS;
use pool::PoolShown;
use saved::SavedWindow;
use steering::Steering;
use viewers::Viewers;

pub use beside::{Beside, BesideSettings};
pub use guard::Guard;
pub use pages::Pages;
pub use sizing::Growth;
pub use token::{SAFE as SAFE_TOKEN, SHORTEST as SHORTEST_TOKEN, Token};
pub use view::{ServerParts, View};

/// Threads of the control server. No client and no order holds one for long: see `aside`.
pub const THREADS: RangeInclusive<usize> = 1..=4;
/// How long a client may take to read an answer that a pool thread writes. These are small, so that the kernel
/// accepts them immediately.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(1);

/// Maximum number of large answers at one time. A further one cuts off the oldest.
const MOST_ANSWERS: usize = 8;
/// Maximum number of orders at one time that change the number of threads. They wait for each other.
const MOST_ORDERS: usize = 8;
/// Maximum number of orders of the lab at one time. Most of them wait for a connection to the app.
const MOST_LAB_ORDERS: usize = 32;

/// How the whole process is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Models Puma::Launcher#stop: requests that are being served are served to their end.
    Gracefully,
    /// Models Puma::Launcher#halt: answers are cut off.
    AtOnce,
}

/// The app of the control server.
pub struct Control {
    guard: Guard,
    pages: Pages,
    view: View,
    viewers: Viewers,
    steering: Arc<Steering>,
    answers: Aside,
    /// Whether a pool thread is changing the number of the app's threads.
    is_sizing: AtomicBool,
    orders: Aside,
    lab_orders: Aside,
    stops: Sender<Stop>,
}

impl Control {
    /// The receiver of `stops` must live until the process ends. With `growth` the database pool grows with
    /// the threads.
    pub fn new(
        guard: Guard,
        pages: Pages,
        view: View,
        stops: Sender<Stop>,
        growth: Option<Growth>,
    ) -> Result<Self, SpawnError> {
        Ok(Control {
            guard,
            pages,
            viewers: Viewers::start(view.clone())?,
            steering: Arc::new(Steering::new(view.clone(), growth)),
            view,
            answers: Aside::new("puma ctl answer", MOST_ANSWERS, WhenFull::CutTheFirst),
            is_sizing: AtomicBool::new(false),
            orders: Aside::new("puma ctl order", MOST_ORDERS, WhenFull::Refuse),
            lab_orders: Aside::new("puma ctl lab", MOST_LAB_ORDERS, WhenFull::Refuse),
            stops,
        })
    }

    /// Answers one request.
    pub fn call(&self, request: &Request) -> Response {
        let (method, path) = (request.method().as_str(), request.path());
        let command = PumaCommand::of(path);
        let asks = match (command, method) {
            (Some(command), _) => command.asks(),
            (None, "GET" | "HEAD") if path == WALL && self.view.beside.framed_by().is_some() => {
                Asks::ForFramedPage
            }
            (None, "GET" | "HEAD") if PAGES.contains(&path) => Asks::ForPage,
            (None, "GET" | "HEAD") => Asks::ToLook,
            (None, _) => Asks::ToChange,
        };
        // Pages of the app may read the numbers of the pool, and nothing else here.
        let page_of_app = (path == pool::PATH && asks == Asks::ToLook)
            .then(|| self.guard.page_of_app(request, self.view.server.addr().port()))
            .flatten();
        let checked = page_of_app.map_or_else(|| self.guard.check(request, asks), |_| Ok(()));
        let answer = match (checked, command) {
            (Err(refusal), _) => refusal,
            (Ok(()), Some(command)) => self.command(request, command).unwrap_or_else(refuse),
            (Ok(()), None) => self.answer(request, path).unwrap_or_else(refuse),
        };
        let answer = if path == pool::PATH { pool::open_to(answer, page_of_app) } else { answer };
        self.aside_if_large(request, answer.with_default_headers()).with_header("connection", "close")
    }

    /// A large answer is written by a thread of its own: its client may read slowly, or not at all.
    fn aside_if_large(&self, request: &Request, answer: Response) -> Response {
        match answer.body() {
            ResponseBody::Whole(bytes) if bytes.len() > SMALL && request.method() != "HEAD" => {
                self.answers.run(request, move || AsideAnswer::Whole(answer))
            }
            _ => answer,
        }
    }

    /// A command of pumactl. It takes no parameter except Puma's token.
    fn command(&self, request: &Request, command: PumaCommand) -> Result<Response, Wrong> {
        orders::read(request.path(), &[], request)?;
        Ok(self.obey(command))
    }

    /// Answers a request for a page, or for a row of the table of orders.
    fn answer(&self, request: &Request, path: &str) -> Result<Response, Wrong> {
        let step = step_of(path);
        if PAGES.contains(&path) || step.is_some() {
            return match (request.method().as_str(), step) {
                ("GET" | "HEAD", None) => Ok(self.page(request, path)),
                ("GET" | "HEAD", Some(step)) => Ok(self.pages.step(step)),
                _ => Err(Wrong::method(path, "GET, HEAD")),
            };
        }
        let Some(order) = orders::of_path(path) else { return Ok(unsupported()) };
        let given = order.read(request)?;
        match order.ask {
            Ask::ReadOnly(look) => self.look(request, look, &given),
            Ask::Obey(deed) => Ok(self.order(request, deed, given)),
        }
    }

    fn look(&self, request: &Request, look: ReadOnly, given: &Given) -> Result<Response, Wrong> {
        Ok(match look {
            ReadOnly::Events => self.viewers.admit(request),
            ReadOnly::Lab => one_line(&self.view.laboratory.show()),
            ReadOnly::Pool => one_line(&PoolShown::of(&self.view)),
            ReadOnly::Threads => one_line(&self.view.threads()),
            ReadOnly::Viewers => one_line(&json!({ "viewers": self.viewers.count() })),
            ReadOnly::Timeline => self.timeline(request, given.number("after").unwrap_or(0)),
            ReadOnly::Saved(file) => {
                // Called before the window ends, so that the window includes the unread requests in the queue.
                self.view.server.look_at_todo();
                let window = SavedWindow::of(given, self.view.timeline.now_us())?;
                self.saved(request, file, window)
            }
        })
    }

    fn order(&self, request: &Request, deed: Deed, given: Given) -> Response {
        match deed {
            Deed::Reap | Deed::MaxStreamAge | Deed::Frames | Deed::FramedBy => {
                self.steering.obey(deed, &given)
            }
            Deed::Resize | Deed::SetThreads | Deed::SetDatabase | Deed::Reset => {
                match OnlyOne::take(&self.is_sizing) {
                    // This may occupy one pool thread. Further orders wait on threads of their own.
                    Some(_only) => self.steering.obey(deed, &given),
                    None => self.carry_out(&self.orders, request, deed, given),
                }
            }
            Deed::OpenTab | Deed::CloseTab | Deed::Zombies | Deed::Page | Deed::Latency | Deed::Beside => {
                self.carry_out(&self.lab_orders, request, deed, given)
            }
        }
    }

    /// Carries out an order that may wait for something.
    fn carry_out(&self, aside: &Aside, request: &Request, deed: Deed, given: Given) -> Response {
        let steering = Arc::clone(&self.steering);
        aside.run(request, move || AsideAnswer::Whole(steering.obey(deed, &given).with_default_headers()))
    }

    /// The timeline may be megabytes long, and is written while it is read.
    fn timeline(&self, request: &Request, after: u64) -> Response {
        self.view.server.look_at_todo();
        if request.method() == "HEAD" {
            return Response::detach(drop).with_header("content-type", JSON);
        }
        let timeline = Arc::clone(&self.view.timeline);
        self.answers.run(request, move || {
            let excerpt = timeline.after(after);
            let write = move |to: &mut dyn Write| write_excerpt(to, &excerpt);
            let head = Response::new(StatusCode::OK, JSON, Vec::new()).with_default_headers();
            AsideAnswer::Made(head, Box::new(write))
        })
    }

    /// A report or a trace of a window of the record. It is made and written by a thread of its own.
    fn saved(&self, request: &Request, file: SavedFile, window: SavedWindow) -> Response {
        if request.method() == "HEAD" {
            return saved::with_head(Response::detach(drop), file, &window);
        }
        let view = self.view.clone();
        self.answers.run(request, move || saved::answer(&view, file, &window))
    }

    /// Models Puma::App::Status#call.
    fn obey(&self, command: PumaCommand) -> Response {
        match command {
            PumaCommand::Stats => one_line(&self.view.stats()),
            PumaCommand::ThreadBacktraces => one_line(&stats::thread_backtraces(&self.view.server)),
            PumaCommand::Stop => self.stop(Stop::Gracefully),
            PumaCommand::Halt => self.stop(Stop::AtOnce),
            PumaCommand::Unavailable(name) => unavailable(name),
        }
    }

    /// Answers when the order was accepted, before it is carried out.
    fn stop(&self, how: Stop) -> Response {
        match self.stops.send(how) {
            Ok(()) => {
                self.view.ordered(match how {
                    Stop::Gracefully => "stop",
                    Stop::AtOnce => "halt",
                });
                Response::new(StatusCode::OK, JSON, r#"{ "status": "ok" }"#)
            }
            Err(_) => unavailable("stop"),
        }
    }

    fn page(&self, request: &Request, path: &str) -> Response {
        let is_wall = path == WALL;
        let beside = request.param("beside").filter(|_| is_wall);
        // The wall of a second server, in a frame of the first one's page.
        let framed_by = self.view.beside.framed_by().filter(|_| is_wall && request.param("bare").is_some());
        let mut frames = if is_wall { self.hosts_of_tabs() } else { Vec::new() };
        if beside.is_some() {
            // The port of the second server is not known before it has started.
            frames.push("http://127.0.0.1:*".to_owned());
        }
        let name = match (is_wall, framed_by.is_some(), beside.is_some()) {
            (true, true, _) => "control/beside_frame.html",
            (true, false, true) => "control/beside.html",
            (true, false, false) => "control/wall.html",
            (false, ..) => "control/dashboard.html",
        };
        let more = context! {
            app_port => self.view.server.addr().port(),
            query => self.guard.query(),
            tour => asks_for_the_tour(request),
            step => step_asked(request),
            page => if is_wall { "wall" } else { "dashboard" },
            threads => self.steering.threads_at_the_start(),
            own_fix => self.view.beside.own_fix(),
            beside,
            framed_by,
        };
        let framers = framed_by.map(framers_at).unwrap_or_default();
        self.pages.show(name, self.guard.page_token(), frames, framers, more)
    }

    /// The addresses of the app that a frame may show, with loopback names only.
    fn hosts_of_tabs(&self) -> Vec<String> {
        let port = self.view.server.addr().port();
        ["*.localhost", "localhost", "127.0.0.1"].map(|host| format!("http://{host}:{port}")).into()
    }
}

/// The addresses of a control server at this port of this machine. A policy cannot name an IPv6 address.
fn framers_at(port: u16) -> Vec<String> {
    ["127.0.0.1", "localhost", "*.localhost"].map(|host| format!("http://{host}:{port}")).into()
}

/// Whether the address of the wall has `tour=1` or a `step`. Without them the page leaves the tour out.
fn asks_for_the_tour(request: &Request) -> bool {
    request.param("step").is_some() || request.param("tour").as_deref() == Some("1")
}

/// The step of the tour that the page contains; the others are loaded when they are opened.
fn step_asked(request: &Request) -> usize {
    request.param("step").and_then(|number| number.parse().ok()).unwrap_or(1).clamp(1, STEPS)
}

/// The step whose script has this path.
fn step_of(path: &str) -> Option<usize> {
    (1..=STEPS).find(|step| path == format!("/tour/{step}.js"))
}

/// An exclusive right, released when dropped.
struct OnlyOne<'a>(&'a AtomicBool);

impl OnlyOne<'_> {
    fn take(is_taken: &AtomicBool) -> Option<OnlyOne<'_>> {
        (!is_taken.swap(true, Ordering::AcqRel)).then_some(OnlyOne(is_taken))
    }
}

impl Drop for OnlyOne<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// The paths of pages.
const PAGES: &[&str] = &["/", WALL];
const WALL: &str = "/wall";

/// The content type of most answers.
const JSON: &str = "application/json";

fn refuse(wrong: Wrong) -> Response {
    let refusal = Response::line(wrong.status, &wrong.text);
    match wrong.allow {
        Some(methods) => refusal.with_header("allow", methods),
        None => refusal,
    }
}

/// Writes an excerpt as one line of JSON, one moment at a time.
fn write_excerpt(to: &mut dyn Write, excerpt: &Excerpt) -> io::Result<()> {
    let Excerpt { now_us, forgotten, moments, snapshot } = excerpt;
    write!(to, r#"{{"now_us":{now_us},"forgotten":{forgotten},"moments":["#)?;
    for (number, moment) in moments.iter().enumerate() {
        let line = serde_json::to_string(moment)?;
        let comma = if number == 0 { "" } else { "," };
        write!(to, "{comma}{}", escape::json(&line))?;
    }
    to.write_all(b"]")?;
    if let Some(snapshot) = snapshot {
        let line = serde_json::to_string(snapshot)?;
        write!(to, r#","snapshot":{}"#, escape::json(&line))?;
    }
    to.write_all(b"}")
}

fn unsupported() -> Response {
    Response::line(StatusCode::NOT_FOUND, "Unsupported action")
}

fn unavailable(name: &str) -> Response {
    Response::new(StatusCode::NOT_FOUND, JSON, format!(r#"{{ "error": "{name} not available" }}"#))
}

fn one_line(value: &impl Serialize) -> Response {
    match serde_json::to_string(value) {
        Ok(line) => Response::new(StatusCode::OK, JSON, escape::json(&line).into_owned()),
        Err(error) => {
            limited!(Error, "control server: {error}");
            Response::status(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ninetabs_server::timeline::{Snapshot, Timeline, What};

    #[test]
    fn a_timeline_that_is_written_piece_by_piece_is_the_same_json() {
        let timeline = Timeline::default();
        for count in 0..3 {
            let mut excerpt = timeline.after(0);
            excerpt.snapshot = (count == 2).then(Snapshot::default);
            let mut written = Vec::new();
            write_excerpt(&mut written, &excerpt).unwrap();
            let whole = serde_json::to_string(&excerpt).unwrap();
            assert_eq!(String::from_utf8(written).unwrap(), escape::json(&whole), "{count}");
            timeline.record(None, None, What::accepted("GET", "/\u{202e}\"\n"));
        }
    }
}
