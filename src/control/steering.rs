//! The orders that change how the server runs: each is carried out completely, or changes nothing.
//!
//! Orders that change the number of threads, or that wait for the lab's clients, may take long: connections to
//! the database are opened, and threads of tabs are joined. They run on threads of their own (see
//! [`super::aside`]), those of the first kind one at a time.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::StatusCode;
use serde::Serialize;
use serde_json::json;

use super::laboratory::{LabClient, ShownTab};
use super::one_line;
use super::orders::{Deed, Given};
use super::sizing::{Growth, Sizing};
use super::view::View;
use ninetabs_server::Response;
use ninetabs_server::thread_pool::PoolSize;
use ninetabs_server::timeline::{Held, What};

/// The settings that a reset restores.
struct Start {
    size: PoolSize,
    max_stream_age: Option<Duration>,
}

/// The parts of the server that orders change.
pub(super) struct Steering {
    view: View,
    start: Start,
    sizing: Sizing,
    /// Held while the current size is read and changed.
    sizes: Mutex<()>,
}

impl Steering {
    pub fn new(view: View, growth: Option<Growth>) -> Self {
        let start = Start { size: view.server.size(), max_stream_age: view.live.max_age() };
        let sizing = Sizing::new(&view, growth);
        Steering { view, start, sizing, sizes: Mutex::default() }
    }

    /// The maximum number of threads at the start.
    pub fn threads_at_the_start(&self) -> usize {
        self.start.size.max()
    }

    /// Carries out an order, or answers 422 with a sentence that names the parameter.
    pub fn obey(&self, deed: Deed, given: &Given) -> Response {
        let number = |name| given.number(name).and_then(|number| usize::try_from(number).ok());
        // The table of orders has already checked the bounds of the tab's number.
        let tab = || number("tab").and_then(|tab| u32::try_from(tab).ok());
        let laboratory = &self.view.laboratory;
        let mut opened = None;
        let done = match deed {
            Deed::Reap => {
                let at_least = given.seconds("older-than").unwrap_or_default();
                told(Ok::<_, String>(json!({ "reaped": self.view.live.reap(at_least) })))
            }
            Deed::MaxStreamAge => {
                self.view.live.set_max_age(given.seconds("secs"));
                told(Ok::<_, String>(json!({ "max_stream_age_s": self.max_age_s() })))
            }
            Deed::Resize => self.resize(number("min"), number("max")),
            Deed::SetThreads => self.set_threads(number("count").unwrap_or_default()),
            Deed::SetDatabase => self.set_database(number("size").unwrap_or_default()),
            Deed::Reset => self.reset(),
            Deed::OpenTab => {
                let tab = laboratory.open_tab(tab());
                opened = tab.as_ref().ok().map(ShownTab::number);
                told(tab)
            }
            Deed::CloseTab => {
                let closed = laboratory.close_tab(tab().unwrap_or_default(), |clients| self.closes(clients));
                told(closed.map(|tab| json!({ "closed": tab })))
            }
            Deed::Zombies => {
                let zombies = laboratory.leave_zombies(number("count").unwrap_or(1));
                told(zombies.map(|zombies| json!({ "zombies": zombies })))
            }
            Deed::Page => told(laboratory.ask_for_page()),
            Deed::Frames => {
                let waiting = number("waiting").unwrap_or_default();
                self.view.watcher().frames_wait(waiting);
                told(Ok::<_, String>(json!({ "waiting": waiting })))
            }
            Deed::Latency => told(self.view.latency.measure().map(|waits| json!({ "waits": waits }))),
            Deed::Beside => told(self.view.beside.start(given.name("fix").unwrap_or_default())),
            Deed::FramedBy => {
                let port = number("port").and_then(|port| u16::try_from(port).ok()).unwrap_or_default();
                self.view.beside.show_in_frames_of(port);
                told(Ok::<_, String>(json!({ "port": port })))
            }
        };
        if let Some(label) = label(deed, given, opened).filter(|_| done.is_ok()) {
            self.view.ordered(label);
        }
        done.unwrap_or_else(|wrong| Response::line(StatusCode::UNPROCESSABLE_ENTITY, &wrong))
    }

    /// Records that these clients of the lab close now. Clients without a request are left out.
    fn closes(&self, clients: &[LabClient]) {
        if clients.is_empty() {
            return;
        }
        // An unread request in the queue has a target only after the server has looked at it.
        self.view.server.look_at_todo();
        let snapshot = self.view.timeline.snapshot();
        let on_threads = || snapshot.threads.values().filter_map(|thread| thread.holds.as_deref());
        for LabClient { target, local_port } in clients {
            let is_its = |held: &&Held| {
                held.subject.port == *local_port && held.target.as_deref() == Some(target.as_str())
            };
            if let Some(held) = on_threads().chain(snapshot.todo.iter().map(|held| &**held)).find(is_its) {
                self.view.timeline.record(None, Some(held.subject), What::ClientClosed);
            }
        }
    }

