//! The control server: the numbers, and the few orders that a server takes.
//!
//! As in Puma it is a second server, with an address and threads of its own, so
//! that it answers while every thread of the first is held. Its answers are one
//! line of JSON and close the connection, but for its own pages ([`Pages`]) and the
//! events that they listen to. pumactl's commands are Puma's, by any
//! method; what is ours is looked at with `GET` and changed with `POST`. `/stats`
//! has the names and meanings of Puma 8, then ours; docs/puma.md says what each
//! counts.

mod command;
mod guard;
mod laboratory;
mod pages;
mod sizing;
mod stats;
mod token;
mod view;
mod viewers;

use std::time::Duration;

use crossbeam_channel::Sender;
use minijinja::context;
use serde::Serialize;
use serde_json::json;

use crate::escape;
use crate::log_limit::limited;
use crate::puma::{Request, Response};

use command::Command;
use guard::Asks;
use laboratory::MAX_ZOMBIES;
use sizing::Sizing;
use viewers::Viewers;

pub use guard::Guard;
pub use pages::Pages;
pub use sizing::Growth;
pub use token::{SAFE as SAFE_TOKEN, SHORTEST as SHORTEST_TOKEN, Token};
pub use view::View;

/// Threads of the control server: one reader that stops must not stop the others.
pub const THREADS: (usize, usize) = (1, 4);

/// How the whole process is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Models Puma::Launcher#stop: what is being served is served to its end.
    Gracefully,
    /// Models Puma::Launcher#halt: answers are cut where they are.
    AtOnce,
}

/// What it shows and steers.
pub struct Control {
    guard: Guard,
    pages: Pages,
    view: View,
    viewers: Viewers,
    start: Start,
    stops: Sender<Stop>,
    sizing: Sizing,
}

/// What a reset restores.
struct Start {
    min: usize,
    max: usize,
    max_stream_age: Option<Duration>,
}

impl Control {
    /// Whoever holds the other end of `stops` must take what comes until the
    /// process ends: each order waits until it is taken.
    pub fn new(guard: Guard, pages: Pages, view: View, stops: Sender<Stop>, growth: Option<Growth>) -> Self {
        let (min, max) = view.server.size();
        let start = Start { min, max, max_stream_age: view.live.max_age() };
        let viewers = Viewers::new(view.clone());
        let sizing = Sizing::new(&view, growth);
        Control { guard, pages, view, viewers, start, stops, sizing }
    }

    /// Answers one request.
    pub fn call(&self, request: &Request) -> Response {
        let (method, path) = (&*request.method, request.path());
        let command = Command::of(path);
        let asks = match (command, method) {
            (Some(command), _) => command.asks(),
            (None, "GET" | "HEAD") if PAGES.contains(&path) => Asks::ForPage,
            (None, "GET" | "HEAD") => Asks::ToLook,
            (None, _) => Asks::ToChange,
        };
        let answer = match (self.guard.check(request, asks), command, method) {
            (Err(refusal), _, _) => refusal,
            (Ok(()), Some(command), _) => self.obey(command),
            (Ok(()), None, "GET" | "HEAD") => self.look(request, path),
            (Ok(()), None, "POST") => self.order(request, path),
            (Ok(()), None, _) => unsupported(),
        };
        answer.with_default_headers().with_header("connection", "close")
    }

    /// Models Puma::App::Status#call.
    fn obey(&self, command: Command) -> Response {
        match command {
            Command::Stats => one_line(&self.view.stats()),
            Command::ThreadBacktraces => one_line(&stats::thread_backtraces(&self.view.server)),
            Command::Stop => self.stop(Stop::Gracefully),
            Command::Halt => self.stop(Stop::AtOnce),
            Command::Unavailable(name) => unavailable(name),
        }
    }

