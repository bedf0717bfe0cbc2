//! Groups the tabs of a staircase that read the same, for the terminal and for the tables.

use std::time::Duration;

use super::super::measured::{PageAsks, ProbedTab, TabOutcome};
use super::words::{self, ended, place, times};

/// First events whose times differ by less than this are alike.
const ALIKE: Duration = Duration::from_millis(50);
/// First events whose times differ by less than this fraction of the longer one are alike as well.
const ALIKE_FRACTION: f64 = 0.5;

/// Consecutive tabs that read the same, apart from their times.
#[derive(Debug, Clone)]
pub struct TabGroup<T = ProbedTab> {
    tabs: Vec<T>,
}

impl<T: AsRef<ProbedTab>> TabGroup<T> {
    /// A group of one tab.
    pub fn of(tab: T) -> TabGroup<T> {
        TabGroup { tabs: vec![tab] }
    }

    /// Adds a tab if it reads like the first one. Otherwise returns it as the error.
    pub fn join(&mut self, tab: T) -> Result<(), T> {
        match self.tabs.first() {
            Some(first) if !are_alike(first.as_ref(), tab.as_ref()) => Err(tab),
            _ => {
                self.tabs.push(tab);
                Ok(())
            }
        }
    }

    /// Its tabs.
    pub fn tabs(&self) -> impl Iterator<Item = &ProbedTab> + Clone {
        self.tabs.iter().map(AsRef::as_ref)
    }

    /// `tabs 1-4`.
    pub fn label(&self) -> String {
        words::tabs(&self.tabs().map(|tab| tab.number).collect::<Vec<_>>())
    }

    /// The pages beside its tabs. The results are the same for each tab.
    pub fn pages(&self) -> &[PageAsks] {
        self.tabs.first().map_or(&[], |tab| &tab.as_ref().pages)
    }

    /// The outcome of its tabs: `first event 204-219 ms`, `read; empty 200 after 5.0 s`.
    pub fn text(&self) -> String {
        let Some(first) = self.tabs().next() else { return String::new() };
        let events = times(self.tabs().filter_map(|tab| tab.first_event));
        let event = events.map_or_else(|| "first event".to_owned(), |events| format!("first event {events}"));
        let place = first.place.map(place);
        match first.outcome {
            TabOutcome::Flows => event,
            TabOutcome::Late => format!("{event}, late"),
            TabOutcome::Cut => format!("{event}, then cut"),
            TabOutcome::NoEvent if first.number == 1 => {
                format!("no event (first tab: {})", words::whole(first.watched))
            }
            TabOutcome::Waits => match place {
                Some(place) => format!("{}, {place}", ended(first)),
                None => ended(first),
            },
            _ => {
                let ends = times(self.tabs().filter_map(|tab| tab.ended.or(tab.first_byte)));
                let ended = match ends {
                    Some(ends) if self.tabs.len() > 1 && ends.contains(['-', 't']) => {
                        let without = ProbedTab { ended: None, first_byte: None, ..first.clone() };
                        format!("{} after {ends}", words::ended(&without))
                    }
                    _ => ended(first),
                };
                match place.filter(|_| !matches!(first.outcome, TabOutcome::NotConnected)) {
                    Some(place) => format!("{place}; {ended}"),
                    None => ended,
                }
            }
        }
    }
}

impl AsRef<ProbedTab> for ProbedTab {
    fn as_ref(&self) -> &ProbedTab {
        self
    }
}

/// Splits tabs into groups of consecutive ones that read the same.
pub fn groups<'a>(tabs: impl Iterator<Item = &'a ProbedTab>) -> Vec<TabGroup<&'a ProbedTab>> {
    let mut groups: Vec<TabGroup<&ProbedTab>> = Vec::new();
    for tab in tabs {
        match groups.last_mut().map(|group| group.join(tab)) {
            Some(Ok(())) => {}
            _ => groups.push(TabGroup::of(tab)),
        }
    }
    groups
}

/// Whether two tabs can share a line.
fn are_alike(one: &ProbedTab, other: &ProbedTab) -> bool {
    let asks = |tab: &ProbedTab| {
        let asks = tab.pages.iter().map(|page| (page.path.clone(), page.answered(), page.asks.len()));
        asks.collect::<Vec<_>>()
    };
    let events = match (one.first_event, other.first_event) {
        (Some(one), Some(other)) => {
            let (low, high) = (one.min(other), one.max(other));
            high - low < ALIKE.max(high.mul_f64(ALIKE_FRACTION))
        }
        (one, other) => one == other,
    };
    events
        && (one.outcome, one.status, one.place) == (other.outcome, other.status, other.place)
        && asks(one) == asks(other)
}

/// `/page 3/3`, or blanks if the path was not requested, so that each path keeps its column.
pub fn cells<'a>(paths: impl Iterator<Item = &'a str>, pages: &[PageAsks]) -> String {
    const LONGEST: usize = 40;
    let mut line = String::new();
    for path in paths {
        let shown = words::short(path, LONGEST);
        let asks = pages.iter().find(|page| page.path == path && !page.asks.is_empty());
        let cell = match asks {
            Some(page) => format!("{shown} {}/{}", page.answered(), page.asks.len()),
            None => " ".repeat(console::measure_text_width(&shown) + " 3/3".len()),
        };
        line.push_str(&cell);
        line.push_str("   ");
    }
    line.trim_end().to_owned()
}