    fn resize(&self, new_min: Option<usize>, new_max: Option<usize>) -> Result<Response, String> {
        let _alone = self.alone();
        let size = self.view.server.size();
        let (min, max) = (size.min(), size.max());
        let (wanted_min, wanted_max) = (new_min.unwrap_or(min), new_max.unwrap_or(max));
        if wanted_min > wanted_max {
            return Err(match (new_min, new_max) {
                (Some(min), Some(max)) => {
                    format!("min: {min} is more than max, {max}; give a minimum of {max} or less")
                }
                (Some(new), None) => format!(
                    "min: {new} is more than the maximum, which is {max}; give a minimum of {max} or less, or max={new} as well"
                ),
                _ => format!(
                    "max: {wanted_max} is less than the minimum, which is {min}; give a maximum of {min} or more, or min as well"
                ),
            });
        }
        self.set_size(wanted_min, wanted_max)
    }

    fn set_size(&self, min: usize, max: usize) -> Result<Response, String> {
        let size = PoolSize::new(min, max).map_err(|error| error.to_string())?;
        self.sizing.set(&self.view, size).map_err(|error| error.to_string())?;
        let size = self.view.server.size();
        Ok(one_line(&json!({ "min": size.min(), "max": size.max() })))
    }

    /// Sets both the minimum and the maximum to `count`. Excess threads end as soon as they are idle; Puma's own resize
    /// leaves this to the trim.
    fn set_threads(&self, count: usize) -> Result<Response, String> {
        let _alone = self.alone();
        let answer = self.set_size(count, count)?;
        self.view.server.fill();
        self.trim();
        Ok(answer)
    }

    fn set_database(&self, size: usize) -> Result<Response, String> {
        let _alone = self.alone();
        self.sizing.set_database(&self.view, size).map_err(|error| error.to_string())?;
        Ok(one_line(&json!({ "size": self.view.database.wanted() })))
    }

    fn trim(&self) {
        for _ in self.view.server.size().min()..self.view.server.threads().len() {
            self.view.server.trim();
        }
    }

    /// Closes what the lab has open, and restores threads, database connections and maximum age to their
    /// values at the start, or changes nothing.
    fn reset(&self) -> Result<Response, String> {
        let Start { size, max_stream_age } = self.start;
        let sized = {
            let _alone = self.alone();
            self.sizing.restore(&self.view, size)
        };
        sized.map_err(|error| error.to_string())?;
        self.view.beside.end("it was reset");
        self.view.laboratory.close_all(|clients| self.closes(clients));
        self.view.live.set_max_age(max_stream_age);
        self.view.server.fill();
        self.trim();
        Ok(one_line(&json!({ "min": size.min(), "max": size.max(), "max_stream_age_s": self.max_age_s() })))
    }

    fn max_age_s(&self) -> Option<f64> {
        self.view.live.max_age().map(|age| age.as_secs_f64())
    }

    fn alone(&self) -> MutexGuard<'_, ()> {
        // The lock guards nothing that a panic could leave inconsistent.
        self.sizes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The text of an order that was carried out, for the record. `opened` is the tab that it has opened.
fn label(deed: Deed, given: &Given, opened: Option<u32>) -> Option<String> {
    let number = |name| given.number(name).unwrap_or(1);
    Some(match deed {
        Deed::Reap => "reap".to_owned(),
        Deed::MaxStreamAge => match given.seconds("secs") {
            Some(age) => format!("max age {} s", age.as_secs_f64()),
            None => "max age off".to_owned(),
        },
        Deed::Resize => match (given.number("min"), given.number("max")) {
            (_, Some(max)) => format!("at most {max} threads"),
            (Some(min), None) => format!("at least {min} threads"),
            (None, None) => return None,
        },
        Deed::SetThreads => format!("{} threads", number("count")),
        Deed::SetDatabase => format!("{} database connections", number("size")),
        Deed::Reset => "reset".to_owned(),
        Deed::CloseTab => format!("closed tab {}", number("tab")),
        Deed::Zombies if number("count") == 1 => "a zombie".to_owned(),
        Deed::Zombies => format!("{} zombies", number("count")),
        Deed::Page => "requested a page".to_owned(),
        Deed::OpenTab => format!("opened tab {}", opened?),
        Deed::Beside => format!("second server: {}", given.name("fix").unwrap_or_default()),
        // A wall's report about its frames and a measurement of the latency change nothing, so the record does not have
        // them.
        Deed::Frames | Deed::FramedBy | Deed::Latency => return None,
    })
}

/// The answer for the result of an order.
fn told<T: Serialize, E: ToString>(done: Result<T, E>) -> Result<Response, String> {
    done.map(|value| one_line(&value)).map_err(|error| error.to_string())
}
