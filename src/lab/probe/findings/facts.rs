//! Derived facts about the measurements that several rules use.

use std::time::Duration;

use super::super::measured::{
    Climb, HeldConnections, ListeningProcess, Measured, PageAsk, PageAsks, PageOutcome, ProbedTab,
    StatFigures, StatsMoment, TabOutcome, WaitPlace,
};
use super::evidence::{is_within, median};

/// A tab that ends within this time was refused. A later end is the end of a wait.
pub(super) const REFUSED_WITHIN: Duration = Duration::from_secs(1);

/// Ends have the same cause if their times lie within this fraction of the median.
const SAME_T: f64 = 0.05;

/// Minimum number of ends at the same time T before T counts as a common timeout.
const ENDS_OF_ONE_T: usize = 2;

/// A tab that ends this close to a cut was ended by the cut.
const AT_A_CUT: Duration = Duration::from_millis(500);

/// A process counts as full if at most this many descriptors are left.
const SPARE_DESCRIPTORS: u64 = 2;

/// The lowest and the highest count of all climbs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub low: usize,
    pub high: usize,
}

impl Extent {
    fn of(counts: impl Iterator<Item = usize> + Clone) -> Extent {
        Extent { low: counts.clone().min().unwrap_or(0), high: counts.max().unwrap_or(0) }
    }

    /// `5`, or `3 to 5`.
    pub(super) fn words(self) -> String {
        if self.low == self.high { self.low.to_string() } else { format!("{} to {}", self.low, self.high) }
    }
}

/// The outcome of the tab beyond the last one that streamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NextTab {
    /// There is no such tab: every tab streamed.
    None,
    /// It got neither an event nor an end until something else ended.
    Waits,
    /// It ended after [`REFUSED_WITHIN`] or later.
    EndsLate,
    /// It ended before [`REFUSED_WITHIN`].
    Refused,
}

/// Tabs and pages that ended after the same time T.
#[derive(Debug, Clone)]
pub(super) struct CommonEnd<'a> {
    /// T: the median of the times after which the tabs ended.
    pub t: Duration,
    /// The tabs that ended after T.
    pub tabs: Vec<&'a ProbedTab>,
    /// The pages that failed after T.
    pub pages: Vec<(&'a str, PageAsk)>,
}

/// Whether one path was answered beside the streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PathBeside<'a> {
    pub path: &'a str,
    /// The number of streams at which the path stopped being answered every time.
    pub stops_at: Option<usize>,
}

/// The measurements of a run with at least one climb.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'a> {
    pub measured: &'a Measured,
    /// The first climb, which was measured in full detail.
    pub climb: &'a Climb,
}

/// The number of the tab at which a page stopped: beside this tab and all later ones, it was answered fewer than three
/// times out of three. `None` if the page never stopped.
pub fn pages_stop_at(measured: &Measured, path: &str) -> Option<usize> {
    Facts::of(measured)?.stops_at(path)
}

impl<'a> Facts<'a> {
    /// `None` if no tab was opened.
    pub(super) fn of(measured: &'a Measured) -> Option<Facts<'a>> {
        let climb = measured.climbs.first()?;
        let has_tabs = !climb.tabs.is_empty() || !measured.waiting.is_empty();
        has_tabs.then_some(Facts { measured, climb })
    }

    /// Streams that ran at the same time.
    pub(super) fn streams(&self) -> Extent {
        Extent::of(self.measured.climbs.iter().map(|climb| climb.streams))
    }

    /// Streams beside which every page was answered.
    pub(super) fn pages_until(&self) -> Extent {
        Extent::of(self.measured.climbs.iter().map(|climb| climb.pages_until))
    }

    /// Streams of the first climb.
    pub(super) fn n(&self) -> usize {
        self.climb.streams
    }

    /// How many streams the server held at the limit: those that delivered events, or if none did, as many as were open
    /// when a page stopped.
    pub(super) fn held(&self) -> usize {
        if self.n() > 0 {
            return self.n();
        }
        self.paths().filter_map(|path| path.stops_at).min().unwrap_or(self.climb.tabs.len())
    }

    /// Whether no stream delivered an event while pages were requested.
    pub(super) fn nothing_flows(&self) -> bool {
        self.n() == 0
    }

    /// Whether every tab streamed, up to the maximum.
    pub(super) fn all_flow(&self) -> bool {
        self.n() > 0 && self.next() == NextTab::None
    }

    /// The tab that stands for "the next tab": the first one beyond the last that streamed, preferably one that was not
    /// ended by a cut.
    pub(super) fn next_tab(&self) -> Option<&'a ProbedTab> {
        let waiting = || self.measured.waiting.iter().filter(|tab| !self.was_overtaken(tab));
        waiting().find(|tab| !self.ends_with_a_cut(tab)).or(waiting().next())
    }

