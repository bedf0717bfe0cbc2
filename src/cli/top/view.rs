//! The data of the screen, kept as far back as a wide screen can show.

use std::collections::VecDeque;
use std::mem;
use std::time::{Instant, SystemTime};

use super::asker::Answers;
use super::full_pool::full_pool;
use super::numbers::{Pool, StatsAnswer};
use super::words::{self, EventLine, Tone, long_span};
use crate::lab::record::Record;
use ninetabs_server::timeline::Excerpt;

/// How far back lanes can be drawn: the columns of a very wide screen.
const KEPT_US: u64 = 180_000_000;
/// The number of ended requests that are kept. A server under load has that many within seconds, and its lanes then
/// show less time.
const KEPT_STORIES: usize = 50_000;
/// The number of events that are kept, and of samples of a Puma's numbers.
const KEPT_EVENTS: usize = 200;
const KEPT_SAMPLES: usize = 1_000;

/// The data of the screen.
#[derive(Debug, Clone)]
pub struct TopView {
    pub address: String,
    pub stats: StatsAnswer,
    /// How long the server has been up, if it states when it started.
    pub up_us: Option<u64>,
    /// The record of a ninetabs; a Puma has none.
    pub record: Option<Record>,
    /// Newest last.
    pub events: VecDeque<EventLine>,
    /// The numbers at each answer, newest last.
    pub samples: VecDeque<Pool>,
    answered: Instant,
    /// Why there has been no answer since then.
    trouble: Option<String>,
}

impl TopView {
    pub fn new(answers: Answers, now: Instant) -> TopView {
        let mut view = TopView {
            address: String::new(),
            stats: StatsAnswer::default(),
            up_us: None,
            record: None,
            events: VecDeque::new(),
            samples: VecDeque::new(),
            answered: now,
            trouble: None,
        };
        view.take(answers, now);
        view
    }

    /// Records that no answer arrived.
    pub fn miss(&mut self, why: String) {
        self.trouble = Some(why);
    }

    /// How long there has been no answer, and why. `None` while answers arrive.
    pub fn silence(&self, now: Instant) -> Option<String> {
        let why = self.trouble.as_ref()?;
        let silent = now.saturating_duration_since(self.answered).as_secs();
        Some(format!("no answer for {}, retrying: {why}", long_span(silent)))
    }

    /// Records the answers that arrived at this time.
    pub fn take(&mut self, answers: Answers, now: Instant) {
        let Answers { url, anew, stats, inside } = answers;
        if anew {
            self.record = None;
            self.events.clear();
            self.samples.clear();
        }
        self.address = url.to_string();
        let began = humantime::parse_rfc3339(&stats.started_at).ok();
        let up = began.and_then(|began| SystemTime::now().duration_since(began).ok());
        self.up_us = up.map(|up| up.as_micros() as u64);
        keep(&mut self.samples, stats.whole(), KEPT_SAMPLES);
        self.stats = stats;
        if inside.is_none() {
            self.stats.warnings.extend(full_pool(&self.samples));
        }
        if let Some(inside) = inside {
            self.take_inside(inside, anew);
        }
        (self.answered, self.trouble) = (now, None);
    }

    fn take_inside(&mut self, excerpt: Excerpt, anew: bool) {
        let record = self.record.get_or_insert_default();
        let gap = (excerpt.forgotten > 0 && !anew)
            .then(|| excerpt.moments.first().map_or(excerpt.now_us, |moment| moment.at_us));
        if let Some(at_us) = gap {
            let text = format!("{} events were not recorded here", excerpt.forgotten);
            keep(&mut self.events, EventLine { at_us, text, tone: Tone::Plain }, KEPT_EVENTS);
        }
        record.take(excerpt);
        // Only the text of the moments is needed; the lanes are drawn from the stories.
        let moments = mem::take(&mut record.moments);
        let events = moments.iter().rev().filter_map(|moment| words::tell(moment, record));
        let events: Vec<EventLine> = events.take(KEPT_EVENTS).collect();
        for event in events.into_iter().rev() {
            keep(&mut self.events, event, KEPT_EVENTS);
        }
        record.forget_before(record.now_us.saturating_sub(KEPT_US), KEPT_STORIES);
    }
}

fn keep<T>(all: &mut VecDeque<T>, one: T, most: usize) {
    if all.len() == most {
        all.pop_front();
    }
    all.push_back(one);
}
