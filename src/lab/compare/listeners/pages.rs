//! Pages in a real browser, whose titles show what they have received.

use std::time::Duration;

use ninetabs_server::threads::StoppableThread;

use super::{Hosts, Notes};
use crate::lab::chromium::{Chromium, PageId};
use crate::lab::compare::CompareError;
use crate::lab::interrupt::Interrupt;

/// How often the titles of a browser's pages are read.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Pages in a real browser, whose titles show what they have received.
pub struct PageClients {
    notes: Vec<Notes>,
    _thread: StoppableThread,
}

impl PageClients {
    /// Opens the pages, and follows their titles.
    pub fn open(
        browser: Chromium,
        path: &str,
        hosts: Hosts,
        port: &str,
        tabs: usize,
        interrupt: &Interrupt,
    ) -> Result<PageClients, CompareError> {
        let mut pages: Vec<(PageId, Notes)> = Vec::new();
        for number in 1..=tabs {
            let host =
                if hosts == Hosts::Many { format!("tab{number}.localhost") } else { "localhost".to_owned() };
            pages.push((browser.open(&format!("http://{host}:{port}{path}"))?, Notes::default()));
            interrupt.sleep(LOOK_EVERY * 4)?;
        }
        let notes = pages.iter().map(|(_, notes)| notes.clone()).collect();
        let thread = StoppableThread::start("pages", move |stop| {
            while stop.sleep(LOOK_EVERY) {
                for seen in browser.pages().unwrap_or_default() {
                    if let Some((_, notes)) = pages.iter().find(|(id, _)| *id == seen.id) {
                        follow(&seen.title, notes);
                    }
                }
            }
        })?;
        Ok(PageClients { notes, _thread: thread })
    }

    pub fn notes(&self) -> Vec<Notes> {
        self.notes.clone()
    }
}

/// Reads a title such as `row 17 (13), …`: the id of the newest row, and how many rows have been received so far. If
/// several rows were received since the last check, they are assumed to have consecutive ids.
fn follow(title: &str, notes: &Notes) {
    let parsed = title
        .strip_prefix("row ")
        .and_then(|rest| rest.split_once(" ("))
        .and_then(|(id, rest)| Some((id.parse::<i64>().ok()?, rest.split_once(')')?.0.parse::<i64>().ok()?)));
    let Some((id, shown)) = parsed else { return };
    let more = shown - notes.lock().seen.len() as i64;
    notes.take((0..more).rev().map(|back| id - back));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_shows_the_models_received_since_the_last_check() {
        let notes = Notes::default();
        let got = || notes.all().iter().map(|seen| seen.id).collect::<Vec<_>>();
        for title in ["leave: a fix", "row x (1), a", "row 5 (1), a"] {
            follow(title, &notes);
        }
        assert_eq!(got(), [5]);
        follow("row 8 (4), a", &notes);
        follow("row 8 (4), a", &notes);
        assert_eq!(got(), [5, 6, 7, 8]);
    }
}