    /// Whether a tab ended and later tabs streamed. Its end then says nothing about the limit.
    pub(super) fn was_overtaken(&self, tab: &ProbedTab) -> bool {
        let mut flowed = self.climb.tabs.iter().filter(|other| other.first_event.is_some());
        end_of(tab).is_some() && flowed.any(|other| other.number > tab.number)
    }

    /// The outcome of the next tab.
    pub(super) fn next(&self) -> NextTab {
        match self.next_tab() {
            Some(tab) => self.fate(tab),
            None if self.climb.met_a_limit || self.nothing_flows() => NextTab::Waits,
            None => NextTab::None,
        }
    }

    /// The outcome of a tab beyond the last one that streamed. A tab that got an event later has taken over a slot, so
    /// it had waited.
    pub(super) fn fate(&self, tab: &ProbedTab) -> NextTab {
        if tab.first_event.is_some()
            || matches!(tab.outcome, TabOutcome::Flows | TabOutcome::Late | TabOutcome::Cut)
        {
            return NextTab::Waits;
        }
        match end_of(tab) {
            None => NextTab::Waits,
            Some(_) if self.ends_with_a_cut(tab) || waited_for_a_thread(tab) => NextTab::Waits,
            Some(end) if end < REFUSED_WITHIN => NextTab::Refused,
            Some(_) => NextTab::EndsLate,
        }
    }

    /// Whether a stream was cut off at the moment at which a tab ended.
    fn ends_with_a_cut(&self, tab: &ProbedTab) -> bool {
        let Some(end) = end_of(tab) else { return false };
        self.is_at_a_cut(tab.opened_at + end)
    }

    fn is_at_a_cut(&self, moment: Duration) -> bool {
        self.measured.cuts.iter().any(|cut| cut.at.abs_diff(moment) <= AT_A_CUT)
    }

    /// Where the request of the next tab waits. If no tab waits, where the unanswered page does.
    pub(super) fn place(&self) -> Option<WaitPlace> {
        let mut tabs = self.measured.waiting.iter();
        let by_tab = tabs.find_map(|tab| tab.place.filter(|place| *place != WaitPlace::Refused));
        by_tab.or_else(|| self.page_place())
    }

    /// Where the unanswered page waits.
    pub(super) fn page_place(&self) -> Option<WaitPlace> {
        let late = self.measured.late_page.as_ref().and_then(|late| late.ask.place);
        late.or_else(|| {
            let asks = self.all_tabs().flat_map(|tab| &tab.pages).flat_map(|page| &page.asks);
            asks.filter(|ask| ask.outcome != PageOutcome::Answered).find_map(|ask| ask.place)
        })
    }

    /// The tabs of the first climb, then the tabs beyond the last one that streamed.
    fn all_tabs(&self) -> impl Iterator<Item = &'a ProbedTab> + use<'a> {
        self.climb.tabs.iter().chain(&self.measured.waiting)
    }

    /// Every path, and the stream at which it stopped.
    pub(super) fn paths(&self) -> impl Iterator<Item = PathBeside<'a>> + '_ {
        let paths = self.measured.baseline.iter();
        paths.map(|page| PathBeside { path: &page.path, stops_at: self.stops_at(&page.path) })
    }

    /// The number of the tab at which a path stopped: beside this tab and all later ones, some requests were not
    /// answered. A path that only a cache answered counts as stopped at the last stream.
    fn stops_at(&self, path: &str) -> Option<usize> {
        // If there are several queues, a page may by chance be answered throughout the first climb.
        let mut later = self.measured.climbs.iter().skip(1);
        stop_in(self.all_tabs(), path)
            .or_else(|| self.is_answered_by_a_cache_only(path).then_some(self.n().max(1)))
            .or_else(|| later.find_map(|climb| stop_in(climb.tabs.iter(), path)))
    }

    /// Whether a path was answered at the limit as it is, but not with a random query parameter. If a path was answered
    /// once or twice out of three times, several queues exist, and a single unanswered request is chance.
    pub(super) fn is_answered_by_a_cache_only(&self, path: &str) -> bool {
        let pages = &self.measured.uncached_pages;
        let later = self.measured.climbs.iter().skip(1).flat_map(|climb| &climb.tabs);
        let mut asks =
            self.all_tabs().chain(later).flat_map(|tab| &tab.pages).filter(|page| page.path == path);
        pages.iter().any(|page| page.path == path && page.plain && !page.uncached)
            && !asks.any(PageAsks::is_partial)
    }

