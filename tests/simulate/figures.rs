//! Compares the figures of simulated runs with those of real runs.

use std::time::Duration;

use ninetabs::lab::interrupt::Interrupt;
use ninetabs::lab::simulate::replay::TIE_US;
use ninetabs::lab::simulate::{Kept, Scenario, run};
use ninetabs_server::thread_pool::PoolSize;

use super::real::{RECORDED, scenario};
use super::record_file::QueueRecord;

/// The maximum difference of a figure, as a fraction of the real one, and the maximum distance of two distributions.
const TOLERANCE: f64 = 0.1;
const KS_TOLERANCE: f64 = 0.1;
/// How many seeds are simulated.
const SEEDS: u64 = 10;

/// A real run and a simulated one with the same number of tabs.
pub struct Comparison {
    tabs: u32,
    /// The name of each figure, the real one, and the simulated one, in seconds or requests.
    figures: Vec<(&'static str, f64, f64)>,
    /// The distance of the two distributions of waits.
    distance: f64,
}

impl Comparison {
    /// Several simulated runs with different seeds count as one.
    pub fn of(tabs: u32, real: &QueueRecord, simulated: &[QueueRecord]) -> Comparison {
        let runs = [std::slice::from_ref(real), simulated];
        let waits = runs.map(|runs| sorted(runs.iter().flat_map(QueueRecord::waits_s).collect()));
        let both = |of: &dyn Fn(&QueueRecord) -> f64| {
            let [real, simulated] = runs.map(|runs| runs.iter().map(of).sum::<f64>() / runs.len() as f64);
            (real, simulated)
        };
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
        let period = both(&|record| mean(&record.periods_s()));
        let backlog = both(&QueueRecord::mean_backlog);
        let at = |percent: f64| (percentile(&waits[0], percent), percentile(&waits[1], percent));
        let (p50, p99) = (at(50.0), at(99.0));
        let named =
            [("time between turns", period), ("wait, p50", p50), ("wait, p99", p99), ("queue", backlog)];
        let figures = named.map(|(name, (real, simulated))| (name, real, simulated)).to_vec();
        Comparison { tabs, figures, distance: distance(&waits[0], &waits[1]) }
    }

    pub fn heading() -> String {
        "| tabs | figure | real | simulated | difference |\n|---|---|---|---|---|\n".to_owned()
    }

    pub fn rows(&self) -> String {
        let row = |(name, real, simulated): &(&str, f64, f64)| {
            let unit = if *name == "queue" { "" } else { " s" };
            let percent = (simulated / real - 1.0) * 100.0;
            format!("| {} | {name} | {real:.3}{unit} | {simulated:.3}{unit} | {percent:+.1}% |\n", self.tabs)
        };
        let rows: String = self.figures.iter().map(row).collect();
        format!("{rows}| {} | distance of the waits | | | {:.3} |\n", self.tabs, self.distance)
    }

    pub fn is_close(&self) -> bool {
        let close = |(_, real, simulated): &(&str, f64, f64)| (simulated / real - 1.0).abs() <= TOLERANCE;
        self.figures.iter().all(close) && self.distance < KS_TOLERANCE
    }
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

fn percentile(sorted: &[f64], percent: f64) -> f64 {
    let rank = (sorted.len() as f64 * percent / 100.0).ceil().max(1.0) as usize;
    sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
}

/// The two-sample Kolmogorov-Smirnov distance of durations, of which two that differ by less than a tie are equal.
fn distance(one: &[f64], other: &[f64]) -> f64 {
    let tie_s = TIE_US as f64 / 1e6;
    let below = |values: &[f64], at: f64| values.partition_point(|it| *it <= at) as f64 / values.len() as f64;
    let more = |one: &[f64], other: &[f64], at: f64| below(one, at) - below(other, at + tie_s);
    let at = |at: &f64| more(one, other, *at).max(more(other, one, *at));
    one.iter().chain(other).map(at).fold(0.0, f64::max)
}

#[test]
fn the_distance_of_two_distributions_is_the_kolmogorov_smirnov_distance() {
    assert_eq!(distance(&[1.0, 2.0, 3.0], &[1.0, 2.0, 3.0]), 0.0);
    assert_eq!(distance(&[1.0, 2.0], &[3.0, 4.0]), 1.0);
    assert_eq!(distance(&[1.0, 2.0, 3.0, 4.0], &[3.0, 4.0, 5.0, 6.0]), 0.5);
    assert_eq!(distance(&[1.0, 2.0], &[1.0005, 1.9995]), 0.0);
    assert_eq!(distance(&[1.0, 2.0], &[1.002, 2.0]), 0.5);
}

/// Simulated runs of a scenario, with different seeds.
pub fn runs(scenario: &Scenario) -> Vec<QueueRecord> {
    let run = |seed| run(&Scenario { seed, ..scenario.clone() }, Kept::All, &Interrupt::never()).unwrap();
    (1..=SEEDS).map(|seed| QueueRecord::of(&run(seed).moments)).collect()
}

/// Simulated runs with this number of tabs.
pub fn simulated(tabs: u32, length: Duration) -> Vec<QueueRecord> {
    runs(&scenario(tabs, length))
}

#[test]
fn nine_and_sixty_four_tabs_wait_as_long_as_on_a_real_server() {
    let length = RECORDED;
    for tabs in [9, 64] {
        let real = QueueRecord::read(&format!("{tabs}.txt"));
        let comparison = Comparison::of(tabs, &real, &simulated(tabs, length));
        println!("{}{}", Comparison::heading(), comparison.rows());
        assert!(comparison.is_close(), "\n{}{}", Comparison::heading(), comparison.rows());
        // With another maximum age, or with one thread less, the figures differ from those of the record.
        let older = Scenario { max_stream_age: Some(Duration::from_millis(600)), ..scenario(tabs, length) };
        let smaller = Scenario { threads: PoolSize::new(7, 7).unwrap(), ..scenario(tabs, length) };
        for other in [older, smaller] {
            assert!(!Comparison::of(tabs, &real, &runs(&other)).is_close());
        }
    }
}
