//! The laws that every run must obey, as claims. Claims that do not apply to a scenario are omitted.

use super::figures::Figures;
use super::scenario::{HeldBy, Scenario};
use super::words::{number, time};
use crate::lab::claim::{Claim, Claims};

/// How far the period of turns may be outside the interval that follows from the bounds of a stream's age. The
/// difference consists of pages and of durations that the arithmetic leaves out.
const PERIOD_TOLERANCE: f64 = 0.02;
/// The minimum number of pairs of streams to check the jitter.
const FEWEST_TWINS: u64 = 7;
/// The jitter must be at least this many reaper intervals wide. Otherwise streams end together in spite of it.
const ROUNDS_OF_JITTER: f64 = 4.0;

/// The name of the law of turns, which is also checked separately.
pub const TURNS: &str = "N/T × age";

/// The period of turns that the arithmetic predicts, in seconds: N/T × age. `None` without a maximum age, or if
/// there are no more tabs than threads, or if a stream holds no thread.
pub fn predicted_period_s(scenario: &Scenario) -> Option<f64> {
    let age = scenario.max_stream_age?.as_secs_f64();
    let share = f64::from(scenario.tabs) / scenario.all_threads() as f64;
    (scenario.held_by == HeldBy::Thread && share > 1.0).then_some(share * age)
}

/// Checks the laws of a run.
pub fn judge(scenario: &Scenario, figures: &Figures) -> Vec<Claim> {
    let mut claims = Claims::default();
    let checked = &figures.checked;
    let queues = &checked.queues;
    let seconds = |us: u128| format!("{} s", us as f64 / 1e6);
    claims
        .push(
            "L = lambda × W",
            seconds(queues.waited_us),
            seconds(queues.area_us),
            queues.area_us == queues.waited_us,
        )
        .says(format!(
            "L = lambda × W: the queue over time and the sum of all waits are both {}",
            seconds(queues.area_us)
        ));
    claims.equal("requests that overtook another one", 0, queues.overtaken).says(format!(
        "{} of {} requests overtook another one",
        number(queues.overtaken),
        number(queues.taken)
    ));
    claims
        .push(
            "time in which a thread was idle while a request was queued",
            "0 s",
            seconds(queues.stranded_us.into()),
            queues.stranded_us == 0,
        )
        .says(format!(
            "a thread was idle while a request was queued: {}",
            seconds(queues.stranded_us.into())
        ));
    claims.equal("tabs in no state or in two", 0, checked.misplaced).says(format!(
        "{} of {} tabs were in no state or in two",
        number(checked.misplaced),
        number(scenario.tabs.into())
    ));
    claims
        .equal("rows missed or received twice", 0, checked.out_of_order)
        .says(format!("{} batches of rows were missed or came twice", number(checked.out_of_order)));
    turns(scenario, figures, &mut claims);
    jitter(scenario, figures, &mut claims);
    claims.into_vec()
}

/// A tab has a turn every N/T × age. The age is uncertain: the jitter shortens it, and the interval of the reaper
/// lengthens it.
fn turns(scenario: &Scenario, figures: &Figures, claims: &mut Claims) {
    let (Some(predicted_s), Some(max_age)) = (predicted_period_s(scenario), scenario.max_stream_age) else {
        return;
    };
    let age = max_age.as_secs_f64();
    let share = predicted_s / age;
    let (shortest, longest) =
        (age * (1.0 - scenario.max_stream_age_jitter), age + scenario.reap_every.as_secs_f64());
    let since_s = figures.checked.later_since_us as f64 / 1e6;
    let seen_s = scenario.length.as_secs_f64() - since_s;
    // The law applies only if every thread is busy all the time, and if there were enough turns.
    let is_full = (share - 1.0) * shortest > scenario.retry.as_secs_f64() + 0.01;
    let has_begun = figures.checked.later_turns >= 4 * scenario.all_threads();
    if scenario.has_faults() || !is_full || !has_begun {
        return;
    }
    let period_s = f64::from(scenario.tabs) * seen_s / figures.checked.later_turns as f64;
    let from_s = share * shortest * (1.0 - PERIOD_TOLERANCE);
    let to_s = share * longest * (1.0 + PERIOD_TOLERANCE);
    claims
        .push(
            TURNS,
            format!("from {} to {}", time(from_s), time(to_s)),
            time(period_s),
            (from_s..=to_s).contains(&period_s),
        )
        .says(format!("a tab has a turn every {}; N/T × age is {}", time(period_s), time(predicted_s)));
}

/// Streams that began together do not end together.
fn jitter(scenario: &Scenario, figures: &Figures, claims: &mut Claims) {
    let Some(max_age) = scenario.max_stream_age else { return };
    let width_s = max_age.as_secs_f64() * scenario.max_stream_age_jitter;
    let is_wide = width_s >= ROUNDS_OF_JITTER * scenario.reap_every.as_secs_f64();
    let checked = &figures.checked;
    if !is_wide || checked.twins < FEWEST_TWINS {
        return;
    }
    let (together, all) = (checked.twins_together, checked.twins);
    claims
        .push(
            "streams that began together and ended together",
            format!("at most half of {}", number(all)),
            number(together),
            2 * together <= all,
        )
        .says(format!(
            "{} of {} streams that began with another one ended with it",
            number(together),
            number(all)
        ));
}
