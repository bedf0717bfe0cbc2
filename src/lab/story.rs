//! The story of one request, and its name.

use crate::words;
use ninetabs_server::escape::is_printable;
use ninetabs_server::timeline::{FailedWrite, Held, Subject};

/// What is known about one request. Times are in microseconds on the server's clock.
#[derive(Debug, Clone, Default)]
pub struct Story {
    pub request: u64,
    pub connection: u64,
    /// The client's port.
    pub port: u16,
    /// Empty until the request has been read or peeked at.
    pub target: String,
    /// When it was queued: the last time, if it was set aside until it had arrived completely.
    pub queued_us: u64,
    /// When it left the queue, and the number of the thread that took it.
    pub started: Option<(u64, usize)>,
    pub is_stream: bool,
    /// When each write went out.
    pub writes_us: Vec<u64>,
    /// The start and the end of each blocked write.
    pub blocked_us: Vec<(u64, u64)>,
    /// The write that failed.
    pub gone: Option<FailedWrite>,
    pub reaped_us: Option<u64>,
    /// When its client closed. A server detects this only by a failed write, but the lab knows it for its own
    /// clients.
    pub closed_us: Option<u64>,
    pub finished_us: Option<u64>,
}

impl Story {
    pub(super) fn new(subject: Subject) -> Story {
        let Subject { connection, port, request } = subject;
        Story { request, connection, port, ..Story::default() }
    }

    /// The story of a request in the queue. It starts again when the request is queued again.
    pub(super) fn in_todo(held: &Held) -> Story {
        let mut story = Story::new(held.subject);
        story.learn_target(held);
        story.closed_us = held.closed_us;
        story.queued_us = held.queued_us.unwrap_or_default();
        story
    }

    /// Notes that this thread has the request.
    pub(super) fn on_thread(&mut self, thread: usize, held: &Held) {
        let started_us = held.started_us.unwrap_or_default();
        self.learn_target(held);
        self.closed_us = self.closed_us.or(held.closed_us);
        self.queued_us = started_us.saturating_sub(held.waited_us.unwrap_or_default());
        self.started = Some((started_us, thread));
        self.is_stream = held.is_stream;
        self.gone.clone_from(&held.gone);
        self.reaped_us = held.reaped.as_ref().map(|reaped| reaped.at_us);
        self.finished_us = None;
    }

    fn learn_target(&mut self, held: &Held) {
        if let Some(target) = &held.target {
            self.target = target.to_string();
        }
    }

    /// Whether it holds a thread.
    pub fn is_running(&self) -> bool {
        self.started.is_some() && self.finished_us.is_none()
    }

    /// Whether it holds this thread.
    pub(super) fn is_held_by(&self, thread: usize) -> bool {
        self.is_running() && self.started.is_some_and(|(_, number)| number == thread)
    }

    /// Whether it waits for a thread.
    pub fn is_queued(&self) -> bool {
        self.started.is_none() && self.finished_us.is_none()
    }

    /// When it left the queue, because a thread took it or because it ended.
    pub fn left_todo_us(&self) -> Option<u64> {
        self.started.map(|(at_us, _)| at_us).or(self.finished_us)
    }

    /// Its name on screen. A connection on which no request has arrived yet is a spare one.
    pub fn name(&self) -> String {
        if self.target.is_empty() { words::SPARE_CONNECTION.to_owned() } else { name_of(&self.target) }
    }
}

/// The name of a request for this target: `tab 3`, the value of `?tab=`, or its path. It is decoded like a form,
/// cannot control a terminal, and is at most `LONGEST_NAME` characters long. The dashboard shows
/// the same names.
pub fn name_of(target: &str) -> String {
    match tab_of(target) {
        Some(number) if number.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("tab {}", bounded(&number))
        }
        Some(name) => bounded(&name),
        None => bounded(target.split('?').next().unwrap_or_default()),
    }
}

/// Maximum number of characters of a name.
const LONGEST_NAME: usize = 40;

fn bounded(text: &str) -> String {
    let shown = |c: char| if is_printable(c) { c } else { char::REPLACEMENT_CHARACTER };
    match text.char_indices().nth(LONGEST_NAME) {
        None => text.chars().map(shown).collect(),
        Some(_) => text.chars().take(LONGEST_NAME - 1).map(shown).chain(['…']).collect(),
    }
}

/// The decoded last value of `?tab=`, which is the one that the app uses, or `None` if it is empty.
pub fn tab_of(target: &str) -> Option<String> {
    let (_, query) = target.split_once('?')?;
    let parameters = url::form_urlencoded::parse(query.as_bytes());
    let (_, tab) = parameters.filter(|(name, _)| name == "tab").last()?;
    (!tab.is_empty()).then(|| tab.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_decoded_as_a_form_then_filtered_then_bounded() {
        for (target, name) in [
            ("/models/live_stream?tab=3", "tab 3"),
            ("/x?a=b&tab=%33&tab=4", "tab 4"),
            ("/x?tab=3&tab=", "/x"),
            ("/x?tab=3?tab=4", "3?tab=4"),
            ("/x?tab=%e6%a8%a1%e5%9e%8b", "模型"),
            ("/x?tab=模型", "模型"),
            ("/x?tab=a+b%20c", "a b c"),
            ("/x?t%61b=a", "a"),
            ("/x?tab=%1b[31m%C2%9b%E2%80%AE%0a%ff", "\u{fffd}[31m\u{fffd}\u{fffd}\u{fffd}\u{fffd}"),
            ("/x?tab=", "/x"),
            ("/x?tab", "/x"),
            ("/\u{9b}x\u{202e}", "/\u{fffd}x\u{fffd}"),
            ("", ""),
        ] {
            assert_eq!(name_of(target), name, "{target:?}");
        }
        let long = name_of(&format!("/x?tab={}", "%e6%a8%a1".repeat(100)));
        assert_eq!(long, format!("{}…", "模".repeat(39)));
        assert_eq!(name_of(&format!("/x?tab={}", "模".repeat(40))), "模".repeat(40));
    }
}
