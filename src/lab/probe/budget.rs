//! The maximum number of requests in a run, which is printed before the run begins.

use super::plan::ProbePlan;

/// Requests for each page before the first tab, which measure its baseline.
const BASELINE: usize = 6;
/// Requests for a page beside each tab.
const BESIDE: usize = 3;
/// Climbs with all steps: the first, and two more if the result of the first may be due to chance.
const CLIMBS: usize = 3;
/// Tabs beyond the last one that streams, including those that replace them.
const BEYOND: usize = 8;
/// Requests for each tab that gets nothing at first: three with the other cookie, three from another address, and three
/// from this address at the same time.
const OTHERS: usize = 9;
/// Closed streams whose slot's return is measured.
const RETURNS: usize = 3;
/// Requests for the stream until a slot has returned: three tabs until one waits, one request every 200 ms for 15 s,
/// and four fresh tabs.
const ASKS_OF_A_RETURN: usize = 82;
/// Requests for a page, or for the stream, after everything has been closed: one every 200 ms for 30 s, and a second
/// one at the end.
const ASKS_AFTERWARDS: usize = 152;
/// Experiments with held connections: two with idle ones, and one with keep-alive ones.
const HELD: usize = 3;
/// Runs of each of these experiments: it is repeated once if the connections expired during it.
const TIMES_HELD: usize = 2;
/// Late tabs: two that may share the stream of the first tab, one that accepts compression, and one that does not.
const LATE: usize = 4;

/// The maximum number of requests in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Requests for streams, with the method of the plan.
    pub streams: usize,
    /// Requests for pages, all by GET.
    pub pages: usize,
}

impl Budget {
    /// The budget of a plan. Only a server that refuses immediately can use up this bound; most runs stay below
    /// [`Budget::usual`].
    pub fn of(plan: &ProbePlan) -> Budget {
        let (tabs, pages) = (plan.tabs, plan.pages.len().max(1));
        let leave = ASKS_AFTERWARDS;
        let zombies = plan.zombies.map_or(0, |zombies| zombies + 1 + leave);
        let http2 = if plan.http2 { tabs + BEYOND } else { 0 };
        let http10 = if plan.http10 { 1 + tabs + BEYOND + leave } else { 0 };
        let climbs = CLIMBS * (tabs + BEYOND + leave);
        let extras = usize::from(plan.zombies.is_some()) + usize::from(plan.http10);
        Budget {
            streams: climbs + tabs * OTHERS + RETURNS * ASKS_OF_A_RETURN + LATE + zombies + http2 + http10,
            pages: pages * BASELINE
                + CLIMBS * (pages * BESIDE * (tabs + BEYOND) + leave)
                // Beside each tab that gets nothing at first: a plain request, and one that bypasses caches.
                + pages * (BESIDE + 1) * tabs
                // Each experiment is preceded by a wait for the page, and the last one is followed by another.
                + (HELD + 1) * leave
                + HELD * TIMES_HELD * pages
                + TIMES_HELD * tabs
                + extras * (1 + leave)
                + usize::from(plan.http2),
        }
    }

    /// The upper bound for most runs: one climb up to `--tabs`, with the requested experiments. A run that finds no
    /// limit comes close to it; a run that finds a limit of five sends about forty requests.
    pub fn usual(plan: &ProbePlan) -> usize {
        let pages = plan.pages.len().max(1);
        let climb = plan.tabs * (1 + pages * BESIDE);
        let zombies = plan.zombies.map_or(0, |zombies| zombies + BEYOND);
        let again = if plan.http10 { plan.tabs + BEYOND } else { 0 };
        let http2 = if plan.http2 { plan.tabs + BEYOND } else { 0 };
        climb + pages * BASELINE + OTHERS + BEYOND + zombies + again + http2
    }

    /// All requests: streams and pages.
    pub fn requests(self) -> usize {
        self.streams + self.pages
    }
}