    /// The paths that stop, in the order in which they were given.
    pub(super) fn stopped_paths(&self) -> Vec<&'a str> {
        self.paths().filter(|path| path.stops_at.is_some()).map(|path| path.path).collect()
    }

    /// The paths that answer beside all streams.
    pub(super) fn answering_paths(&self) -> Vec<&'a str> {
        self.paths().filter(|path| path.stops_at.is_none()).map(|path| path.path).collect()
    }

    /// Whether a page stops.
    pub(super) fn a_page_stops(&self) -> bool {
        self.paths().any(|path| path.stops_at.is_some())
    }

    /// Whether every page stops.
    pub(super) fn every_page_stops(&self) -> bool {
        self.a_page_stops() && self.paths().all(|path| path.stops_at.is_some())
    }

    /// Whether one path stops and another never does.
    pub(super) fn is_behind(&self) -> bool {
        self.a_page_stops() && !self.every_page_stops()
    }

    /// Whether a request for a page that stopped was still unanswered when the next tab was opened.
    pub(super) fn a_page_waited(&self) -> bool {
        let stopped = self.stopped_paths();
        let asks = self.climb.tabs.iter().flat_map(|tab| &tab.pages);
        let mut asks = asks.filter(|page| stopped.contains(&&*page.path)).flat_map(|page| &page.asks);
        asks.any(|ask| ask.outcome == PageOutcome::Nothing)
    }

    /// The last requests for each path, in the staircase or at the limit.
    pub(super) fn last_asks(&self) -> impl Iterator<Item = (&'a str, &'a [PageAsk])> + '_ {
        self.measured.baseline.iter().map(|page| {
            let all = self.all_tabs().flat_map(|tab| &tab.pages);
            let last = all.filter(|asks| asks.path == page.path && !asks.asks.is_empty()).last();
            (&*page.path, last.map_or(&[][..], |asks| &asks.asks))
        })
    }

    /// The tabs and pages that end after the same time: at least two within ± 5 %, including at least one tab.
    pub(super) fn common_end(&self) -> Option<CommonEnd<'a>> {
        let ending = self.measured.waiting.iter().filter(|tab| self.fate(tab) == NextTab::EndsLate);
        let ending: Vec<(&ProbedTab, Duration)> =
            ending.filter_map(|tab| Some((tab, end_of(tab)?))).collect();
        let times: Vec<Duration> = ending.iter().map(|(_, time)| *time).collect();
        let t = median(&times)?;
        let same = |time: Duration| is_within(time, t, SAME_T);
        let tabs: Vec<&ProbedTab> =
            ending.iter().filter(|(_, time)| same(*time)).map(|(tab, _)| *tab).collect();
        let pages: Vec<_> = self.page_failures().into_iter().filter(|(_, ask)| same(ask.time)).collect();
        (tabs.len() + pages.len() >= ENDS_OF_ONE_T).then_some(CommonEnd { t, tabs, pages })
    }

    /// Page requests that waited and then ended without the usual answer.
    fn page_failures(&self) -> Vec<(&'a str, PageAsk)> {
        let late = self.measured.late_page.iter().map(|late| (&*late.path, late.ask));
        let asks = self.all_tabs().flat_map(|tab| &tab.pages);
        let asks = asks.flat_map(|page| page.asks.iter().map(|ask| (&*page.path, *ask)));
        let failed = |ask: &PageAsk| !matches!(ask.outcome, PageOutcome::Answered | PageOutcome::Nothing);
        late.chain(asks).filter(|(_, ask)| failed(ask) && ask.time >= REFUSED_WITHIN).collect()
    }

    /// Whether a page was pending for longer than `t` without an end, which is evidence against a common timeout.
    pub(super) fn a_page_outlasts(&self, t: Duration) -> bool {
        let late = self.measured.late_page.as_ref();
        late.is_some_and(|late| {
            late.ask.outcome == PageOutcome::Nothing && late.ask.time > t.mul_f64(1.0 + SAME_T)
        })
    }

    /// Whether idle connections stop a page; `None` if that was not measured.
    pub(super) fn idle_stops(&self) -> Option<bool> {
        stops(&self.measured.idle)
    }

    /// Whether keep-alive connections stop a page; `None` if that was not measured, or the server closed them first.
    pub(super) fn kept_stops(&self) -> Option<bool> {
        stops(self.measured.kept.as_slice())
    }

    /// Whether the server immediately closed idle connections to accept the page.
    pub(super) fn closes_idle_ones_for_a_page(&self) -> bool {
        let mut idle = self.measured.idle.iter().filter(|held| !held.is_untestable());
        idle.any(|held| {
            let at_once = |ask: &PageAsk| ask.outcome == PageOutcome::Answered && ask.time < REFUSED_WITHIN;
            held.were_closed_for_the_page() && held.pages.iter().all(|(_, ask)| at_once(ask))
        })
    }

    /// The listening process that has used up its descriptors, within [`SPARE_DESCRIPTORS`].
    pub(super) fn full_listener(&self) -> Option<&'a ListeningProcess> {
        let full = |listener: &&ListeningProcess| {
            listener.limit > 0 && listener.descriptors as u64 + SPARE_DESCRIPTORS >= listener.limit
        };
        self.measured.listeners_at_limit.iter().find(full)
    }

    /// The control server's figures at the limit.
    pub(super) fn figures_at_limit(&self) -> Option<&'a StatFigures> {
        figures(self.measured, StatsMoment::AtLimit)
    }

    /// How many more requests could start at the limit, according to the statistics.
    pub(super) fn idle_threads(&self) -> Option<u64> {
        let figures = self.figures_at_limit()?;
        figures.pool_capacity.or_else(|| figures.max_threads?.checked_sub(figures.busy_threads?))
    }

    /// The usual gap between two events of a stream.
    pub(super) fn gap(&self) -> Option<Duration> {
        median(&self.measured.crowded_gaps).or_else(|| median(&self.measured.lone_gaps))
    }

    /// Whether a stream was cut off while the pages beside a tab were requested.
    pub(super) fn was_cut_beside(&self, tab: &ProbedTab) -> bool {
        let next = self.all_tabs().map(|tab| tab.opened_at).filter(|at| *at > tab.opened_at).min();
        let mut cuts = self.measured.cuts.iter();
        cuts.any(|cut| cut.at >= tab.opened_at && next.is_none_or(|next| cut.at < next))
    }

    /// Whether the next tab waited for a while, even if it then ended.
    pub(super) fn the_next_tab_waits(&self) -> bool {
        matches!(self.next(), NextTab::Waits | NextTab::EndsLate)
    }

    /// The tabs beyond the last one that streamed that had this fate.
    pub(super) fn tabs_that(&self, fate: NextTab) -> impl Iterator<Item = &'a ProbedTab> + '_ {
        self.measured.waiting.iter().filter(move |tab| self.fate(tab) == fate)
    }

    /// Tabs that streamed without waiting for the slot of another one, in order.
    pub(super) fn flowing_tabs(&self) -> impl Iterator<Item = &'a ProbedTab> + use<'a> {
        let flowed = |tab: &&ProbedTab| tab.first_event.is_some() && !tab.saw_a_cut;
        self.climb.tabs.iter().filter(flowed)
    }
}