    /// Answers once the order was taken, which is not when it was carried out.
    fn stop(&self, how: Stop) -> Response {
        match self.stops.send(how) {
            Ok(()) => Response::new(200, "application/json", r#"{ "status": "ok" }"#),
            Err(_) => unavailable("stop"),
        }
    }

    fn look(&self, request: &Request, path: &str) -> Response {
        match path {
            "/" => self.page("control/dashboard.html", Vec::new()),
            "/wall" => self.page("control/wall.html", self.hosts_of_tabs()),
            "/events" => self.viewers.admit(request),
            "/lab" => one_line(&self.view.laboratory.show()),
            "/threads" => one_line(&self.view.threads()),
            "/timeline" => {
                self.view.server.look_at_todo();
                let after = request.param("after").map_or(Ok(0), |seq| seq.parse());
                after.map_or_else(
                    |_| Response::line(422, "after: the number of a moment is wanted"),
                    |seq| one_line(&self.view.timeline.after(seq)),
                )
            }
            _ => unsupported(),
        }
    }

    fn order(&self, request: &Request, path: &str) -> Response {
        let done = match path {
            "/reap" => self.reap(request),
            "/resize" => self.resize(request),
            "/max-stream-age" => self.set_max_stream_age(request),
            "/lab/tabs/open" => told(self.view.laboratory.open_tab(request.param("tab").as_deref())),
            "/lab/tabs/close" => told(
                self.view
                    .laboratory
                    .close_tab(request.param("tab").as_deref())
                    .map(|tab| json!({ "closed": tab })),
            ),
            "/lab/zombies" => self.leave_zombies(request),
            "/lab/page" => told(self.view.laboratory.ask_for_page()),
            "/lab/threads" => self.set_threads(request),
            "/lab/reset" => self.reset(),
            _ => return unsupported(),
        };
        done.unwrap_or_else(|wrong| Response::line(422, &wrong))
    }

    fn reap(&self, request: &Request) -> Result<Response, String> {
        let at_least = match request.param("older-than") {
            Some(text) => seconds("older-than", &text)?,
            None => Duration::ZERO,
        };
        Ok(one_line(&json!({ "reaped": self.view.live.reap(at_least) })))
    }

    fn resize(&self, request: &Request) -> Result<Response, String> {
        let (min, max) = self.view.server.size();
        let (min, max) = (threads(request, "min")?.unwrap_or(min), threads(request, "max")?.unwrap_or(max));
        self.set_size(min, max)
    }

    fn set_size(&self, min: usize, max: usize) -> Result<Response, String> {
        self.sizing.set(&self.view, min, max).map_err(|error| error.to_string())?;
        let (min, max) = self.view.server.size();
        Ok(one_line(&json!({ "min": min, "max": max })))
    }

    /// As many threads, least and most; those beyond leave as soon as they are idle, which
    /// Puma's own resize leaves to the trim.
    fn set_threads(&self, request: &Request) -> Result<Response, String> {
        let count = threads(request, "count")?.ok_or("count: a number of threads is wanted")?;
        let answer = self.set_size(count, count)?;
        self.view.server.fill();
        self.trim();
        Ok(answer)
    }

    fn trim(&self) {
        let (min, _) = self.view.server.size();
        for _ in min..self.view.server.threads().len() {
            self.view.server.trim();
        }
    }

    fn leave_zombies(&self, request: &Request) -> Result<Response, String> {
        let count = match request.param("count") {
            None => 1,
            Some(text) => {
                text.parse().ok().filter(|count| (1..=MAX_ZOMBIES).contains(count)).ok_or_else(|| {
                    format!("count: a number from 1 to {MAX_ZOMBIES} is wanted, not {text:?}")
                })?
            }
        };
        told(self.view.laboratory.leave_zombies(count).map(|zombies| json!({ "zombies": zombies })))
    }

    /// Closes what the lab has open, and restores threads, database connections and maximum age to
    /// the start's; or does nothing.
    fn reset(&self) -> Result<Response, String> {
        let Start { min, max, max_stream_age } = self.start;
        self.sizing.restore(&self.view, min, max).map_err(|error| error.to_string())?;
        self.view.laboratory.close_all();
        self.view.live.set_max_age(max_stream_age);
        self.view.server.fill();
        self.trim();
        let max_stream_age_s = max_stream_age.map(|age| age.as_secs_f64());
        Ok(one_line(&json!({ "min": min, "max": max, "max_stream_age_s": max_stream_age_s })))
    }

    fn page(&self, name: &str, frames: Vec<String>) -> Response {
        let more = context! {
            app_port => self.view.server.address().port(),
            query => self.guard.query(),
            threads => self.start.max,
        };
        self.pages.show(name, self.guard.page_token(), frames, more)
    }

    /// The app under the names that a frame may have it by, all of them loopback's.
    fn hosts_of_tabs(&self) -> Vec<String> {
        let port = self.view.server.address().port();
        ["*.localhost", "localhost", "127.0.0.1"].map(|host| format!("http://{host}:{port}")).into()
    }

    fn set_max_stream_age(&self, request: &Request) -> Result<Response, String> {
        let age = match request.param("secs").as_deref() {
            None => return Err("secs: a number of seconds, or off, is wanted".into()),
            Some("off") => None,
            Some(text) => Some(seconds("secs", text)?).filter(|age| !age.is_zero()),
        };
        if age.is_none() && request.param("secs").as_deref() != Some("off") {
            return Err("secs: must be more than 0; off lets streams grow as old as they like".into());
        }
        self.view.live.set_max_age(age);
        Ok(one_line(&json!({ "max_stream_age_s": self.view.live.max_age().map(|age| age.as_secs_f64()) })))
    }
}

/// The paths of pages.
const PAGES: &[&str] = &["/", "/wall"];

/// The most threads that an order may ask for.
const MAX_THREADS: usize = 10_000;

fn threads(request: &Request, name: &str) -> Result<Option<usize>, String> {
    let Some(text) = request.param(name) else { return Ok(None) };
    match text.parse() {
        Ok(count) if count <= MAX_THREADS => Ok(Some(count)),
        _ => Err(format!("{name}: a number of threads from 0 to {MAX_THREADS} is wanted, not {text:?}")),
    }
}

fn seconds(name: &str, text: &str) -> Result<Duration, String> {
    let secs: Option<f64> = text.parse().ok();
    secs.and_then(|secs| Duration::try_from_secs_f64(secs).ok())
        .ok_or_else(|| format!("{name}: a number of seconds is wanted, not {text:?}"))
}

/// What an order to the lab came to.
fn told<T: Serialize, E: ToString>(done: Result<T, E>) -> Result<Response, String> {
    done.map(|value| one_line(&value)).map_err(|error| error.to_string())
}

fn unsupported() -> Response {
    Response::line(404, "Unsupported action")
}

fn unavailable(name: &str) -> Response {
    Response::new(404, "application/json", format!(r#"{{ "error": "{name} not available" }}"#))
}

fn one_line(value: &impl Serialize) -> Response {
    match serde_json::to_string(value) {
        Ok(line) => Response::new(200, "application/json", escape::json(&line).into_owned()),
        Err(error) => {
            limited!(Error, "control server: {error}");
            Response::status(500)
        }
    }
}
