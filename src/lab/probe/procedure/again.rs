//! Step 9: two more climbs, if the result of the first may be due to chance.

use super::Run;
use super::connections::Flow;
use super::staircase::Climbing;
use crate::lab::probe::progress::ProbeProgress;

/// Number of further climbs.
const CLIMBS: usize = 2;

impl Run<'_> {
    /// Climbs again if a page was answered only sometimes, or if only some of the slots returned.
    pub(super) fn climb_again(&mut self, first: &Climbing) -> Flow<()> {
        let steps = first.steps.iter().chain(&first.beyond);
        let is_partial = steps.flat_map(|step| &step.pages).any(|asks| asks.is_partial());
        if first.is_blind || !(is_partial || self.has_uneven_returns()) {
            return Ok(());
        }
        for number in 1..=CLIMBS {
            let up_to = std::time::Duration::from_secs(20);
            let what = format!("climbing again ({number} of {CLIMBS})");
            (self.tell)(ProbeProgress::Doing { what: &what, up_to });
            self.climb_once_more(true)?;
        }
        Ok(())
    }

    /// Climbs once more and closes everything. Returns how many streams ran at the same time.
    pub(super) fn climb_once_more(&mut self, asks_pages: bool) -> Flow<usize> {
        let mut climb = Climbing { asks_pages, ..Climbing::default() };
        self.climb(&mut climb)?;
        let (figures, _) = self.figures(&climb);
        if asks_pages {
            (self.tell)(ProbeProgress::Climb(&figures));
            self.measured.climbs.push(figures);
        }
        let free = self.leave()?;
        self.unless_leaked(&free)?;
        self.settle_down()?;
        Ok(climb.streams)
    }
}
