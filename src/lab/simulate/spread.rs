//! A distribution of durations. Its memory does not depend on their number.
//!
//! Durations fall into buckets that are at most 0.4 % wide, so a percentile has at most this error. The maximum
//! and the sum are exact.

use serde::{Serialize, Serializer};

/// Buckets per doubling of the value. Values below this many microseconds have buckets of their own.
const STEPS: u64 = 256;

/// A histogram of durations, in microseconds.
#[derive(Debug, Clone, Default)]
pub struct DurationSpread {
    buckets: Vec<u64>,
    count: u64,
    sum_us: u128,
    max_us: u64,
}

/// The form in JSON: seconds, or null without a value.
#[derive(Serialize)]
struct SpreadFigures {
    count: u64,
    mean_s: Option<f64>,
    p50_s: Option<f64>,
    p99_s: Option<f64>,
    max_s: Option<f64>,
}

impl Serialize for DurationSpread {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let figures = SpreadFigures {
            count: self.count,
            mean_s: self.mean_s(),
            p50_s: self.percentile_s(50.0),
            p99_s: self.percentile_s(99.0),
            max_s: self.max_s(),
        };
        figures.serialize(serializer)
    }
}

impl DurationSpread {
    /// Adds a duration.
    pub fn add(&mut self, us: u64) {
        let bucket = bucket_of(us);
        if bucket >= self.buckets.len() {
            self.buckets.resize(bucket + 1, 0);
        }
        self.buckets[bucket] += 1;
        self.count += 1;
        self.sum_us += u128::from(us);
        self.max_us = self.max_us.max(us);
    }

    /// The number of durations.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The mean in seconds, if there is a value.
    pub fn mean_s(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum_us as f64 / self.count as f64 / 1e6)
    }

    /// The maximum in seconds, if there is a value.
    pub fn max_s(&self) -> Option<f64> {
        (self.count > 0).then_some(self.max_us as f64 / 1e6)
    }

    /// A percentile in seconds, by the nearest rank, if there is a value.
    pub fn percentile_s(&self, percent: f64) -> Option<f64> {
        if self.count == 0 {
            return None;
        }
        let rank = (self.count as f64 * percent / 100.0).ceil().max(1.0) as u64;
        let mut below = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            below += count;
            if below >= rank {
                return Some(middle_us(bucket).min(self.max_us as f64) / 1e6);
            }
        }
        self.max_s()
    }
}

fn bucket_of(us: u64) -> usize {
    if us < STEPS {
        return us as usize;
    }
    let doublings = u64::from(us.ilog2() - STEPS.ilog2());
    (doublings * STEPS + (us >> doublings)) as usize
}

/// The middle of a bucket.
fn middle_us(bucket: usize) -> f64 {
    let bucket = bucket as u64;
    if bucket < 2 * STEPS {
        return bucket as f64;
    }
    let doublings = bucket / STEPS - 1;
    let lowest = (bucket - doublings * STEPS) << doublings;
    lowest as f64 + ((1_u64 << doublings) - 1) as f64 / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_off_by_less_than_half_a_percent() {
        let mut spread = DurationSpread::default();
        assert_eq!((spread.percentile_s(50.0), spread.max_s(), spread.mean_s()), (None, None, None));
        (1..=100_000).for_each(|n| spread.add(n * 37));
        for (percent, exact) in [(1.0, 0.037), (50.0, 1.85), (99.0, 3.663)] {
            let found = spread.percentile_s(percent).unwrap();
            assert!((found / exact - 1.0).abs() < 0.005, "{percent}: {found}");
        }
        assert_eq!(spread.max_s(), Some(3.7));
        assert!((spread.mean_s().unwrap() - 1.8500185).abs() < 1e-9);
    }

    #[test]
    fn every_bucket_contains_its_middle() {
        for us in (0..2_000).chain([65_535, 65_536, 1 << 40, u64::MAX / 2]) {
            let middle = middle_us(bucket_of(us));
            assert!((middle - us as f64).abs() <= us as f64 * 0.004, "{us}: {middle}");
        }
    }
}
