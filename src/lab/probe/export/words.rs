//! Figures as words, for all exporters with output for people.

use std::borrow::Cow;
use std::time::Duration;

use ninetabs_server::escape::printable;

use super::super::measured::{
    Measured, PageAsk, PageOutcome, ProbedTab, StatFigures, StatsMoment, TabOutcome, WaitPlace,
};

/// A time below this is printed as `immediately`.
pub const AT_ONCE: Duration = Duration::from_millis(50);

/// Maximum length of the server's name, in columns.
const LONGEST_SERVER: usize = 23;

/// `0.2 ms`, `5 ms`, `5.0 s`.
pub fn time(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1000.0;
    match ms {
        ..0.95 => format!("{ms:.1} ms"),
        ..995.0 => format!("{ms:.0} ms"),
        _ => format!("{:.1} s", ms / 1000.0),
    }
}

/// `204-219 ms`, `8.2-9.1 s`, `3 ms to 1.2 s`, or one time if both read the same. `None` without a time.
pub fn times(all: impl Iterator<Item = Duration> + Clone) -> Option<String> {
    let (low, high) = (time(all.clone().min()?), time(all.max()?));
    Some(match (low.split_once(' '), high.split_once(' ')) {
        _ if low == high => high,
        (Some((number, unit)), Some((_, other))) if unit == other => format!("{number}-{high}"),
        _ => format!("{low} to {high}"),
    })
}

/// A limit or the length of a watch, in whole seconds: `12 s`.
pub fn whole(time: Duration) -> String {
    format!("{} s", time.as_secs())
}

/// `immediately`, `after 5.3 s`, or `not within 30 s`.
pub fn after(time_to_it: Option<Duration>, watched: &str) -> String {
    match time_to_it {
        Some(time) if time < AT_ONCE => "immediately".to_owned(),
        Some(it) => format!("after {}", time(it)),
        None => format!("not within {watched}"),
    }
}

/// `no streams`, `1 stream`, `5 streams`.
pub fn count(number: usize, thing: &str) -> String {
    match number {
        0 => format!("no {thing}s"),
        1 => format!("1 {thing}"),
        _ => format!("{number} {thing}s"),
    }
}

/// `tab 3`, `tabs 1-4`, `tabs 1, 3 and 5`. The numbers must be sorted.
pub fn tabs(numbers: &[usize]) -> String {
    match numbers {
        [] => "no tabs".to_owned(),
        [one] => format!("tab {one}"),
        [first, .., last] if last - first + 1 == numbers.len() => format!("tabs {first}-{last}"),
        [others @ .., last] => {
            let others: Vec<String> = others.iter().map(ToString::to_string).collect();
            format!("tabs {} and {last}", others.join(", "))
        }
    }
}

/// Where a request waits.
pub fn place(place: WaitPlace) -> &'static str {
    match place {
        WaitPlace::Kernel => "not accepted (kernel)",
        WaitPlace::AcceptQueueFull => "accept queue full (kernel)",
        WaitPlace::Unread => "accepted, not read",
        WaitPlace::Read => "read",
        WaitPlace::Refused => "no connection",
    }
}

/// The outcome of a tab that did not stream, without the place where it waited: `empty 200 after 5.0 s`.
pub fn ended(tab: &ProbedTab) -> String {
    let end = tab.ended.or(tab.first_byte).map(|end| after(Some(end), "")).unwrap_or_default();
    let what = match tab.outcome {
        TabOutcome::Flows | TabOutcome::Late | TabOutcome::Cut | TabOutcome::NoEvent => {
            return "no event".to_owned();
        }
        // A tab that took over the slot of a closed stream has waited for less than a second.
        TabOutcome::Waits if tab.watched < Duration::from_secs(1) => return "no data at first".to_owned(),
        TabOutcome::Waits => return format!("no data in {}", whole(tab.watched)),
        TabOutcome::NotConnected => return "connection refused".to_owned(),
        TabOutcome::Empty => format!("empty {}", tab.status.unwrap_or(200)),
        TabOutcome::Status => {
            tab.status.map_or_else(|| "another status".to_owned(), |status| status.to_string())
        }
        TabOutcome::Closed => "closed without an answer".to_owned(),
        TabOutcome::Reset => "reset without an answer".to_owned(),
    };
    format!("{what} {end}").trim_end().to_owned()
}

