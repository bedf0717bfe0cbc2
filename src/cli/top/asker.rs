//! Asks the control server, on a thread of its own: an answer that does not come
//! leaves the keyboard alone.
//!
//! Of ours it wants stats and timeline, of Puma its stats. Each of them is waited for
//! no longer than [`PATIENCE`].

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

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a server said when it was asked.
#[derive(Debug)]
pub struct Answers {
    pub url: ControlUrl,
    /// It is the first time, or it is not the server that it was.
    pub anew: bool,
    pub stats: StatsAnswer,
    /// What has happened inside since the last time; Puma does not tell.
    pub inside: Option<Excerpt>,
}

/// Why there are no answers.
#[derive(Debug, Error)]
pub enum AskerError {
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error("{url}: its answer to {order} is not understood: {why}; does a control server listen there?")]
    NotUnderstood { url: ControlUrl, order: &'static str, why: serde_json::Error },
    #[error("{url}: its stats have no number of Puma's; does a control server listen there?")]
    NoPuma { url: ControlUrl },
}

/// Asks, and remembers how far it has heard.
#[derive(Debug)]
pub struct Asker {
    args: ControlServerArgs,
    heard: Heard,
}

#[derive(Debug, Default)]
struct Heard {
    started_at: Option<String>,
    /// Of the timeline.
    now_us: u64,
    last_seq: u64,
}

impl Asker {
    pub fn new(args: ControlServerArgs) -> Asker {
        Asker { args, heard: Heard::default() }
    }

    /// Asks for everything once. Blocks for three times [`PATIENCE`] at most.
    pub fn ask(&mut self) -> Result<Answers, AskerError> {
        // A server that was told port 0 is elsewhere when it comes back: its state file says where.
        let server = self.args.find()?;
        let url = server.url.clone();
        let get = |order, parameters| server.ask("GET", order, parameters, PATIENCE);
        let stats: StatsAnswer = understood(&url, "stats", &get("stats", vec![])?)?;
        if !stats.are_a_pumas() {
            return Err(AskerError::NoPuma { url });
        }
        let known = self.heard.started_at.as_ref() == Some(&stats.started_at);
        if stats.versions.ninetabs.is_none() {
            self.heard = Heard { started_at: Some(stats.started_at.clone()), ..Heard::default() };
            return Ok(Answers { url, anew: !known, stats, inside: None });
        }
        let timeline = |after: u64| -> Result<Excerpt, AskerError> {
            understood(&url, "timeline", &get("timeline", vec![format!("after={after}")])?)
        };
        let mut excerpt = timeline(if known { self.heard.last_seq } else { 0 })?;
        // Within a second of each other two servers have the same `started_at`.
        let anew = !known || excerpt.now_us < self.heard.now_us;
        if known && anew {
            excerpt = timeline(0)?;
        }
        let last = excerpt.snapshot.as_ref().map(|snapshot| snapshot.seq);
        let last = last.or_else(|| excerpt.moments.last().map(|moment| moment.seq));
        self.heard = Heard {
            started_at: Some(stats.started_at.clone()),
            now_us: excerpt.now_us,
            last_seq: last.unwrap_or(if anew { 0 } else { self.heard.last_seq }),
        };
        Ok(Answers { url, anew, stats, inside: Some(excerpt) })
    }

    /// Asks again and again on a thread of its own, which ends with the receiver.
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
