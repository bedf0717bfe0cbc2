//! The lab's clients as the control server shows them, and how their requests are recognized.

use serde::Serialize;

use crate::lab::tab::{ReadyState, Tab, Waiting};
use crate::lab::zombies::Zombie;

/// A client with an open connection. Its target and its port together identify its request.
#[derive(Debug, PartialEq, Eq)]
pub struct LabClient {
    pub target: String,
    pub local_port: u16,
}

/// The open clients, as `GET /lab` shows them.
#[derive(Serialize)]
pub struct LabShown {
    pub tabs: Vec<ShownTab>,
    pub zombies: Vec<ShownZombie>,
    pub pages: Vec<ShownPage>,
}

#[derive(Serialize)]
pub struct ShownTab {
    tab: u32,
    /// The target of its requests. With `local_port` it identifies them on the timeline.
    target: String,
    /// `connecting`, `open`, `reconnecting` or `closed`.
    state: &'static str,
    /// The port of the newest connection.
    local_port: Option<u16>,
    events: u64,
    /// Why it failed permanently.
    failed: Option<String>,
}

impl ShownTab {
    pub fn number(&self) -> u32 {
        self.tab
    }
}

#[derive(Serialize)]
pub struct ShownZombie {
    pub zombie: usize,
    pub target: String,
    pub local_port: u16,
}

#[derive(Serialize)]
pub struct ShownPage {
    pub page: usize,
    pub target: String,
    pub local_port: u16,
    /// Its status; null while it waits.
    pub answered: Option<u16>,
    pub failed: Option<String>,
}

pub fn tab_target(number: u32) -> String {
    format!("/models/live_stream?tab={number}")
}

pub fn zombie_target(number: usize) -> String {
    format!("/models/live_stream?tab=zombie-{number}")
}

/// `None` for a tab that has not connected yet.
pub fn client_of_tab(number: u32, tab: &Tab) -> Option<LabClient> {
    Some(LabClient { target: tab_target(number), local_port: tab.local_port()? })
}

pub fn client_of_zombie(number: usize, zombie: &Zombie) -> LabClient {
    LabClient { target: zombie_target(number), local_port: zombie.local_port() }
}

pub fn show_zombie(number: usize, zombie: &Zombie) -> ShownZombie {
    ShownZombie { zombie: number, target: zombie_target(number), local_port: zombie.local_port() }
}

pub fn show_tab(number: u32, tab: &Tab) -> ShownTab {
    let progress = tab.progress();
    let state = match (progress.ready_state, progress.waiting) {
        (ReadyState::Open, _) => "open",
        (ReadyState::Closed, _) => "closed",
        (ReadyState::Connecting, Waiting::ToReconnect) => "reconnecting",
        (ReadyState::Connecting, _) => "connecting",
    };
    ShownTab {
        tab: number,
        target: tab_target(number),
        state,
        local_port: progress.local_port,
        events: progress.events,
        failed: progress.failed.map(|reason| reason.to_string()),
    }
}
