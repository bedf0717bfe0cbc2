//! Figures by name, and the same figures as words.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::super::measured::WaitPlace;

/// Figures by name, in the order in which a rule adds them. A figure that was not measured is null.
#[derive(Debug, Clone, Default)]
pub(super) struct Evidence(Map<String, Value>);

impl Evidence {
    pub(super) fn new() -> Evidence {
        Evidence::default()
    }

    pub(super) fn into_map(self) -> Map<String, Value> {
        self.0
    }

    /// Any value; `None` becomes null.
    pub(super) fn with(mut self, name: &str, value: impl Into<Value>) -> Evidence {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    /// Seconds, to a hundredth. The name ends in `_s`.
    pub(super) fn seconds(self, name: &str, time: Option<Duration>) -> Evidence {
        self.with(name, time.map(|time| (time.as_secs_f64() * 100.0).round() / 100.0))
    }

    /// Milliseconds, to a tenth. The name ends in `_ms`.
    pub(super) fn milliseconds(self, name: &str, time: Option<Duration>) -> Evidence {
        self.with(name, time.map(|time| (time.as_secs_f64() * 10_000.0).round() / 10.0))
    }

    /// The name of a place.
    pub(super) fn place(self, place: Option<WaitPlace>) -> Evidence {
        self.with("waits", place.map(WaitPlace::name))
    }

    /// A number out of a total: `{"flowed": 3, "of": 3}`.
    pub(super) fn of(self, name: &str, what: &str, number: usize, of: usize) -> Evidence {
        self.with(name, json!({what: number, "of": of}))
    }
}

/// `204 ms`, or `5.0 s` from one second upward.
pub(super) fn time(time: Duration) -> String {
    if time < Duration::from_millis(995) {
        format!("{:.0} ms", time.as_secs_f64() * 1000.0)
    } else {
        format!("{:.1} s", time.as_secs_f64())
    }
}

/// `204-219 ms`, `8.2-9.8 s`, or one time if both read the same.
pub(super) fn times(low: Duration, high: Duration) -> String {
    let (first, second) = (time(low), time(high));
    if first == second {
        return second;
    }
    match (first.split_once(' '), second.split_once(' ')) {
        (Some((number, unit)), Some((_, other))) if unit == other => format!("{number}-{second}"),
        _ => format!("{first} to {second}"),
    }
}

/// `1 stream`, `5 streams`.
pub(super) fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// `fourth`, `13th`.
pub(super) fn ordinal(number: usize) -> String {
    const WORDS: [&str; 13] = [
        "zeroth", "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth",
        "tenth", "eleventh", "twelfth",
    ];
    if let Some(word) = WORDS.get(number) {
        return (*word).to_owned();
    }
    let suffix = match (number % 100, number % 10) {
        (11..=13, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    };
    format!("{number}{suffix}")
}

/// `/a`, `/a and /b`, `/a, /b and /c`.
pub(super) fn list(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [before @ .., last] => format!("{} and {last}", before.join(", ")),
    }
}

/// The median. For an even number of times, the lower of the two in the middle.
pub(super) fn median(times: &[Duration]) -> Option<Duration> {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len().checked_sub(1)? / 2).copied()
}

/// Whether `time` differs from `of` by at most this fraction of `of`: 0.15 means ± 15 %.
pub(super) fn is_within(time: Duration, of: Duration, fraction: f64) -> bool {
    time.abs_diff(of).as_secs_f64() <= of.as_secs_f64() * fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_people_write_them() {
        let ms = Duration::from_millis;
        assert_eq!(time(ms(204)), "204 ms");
        assert_eq!(time(ms(5_020)), "5.0 s");
        assert_eq!(times(ms(204), ms(219)), "204-219 ms");
        assert_eq!(times(ms(8_200), ms(9_800)), "8.2-9.8 s");
        assert_eq!(times(ms(5_010), ms(5_030)), "5.0 s");
        assert_eq!(times(ms(800), ms(2_200)), "800 ms to 2.2 s");
    }

    #[test]
    fn numbers_and_lists_read_as_people_write_them() {
        assert_eq!(count(1, "stream"), "1 stream");
        assert_eq!(count(5, "stream"), "5 streams");
        assert_eq!(
            [4, 13, 21, 42, 112].map(ordinal),
            ["fourth", "13th", "21st", "42nd", "112th"].map(str::to_owned)
        );
        assert_eq!(list(&["/a"]), "/a");
        assert_eq!(list(&["/a", "/b", "/c"]), "/a, /b and /c");
    }

    #[test]
    fn a_median_of_nothing_is_not_measured() {
        assert_eq!(median(&[]), None);
        let times = [3, 1, 2].map(Duration::from_secs);
        assert_eq!(median(&times), Some(Duration::from_secs(2)));
        assert!(is_within(Duration::from_millis(9_800), Duration::from_millis(9_000), 0.15));
        assert!(!is_within(Duration::from_millis(7_000), Duration::from_millis(9_000), 0.15));
    }
}