/// How a late page ended: `500 after 5.0 s`. `None` if it did not end.
pub fn page_end(ask: &PageAsk) -> Option<String> {
    let what = match ask.outcome {
        PageOutcome::Nothing => return None,
        PageOutcome::Answered => "answered".to_owned(),
        PageOutcome::Status(status) => status.to_string(),
        PageOutcome::Closed => "closed".to_owned(),
        PageOutcome::Reset => "reset".to_owned(),
        PageOutcome::NotConnected => "connection refused".to_owned(),
    };
    Some(format!("{what} {}", after(Some(ask.time), "")))
}

/// The server's name, shortened if necessary, and its number of threads if the statistics report it.
pub fn server(measured: &Measured) -> Option<String> {
    let figures = figures(measured, StatsMoment::Before);
    let by_listener = || measured.listeners_before.first().map(|listener| listener.name.as_str());
    let name = figures.map(|figures| figures.program.as_str());
    let name = name.or(measured.target.server.as_deref()).or_else(by_listener)?;
    let name = short(name, LONGEST_SERVER);
    let threads = figures.and_then(|figures| figures.max_threads);
    Some(threads.map_or_else(|| name.clone(), |threads| format!("{name}, {threads} threads")))
}

/// The statistics at the limit: `Puma: 3 threads idle`, or `statistics: no answer` if the control server was silent.
pub fn statistics_at_limit(measured: &Measured) -> Option<String> {
    let at_limit = measured.statistics.iter().find(|it| it.moment == StatsMoment::AtLimit)?;
    let Some(figures) = &at_limit.figures else { return Some("statistics: no answer".to_owned()) };
    let by_threads = || figures.max_threads?.checked_sub(figures.busy_threads?);
    let idle = figures.pool_capacity.or_else(by_threads)?;
    let threads = if idle == 1 { "thread" } else { "threads" };
    Some(format!("{}: {idle} {threads} idle", short(&figures.program, 10)))
}

fn figures(measured: &Measured, moment: StatsMoment) -> Option<&StatFigures> {
    measured.statistics.iter().find(|it| it.moment == moment)?.figures.as_ref()
}

/// Text from the server without characters that control a terminal, truncated to this many columns.
pub fn short(text: &str, columns: usize) -> String {
    console::truncate_str(&clean(text), columns, "…").into_owned()
}

/// Text without characters that control a terminal.
pub fn clean(text: &str) -> Cow<'_, str> {
    printable(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: f64) -> Duration {
        Duration::from_secs_f64(ms / 1000.0)
    }

    #[test]
    fn a_time_is_printed_in_the_unit_that_fits_it() {
        let cases = [(0.2, "0.2 ms"), (0.94, "0.9 ms"), (0.96, "1 ms"), (994.0, "994 ms"), (996.0, "1.0 s")];
        for (number, words) in cases.into_iter().chain([(33_000.0, "33.0 s")]) {
            assert_eq!(time(ms(number)), words);
        }
    }

    #[test]
    fn times_are_a_range_with_one_unit_if_possible() {
        let range = |all: &[f64]| times(all.iter().map(|it| ms(*it)));
        assert_eq!(range(&[219.0, 204.0, 210.0]).as_deref(), Some("204-219 ms"));
        assert_eq!(range(&[1.1, 0.96]).as_deref(), Some("1 ms"));
        assert_eq!(range(&[3.0, 1200.0]).as_deref(), Some("3 ms to 1.2 s"));
        assert_eq!(range(&[]), None);
    }

    #[test]
    fn tabs_in_a_row_are_a_range() {
        assert_eq!(tabs(&[3]), "tab 3");
        assert_eq!(tabs(&[1, 2, 3]), "tabs 1-3");
        assert_eq!(tabs(&[1, 3, 5]), "tabs 1, 3 and 5");
    }

    #[test]
    fn a_name_from_the_server_is_escaped_and_truncated() {
        assert_eq!(short("a\u{1b}[31m", 20), "a\\u{1b}[31m");
        assert_eq!(short(&"x".repeat(40), 5), "xxxx…");
    }
}
