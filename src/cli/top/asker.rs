//! Queries the control server on a separate thread, so that keys work while no answer arrives.
//!
//! It reads `/stats` and `/timeline` of a ninetabs, and `/stats` of a Puma. Each request takes at most [`PATIENCE`].

use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::numbers::StatsAnswer;
use crate::cli::control_client::ControlUrl;
use crate::cli::control_server::{ControlError, ControlServerArgs};
use ninetabs_server::threads::{self, SpawnError};
use ninetabs_server::timeline::Excerpt;

/// The maximum time for one answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The answers of a server.
#[derive(Debug)]
pub struct Answers {
    pub url: ControlUrl,
    /// Whether these are the first answers of this server.
    pub anew: bool,
    pub stats: StatsAnswer,
    /// The events since the last answers. A Puma has none.
    pub inside: Option<Excerpt>,
}

/// Why the server's answers cannot be shown.
#[derive(Debug, Error)]
pub enum AskerError {
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error("{url}: cannot parse its answer to {order}: {why}; it is probably not a control server")]
    NotUnderstood { url: ControlUrl, order: &'static str, why: serde_json::Error },
    #[error("{url}: its stats have none of Puma's numbers, so it is probably not a control server")]
    NoPuma { url: ControlUrl },
}

/// Sends the requests, and remembers the last event that it received.
#[derive(Debug)]
pub struct Asker {
    args: ControlServerArgs,
    heard: LastHeard,
}

#[derive(Debug, Default)]
struct LastHeard {
    started_at: Option<String>,
    /// The time of the last answer, on the timeline's clock.
    now_us: u64,
    last_seq: u64,
}

impl Asker {
    pub fn new(args: ControlServerArgs) -> Asker {
        Asker { args, heard: LastHeard::default() }
    }

    /// Requests everything once. Blocks for at most three times [`PATIENCE`].
    pub fn ask(&mut self) -> Result<Answers, AskerError> {
        // A server with port 0 may listen on another port after a restart. Its state file has the new port.
        let server = self.args.find()?;
        let url = server.url.clone();
        let get = |order, parameters| server.ask("GET", order, parameters, PATIENCE);
        let stats: StatsAnswer = understood(&url, "stats", &get("stats", vec![])?)?;
        if !stats.are_a_pumas() {
            return Err(AskerError::NoPuma { url });
        }
        let known = self.heard.started_at.as_ref() == Some(&stats.started_at);
        if stats.versions.ninetabs.is_none() {
            self.heard = LastHeard { started_at: Some(stats.started_at.clone()), ..LastHeard::default() };
            return Ok(Answers { url, anew: !known, stats, inside: None });
        }
        let timeline = |after: u64| -> Result<Excerpt, AskerError> {
            understood(&url, "timeline", &get("timeline", vec![format!("after={after}")])?)
        };
        let mut excerpt = timeline(if known { self.heard.last_seq } else { 0 })?;
        // Two servers that start within the same second have the same `started_at`.
        let anew = !known || excerpt.now_us < self.heard.now_us;
        if known && anew {
            excerpt = timeline(0)?;
        }
        let last = excerpt.snapshot.as_ref().map(|snapshot| snapshot.seq);
        let last = last.or_else(|| excerpt.moments.last().map(|moment| moment.seq));
        self.heard = LastHeard {
            started_at: Some(stats.started_at.clone()),
            now_us: excerpt.now_us,
            last_seq: last.unwrap_or(if anew { 0 } else { self.heard.last_seq }),
        };
        Ok(Answers { url, anew, stats, inside: Some(excerpt) })
    }

    /// Sends the requests repeatedly on a separate thread, which ends when the receiver is dropped.
    pub fn go_on(mut self, every: Duration) -> Result<Receiver<Result<Answers, AskerError>>, SpawnError> {
        let (tell, told): (Sender<_>, _) = bounded(1);
        threads::spawn("asker", move || {
            loop {
                thread::sleep(every);
                if tell.send(self.ask()).is_err() {
                    return;
                }
            }
        })?;
        Ok(told)
    }
}

fn understood<T: DeserializeOwned>(
    url: &ControlUrl,
    order: &'static str,
    said: &str,
) -> Result<T, AskerError> {
    let not_understood = |why| AskerError::NotUnderstood { url: url.clone(), order, why };
    serde_json::from_str(said).map_err(not_understood)
}
