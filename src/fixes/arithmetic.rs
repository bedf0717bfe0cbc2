//! The cost of each kind of fix for a given number of viewers: the table at the foot of `/fixes`.
//!
//! The script of the page computes the same for another number (`views/fixes/arithmetic.js`).

use minijinja::{Value, context};

/// The number of viewers in the table, until the reader gives another one.
pub(super) const VIEWERS: u32 = 200;
/// The maximum age that `--fix reaper` sets, in seconds.
pub(super) const REAPER_AGE_S: f64 = 5.0;

/// The last column of the table.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Costs {
    pub reaper: String,
    pub threads: String,
    pub polls: String,
    pub long_polls: String,
    pub pushes: String,
}

impl From<Costs> for Value {
    fn from(Costs { reaper, threads, polls, long_polls, pushes }: Costs) -> Value {
        context! { reaper, threads, polls, long_polls, pushes }
    }
}

/// The costs for this many viewers of a server with this many threads, and with this maximum age in
/// seconds.
pub(super) fn costs(viewers: u32, threads: usize, age_s: f64) -> Costs {
    let turns = f64::from(viewers) / threads as f64 - 1.0;
    let reaper = if turns > 0.0 {
        format!("{} s blind for {} s of stream", rounded(turns * age_s), rounded(age_s))
    } else {
        "no tab waits".to_owned()
    };
    Costs {
        reaper,
        threads: many(viewers, "thread"),
        polls: format!("{} requests/s", rounded(f64::from(viewers) / 2.0)),
        long_polls: format!("{} per change", many(viewers, "request")),
        pushes: "no thread".to_owned(),
    }
}

/// With at most one decimal.
fn rounded(number: f64) -> String {
    ((number * 10.0).round() / 10.0).to_string()
}

fn many(count: u32, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_hundred_viewers_of_eight_threads_cost_what_the_docs_say() {
        let of = |costs: &Costs| {
            let Costs { reaper, threads, polls, long_polls, pushes } = costs;
            [reaper, threads, polls, long_polls, pushes].map(Clone::clone)
        };
        assert_eq!(
            of(&costs(200, 8, REAPER_AGE_S)),
            [
                "120 s blind for 5 s of stream",
                "200 threads",
                "100 requests/s",
                "200 requests per change",
                "no thread"
            ]
        );
        assert_eq!(
            of(&costs(9, 8, 5.0)),
            [
                "0.6 s blind for 5 s of stream",
                "9 threads",
                "4.5 requests/s",
                "9 requests per change",
                "no thread"
            ]
        );
        assert_eq!(
            of(&costs(1, 8, 0.5)),
            ["no tab waits", "1 thread", "0.5 requests/s", "1 request per change", "no thread"]
        );
        assert_eq!(costs(8, 8, 5.0).reaper, "no tab waits", "there is a thread for each");
    }
}
