//! Compares the ids that a tab received with those of the table.

use std::collections::BTreeSet;

/// How many models a tab did not receive, and how many it received again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub lost: usize,
    /// Models that arrived again, or after a later one.
    pub repeated: usize,
}

impl Tally {
    /// `got` has the tab's ids in the order of their arrival. Only ids of the table count.
    pub fn of(table: &BTreeSet<i64>, got: &[i64]) -> Tally {
        let (mut missing, mut newest, mut repeated) = (table.clone(), None, 0);
        for id in got.iter().copied().filter(|id| table.contains(id)) {
            missing.remove(&id);
            if newest >= Some(id) {
                repeated += 1;
            }
            newest = newest.max(Some(id));
        }
        Tally { lost: missing.len(), repeated }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_and_repeated_models_are_counted_and_ids_outside_the_table_are_not() {
        let table = BTreeSet::from([5, 6, 9]);
        let of = |got: &[i64]| {
            let Tally { lost, repeated } = Tally::of(&table, got);
            (lost, repeated)
        };
        assert_eq!(of(&[3, 4, 5, 6, 9]), (0, 0));
        assert_eq!(of(&[4, 4, 5, 9]), (1, 0));
        assert_eq!(of(&[5, 6, 5, 6, 9]), (0, 2));
        assert_eq!(of(&[5, 9, 6]), (0, 1));
        assert_eq!(of(&[]), (3, 0));
    }
}
