//! The figures of a row, from many single measurements. Times are in milliseconds.

use std::time::Duration;

use crate::lab::compare::Spread;

/// How many ids are missing between the first and the last, and how many are repeated.
pub fn gaps(ids: &[i64]) -> (usize, usize) {
    let (mut missed, mut repeated) = (0, 0);
    let mut last = None;
    for id in ids.iter().copied() {
        match last {
            Some(last) if id <= last => repeated += 1,
            Some(known) => {
                missed += (id - known - 1) as usize;
                last = Some(id);
            }
            None => last = Some(id),
        }
    }
    (missed, repeated)
}

/// A duration in milliseconds.
pub fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The median and the p99. A missing value counts as later than all others.
pub fn spread(mut times: Vec<Option<f64>>) -> Spread {
    times.sort_by(|a, b| a.unwrap_or(f64::INFINITY).total_cmp(&b.unwrap_or(f64::INFINITY)));
    let at = |part: f64| {
        times.get(((times.len().saturating_sub(1)) as f64 * part).round() as usize).copied().flatten()
    };
    Spread { p50: at(0.5).map(rounded), p99: at(0.99).map(rounded) }
}

/// The longest time, or `None` if a time is missing or there are none.
pub fn worst(times: &[Option<f64>]) -> Option<f64> {
    let all: Option<Vec<f64>> = times.iter().copied().collect();
    all.filter(|all| !all.is_empty()).map(|all| rounded(all.into_iter().fold(0.0, f64::max)))
}

/// Rounded to a tenth.
fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// The median: the greater of the two values in the middle, if their number is even.
pub fn median(mut values: Vec<u64>) -> Option<u64> {
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_value_counts_as_later_than_all_others() {
        let times = |came: usize, lost: usize| {
            (0..came).map(|n| Some(n as f64)).chain(std::iter::repeat_n(None, lost)).collect::<Vec<_>>()
        };
        assert_eq!(spread(times(101, 0)), Spread { p50: Some(50.0), p99: Some(99.0) });
        assert_eq!(spread(times(60, 41)), Spread { p50: Some(50.0), p99: None });
        assert_eq!(spread(times(0, 3)), Spread::default());
        assert_eq!(spread(Vec::new()), Spread::default());
        assert_eq!((worst(&times(3, 0)), worst(&times(3, 1)), worst(&[])), (Some(2.0), None, None));
    }

    #[test]
    fn missing_and_repeated_ids_are_counted_separately() {
        assert_eq!(gaps(&[]), (0, 0));
        assert_eq!(gaps(&[4, 5, 6]), (0, 0));
        assert_eq!(gaps(&[4, 7, 8, 10]), (3, 0));
        assert_eq!(gaps(&[4, 5, 5, 4, 6]), (0, 2));
    }
}