/// When a tab without an event ended, measured from the first SYN. A response with another status ends at its first
/// byte. A handshake that does not complete is not an end.
pub(super) fn end_of(tab: &ProbedTab) -> Option<Duration> {
    if tab.first_event.is_some() {
        return None;
    }
    let without_end = match tab.outcome {
        TabOutcome::Status => tab.first_byte,
        TabOutcome::NotConnected if tab.place != Some(WaitPlace::AcceptQueueFull) => Some(Duration::ZERO),
        _ => None,
    };
    tab.ended.or(without_end)
}

/// The tab at which a path stopped: beside this tab and all later ones, some requests were not answered.
fn stop_in<'a>(tabs: impl Iterator<Item = &'a ProbedTab>, path: &str) -> Option<usize> {
    let mut stop = None;
    for tab in tabs {
        for page in tab.pages.iter().filter(|page| page.path == path && !page.asks.is_empty()) {
            match page.answered() == page.asks.len() {
                true => stop = None,
                false => stop = stop.or(Some(tab.number)),
            }
        }
    }
    stop
}

/// Whether held connections stop a page. A page that was answered only because the server closed some of the
/// connections counts as stopped.
fn stops(held: &[HeldConnections]) -> Option<bool> {
    let testable = held.iter().filter(|held| held.n > 0 && !held.is_untestable() && !held.pages.is_empty());
    testable.map(HeldConnections::stop_a_page).reduce(|one, other| one || other)
}

/// The figures that the control server reported at this moment.
pub(super) fn figures(measured: &Measured, moment: StatsMoment) -> Option<&StatFigures> {
    let mut at = measured.statistics.iter().filter(|statistics| statistics.moment == moment);
    at.find_map(|statistics| statistics.figures.as_ref())
}

/// Whether the application answered a tab whose request it had not read when the place was looked up. If the answer is
/// empty or a 500, the tab had waited for a thread, and then found no free database connection.
fn waited_for_a_thread(tab: &ProbedTab) -> bool {
    let by_the_application = match tab.outcome {
        TabOutcome::Empty => true,
        TabOutcome::Status => tab.status == Some(500),
        _ => false,
    };
    by_the_application && tab.place.is_some_and(WaitPlace::is_unread)
}
