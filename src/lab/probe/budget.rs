//! The maximum number of requests of a run, which is printed before it begins.

use super::plan::ProbePlan;

/// Asks of the baseline per page.
const BASELINE: usize = 6;
/// Asks of a page beside a tab.
const BESIDE: usize = 3;
/// Climbs with all steps: the first, and two more if it may have been luck.
const CLIMBS: usize = 3;
/// Tabs beyond the last that flows, with those that replace them.
const BEYOND: usize = 8;
/// Three asks with the other cookie, three from another address, and three from this one beside them: for each tab that
/// gets nothing at first.
const OTHERS: usize = 9;
/// Closed streams whose slots are waited for.
const RETURNS: usize = 3;
/// Asks of a stream until a slot has returned: three tabs until one waits, every 200 ms for 15 s, and four fresh tabs.
const ASKS_OF_A_RETURN: usize = 82;
/// Asks of a page, or of a stream, after everything has been closed: every 200 ms for 30 s, and a second one.
const ASKS_AFTERWARDS: usize = 152;
/// Experiments with held connections: idle ones twice, and kept ones.
const HELD: usize = 3;
/// Each of them is made once more if the connections expired meanwhile.
const TIMES_HELD: usize = 2;
/// Two late tabs that may share the stream of the first, one with another coding, and one without it.
const LATE: usize = 4;

/// The most requests of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Streams, with the method of the plan.
    pub streams: usize,
    /// Pages, by GET.
    pub pages: usize,
}

impl Budget {
    /// That of a plan. The bound is for a server that refuses at once; most runs need [`Budget::usual`].
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
                // Beside each tab that gets nothing at first: plain, and past a cache.
                + pages * (BESIDE + 1) * tabs
                // The page is waited for before each experiment, and after the last one.
                + (HELD + 1) * leave
                + HELD * TIMES_HELD * pages
                + TIMES_HELD * tabs
                + extras * (1 + leave)
                + usize::from(plan.http2),
        }
    }

    /// How many requests most runs send at most: one climb up to `--tabs`, with the experiments that were asked for.
    /// A run without a limit sends the most, and one that finds a limit of five sends forty.
    pub fn usual(plan: &ProbePlan) -> usize {
        let pages = plan.pages.len().max(1);
        let climb = plan.tabs * (1 + pages * BESIDE);
        let zombies = plan.zombies.map_or(0, |zombies| zombies + BEYOND);
        let again = if plan.http10 { plan.tabs + BEYOND } else { 0 };
        let http2 = if plan.http2 { plan.tabs + BEYOND } else { 0 };
        climb + pages * BASELINE + OTHERS + BEYOND + zombies + again + http2
    }

    /// All of them.
    pub fn requests(self) -> usize {
        self.streams + self.pages
    }
}
