//! The control server: the numbers, and the few orders that a server takes.
//!
//! As in Puma it is a second server, with an address and threads of its own, so
//! that it answers while every thread of the first is held. Its answers are one
//! line of JSON and close the connection. `/stats` has the names and meanings of
//! Puma 8, then ours; docs/puma.md says what each counts.

mod guard;
mod stats;

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::json;

use crate::app::database::Database;
use crate::app::host_authorization::HostAuthorization;
use crate::live::Live;
use crate::puma::{Request, Response, Server};
use crate::timeline::Timeline;

use guard::{Asks, Guard};

/// Threads of the control server: one reader that stops must not stop the others.
pub const THREADS: (usize, usize) = (1, 4);

/// What it shows and steers.
pub struct Control {
    guard: Guard,
    server: Arc<Server>,
    live: Arc<Live>,
    database: Arc<Database>,
    timeline: Arc<Timeline>,
    /// How many connections the database pool has beyond the pool's threads when it grows
    /// with them; None where its size is fixed.
    grow_database: Option<usize>,
}

impl Control {
    pub fn new(
        hosts: HostAuthorization,
        token: Option<String>,
        server: Arc<Server>,
        live: Arc<Live>,
        database: Arc<Database>,
        timeline: Arc<Timeline>,
        grow_database: Option<usize>,
    ) -> Self {
        Control { guard: Guard::new(hosts, token), server, live, database, timeline, grow_database }
    }

    /// Answers one request.
    pub fn call(&self, request: &Request) -> Response {
        let answer = match (request.method.as_str(), request.path()) {
            ("GET" | "HEAD", path) => self.look(request, path),
            ("POST", path) => self.order(request, path),
            _ => Response::status(404),
        };
        answer.with_header("connection", "close")
    }

    fn look(&self, request: &Request, path: &str) -> Response {
        if let Err(refusal) = self.guard.check(request, Asks::ToLook) {
            return refusal;
        }
        match path {
            "/stats" => one_line(&stats::stats(&self.server, &self.live, &self.database)),
            "/threads" => one_line(&stats::threads(&self.server)),
            "/timeline" => {
                let after = request.param("after").map_or(Ok(0), |seq| seq.parse());
                after.map_or_else(
                    |_| Response::line(422, "after: the number of a moment is wanted"),
                    |seq| one_line(&self.timeline.after(seq)),
                )
            }
            _ => Response::line(404, "Unsupported action"),
        }
    }

    fn order(&self, request: &Request, path: &str) -> Response {
        if let Err(refusal) = self.guard.check(request, Asks::ToChange) {
            return refusal;
        }
        let done = match path {
            "/reap" => self.reap(request),
            "/resize" => self.resize(request),
            "/max-stream-age" => self.set_max_stream_age(request),
            _ => return Response::line(404, "Unsupported action"),
        };
        done.unwrap_or_else(|wrong| Response::line(422, &wrong))
    }

    fn reap(&self, request: &Request) -> Result<Response, String> {
        let at_least = match request.param("older-than") {
            Some(text) => seconds("older-than", &text)?,
            None => Duration::ZERO,
        };
        Ok(one_line(&json!({ "reaped": self.live.reap(at_least) })))
    }

    fn resize(&self, request: &Request) -> Result<Response, String> {
        let (min, max) = self.server.size();
        let (min, max) = (threads(request, "min")?.unwrap_or(min), threads(request, "max")?.unwrap_or(max));
        // Connections first: a thread without one would fail at its first query.
        if let Some(beyond) = self.grow_database.filter(|_| min <= max) {
            self.database
                .grow_to(max + beyond)
                .map_err(|error| format!("the database pool cannot grow: {error}"))?;
        }
        self.server.resize(min, max).map_err(|error| error.to_string())?;
        let (min, max) = self.server.size();
        Ok(one_line(&json!({ "min": min, "max": max })))
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
        self.live.set_max_age(age);
        Ok(one_line(&json!({ "max_stream_age_s": self.live.max_age().map(|age| age.as_secs_f64()) })))
    }
}

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

fn one_line(value: &impl Serialize) -> Response {
    match serde_json::to_string(value) {
        Ok(line) => Response::new(200, "application/json", line),
        Err(error) => {
            log::error!("control server: {error}");
            Response::status(500)
        }
    }
}
