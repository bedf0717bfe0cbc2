//! Checks whether each tab has received each model once and in order.
//!
//! Ids ascend, so a tab's position is one number: the tab has received all models up to there, and the others count as
//! missed. The ids are stored once, not per tab. Each tab must receive every model that is created after the tabs were
//! opened.

use serde::Serialize;

/// The counts of models of one tab.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Delivery {
    /// Models that arrived in order.
    pub received: u64,
    /// Models that arrived again, or after a later one.
    pub repeated: u64,
    /// Models that were skipped.
    pub missed: u64,
}

/// The models of all tabs.
#[derive(Debug, Default)]
pub struct Deliveries {
    /// Ids that at least one tab has received, ascending.
    known: Vec<i64>,
    tabs: Vec<TabPosition>,
}

#[derive(Debug, Clone, Copy, Default)]
struct TabPosition {
    /// The number of known ids up to the newest one that the tab received.
    next: usize,
    delivery: Delivery,
}

impl Deliveries {
    /// Creates the counts for this number of tabs.
    pub fn of(tabs: usize) -> Deliveries {
        Deliveries { known: Vec::new(), tabs: vec![TabPosition::default(); tabs] }
    }

    /// Counts a model that the tab received.
    pub fn take(&mut self, tab: usize, id: i64) {
        let at = match self.known.binary_search(&id) {
            Ok(at) => at,
            Err(at) => {
                self.insert(at, id);
                at
            }
        };
        let Some(tab) = self.tabs.get_mut(tab) else { return };
        if at < tab.next {
            tab.delivery.repeated += 1;
            return;
        }
        tab.delivery.received += 1;
        tab.delivery.missed += (at - tab.next) as u64;
        tab.next = at + 1;
    }

    /// Inserts a model that no tab had received yet. Tabs that are beyond it have missed it.
    fn insert(&mut self, at: usize, id: i64) {
        self.known.insert(at, id);
        for tab in self.tabs.iter_mut().filter(|tab| tab.next > at) {
            tab.next += 1;
            tab.delivery.missed += 1;
        }
    }

    /// Adds the ids in the table, ascending. Returns how many of them no tab has received although a tab has received a
    /// later model.
    pub fn compare_with(&mut self, table: &[i64]) -> usize {
        let Some(newest) = self.known.last().copied() else { return 0 };
        let mut unseen = 0;
        for id in table.iter().filter(|id| **id <= newest) {
            if let Err(at) = self.known.binary_search(id) {
                self.insert(at, *id);
                unseen += 1;
            }
        }
        unseen
    }

    /// How many tabs have received this model or a later one.
    pub fn tabs_with(&self, id: i64) -> usize {
        self.beyond(id).count()
    }

    /// How many tabs have received this model or a later one, and each model once and in order.
    pub fn complete_tabs(&self, id: i64) -> usize {
        self.beyond(id).filter(|tab| tab.delivery.repeated == 0 && tab.delivery.missed == 0).count()
    }

    fn beyond(&self, id: i64) -> impl Iterator<Item = &TabPosition> {
        let needed = self.known.partition_point(|known| *known <= id);
        let is_known = self.known.last().copied().unwrap_or_default() >= id;
        self.tabs.iter().filter(move |tab| is_known && tab.next >= needed)
    }

    /// The models that at least one tab has received.
    pub fn models(&self) -> usize {
        self.known.len()
    }

    /// The counts of each tab.
    pub fn of_tabs(&self) -> impl ExactSizeIterator<Item = Delivery> {
        self.tabs.iter().map(|tab| tab.delivery)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivered(tabs: usize, taken: &[(usize, i64)]) -> Deliveries {
        let mut deliveries = Deliveries::of(tabs);
        taken.iter().for_each(|(tab, id)| deliveries.take(*tab, *id));
        deliveries
    }

    fn counts(deliveries: &Deliveries) -> Vec<(u64, u64, u64)> {
        deliveries.of_tabs().map(|it| (it.received, it.repeated, it.missed)).collect()
    }

    #[test]
    fn models_that_arrive_once_and_in_order_are_neither_repeated_nor_missed() {
        let all = delivered(2, &[(0, 3), (0, 4), (1, 3), (1, 4), (1, 9), (0, 9)]);
        assert_eq!(counts(&all), [(3, 0, 0), (3, 0, 0)]);
        assert_eq!([0, 5, 9, 10].map(|id| all.tabs_with(id)), [2, 2, 2, 0]);
        assert_eq!([9, 10].map(|id| all.complete_tabs(id)), [2, 0]);
        assert_eq!(all.models(), 3);
    }

    #[test]
    fn repeated_skipped_and_late_models_are_counted() {
        assert_eq!(
            counts(&delivered(2, &[(0, 1), (0, 2), (0, 2), (0, 1), (1, 1), (1, 2)])),
            [(2, 2, 0), (2, 0, 0)]
        );
        assert_eq!(counts(&delivered(2, &[(0, 1), (0, 2), (0, 3), (1, 1), (1, 3)])), [(3, 0, 0), (2, 0, 1)]);
        // 2 arrives at one tab after 3. The other tab, which has 3, does not receive it.
        assert_eq!(counts(&delivered(2, &[(0, 1), (0, 3), (1, 1), (1, 3), (0, 2)])), [(2, 1, 1), (2, 0, 1)]);
        // A tab that is behind has not missed anything yet.
        let behind = delivered(2, &[(0, 1), (0, 2), (0, 3), (1, 1)]);
        assert_eq!((counts(&behind), behind.complete_tabs(3)), (vec![(3, 0, 0), (1, 0, 0)], 1));
    }

    #[test]
    fn the_table_shows_models_that_no_tab_received() {
        let mut all = delivered(2, &[(0, 1), (1, 1), (0, 4), (1, 4)]);
        assert_eq!(all.compare_with(&[1, 2, 3, 4, 5]), 2);
        assert_eq!(counts(&all), [(2, 0, 2), (2, 0, 2)]);
        assert_eq!(all.compare_with(&[1, 2, 3, 4, 5]), 0);
        assert_eq!(Deliveries::of(1).compare_with(&[1]), 0);
    }
}
