//! The first sentence of the index page: what an open tab holds, and what happens to the first tab
//! beyond the limit. Every number follows from the limits that are in force.

use std::time::Duration;

/// The limits of a server.
#[derive(Debug, Clone)]
pub(super) struct StreamLimits<'a> {
    /// The maximum number of threads.
    pub threads: usize,
    /// How many more threads may be marked IO-bound.
    pub max_io_threads: usize,
    pub stream_cap: Option<usize>,
    pub max_stream_age: Option<Duration>,
    /// The number of database connections, if a stream keeps one for its whole life.
    pub leased_connections: Option<usize>,
    /// The origin of the pages' streams; `None`: this server.
    pub streams_at: Option<&'a str>,
}

/// The sentence.
pub(super) fn first_sentence(limits: &StreamLimits<'_>) -> String {
    if let Some(origin) = limits.streams_at {
        return format!(
            "The stream of each open tab is on another server, {origin}. This server only serves pages."
        );
    }
    let threads = limits.threads + limits.max_io_threads;
    let one_thread = match (limits.threads, limits.max_io_threads) {
        (1, 0) => "this server's only thread".to_owned(),
        (pool, 0) => format!("one of this server's {pool} threads"),
        (pool, io) => format!("one of this server's {pool} + {io} threads"),
    };
    let connections = limits.leased_connections.filter(|size| *size < threads);
    let cap = limits.stream_cap.filter(|cap| *cap < threads);
    match (cap, connections) {
        // A stream is counted against the cap before it checks out a connection.
        (Some(cap), connections) if connections.is_none_or(|size| cap <= size) => format!(
            "Each open tab holds {one_thread}, and at most {} may stream. Open {}; the {} is refused at once.",
            number(cap),
            number(cap + 1),
            ordinal(cap + 1)
        ),
        (_, Some(size)) => format!(
            "Each open tab holds {one_thread} and one of {size} database connection{}. Open {}; the {} gets an \
             empty answer.",
            if size == 1 { "" } else { "s" },
            number(size + 1),
            ordinal(size + 1)
        ),
        _ => match limits.max_stream_age {
            Some(age) => format!(
                "Each open tab holds {one_thread}, for at most {} s. Open {}; they take turns.",
                age.as_secs_f64(),
                number(threads + 1)
            ),
            None => format!(
                "Each open tab holds {one_thread}. Open {}; the {} waits.",
                number(threads + 1),
                ordinal(threads + 1)
            ),
        },
    }
}

const NUMBERS: [&str; 9] = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
const ORDINALS: [&str; 9] =
    ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth"];

/// As a word, up to nine.
fn number(count: usize) -> String {
    let word = count.checked_sub(1).and_then(|at| NUMBERS.get(at));
    word.map_or_else(|| count.to_string(), |word| (*word).to_owned())
}

/// As a word, up to the ninth.
fn ordinal(count: usize) -> String {
    if let Some(word) = count.checked_sub(1).and_then(|at| ORDINALS.get(at)) {
        return (*word).to_owned();
    }
    let ending = match (count % 100, count % 10) {
        (11..=13, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    };
    format!("{count}{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sentence for the default limits after `change` has modified them.
    fn with(change: impl FnOnce(&mut StreamLimits)) -> String {
        let mut limits = StreamLimits {
            threads: 8,
            max_io_threads: 0,
            stream_cap: None,
            max_stream_age: None,
            leased_connections: Some(8),
            streams_at: None,
        };
        change(&mut limits);
        first_sentence(&limits)
    }

    #[test]
    fn the_first_sentence_is_true_for_the_limits_in_force() {
        let default = "Each open tab holds one of this server's 8 threads. Open nine; the ninth waits.";
        assert_eq!(with(|_| {}), default);
        assert_eq!(with(|it| it.stream_cap = Some(8)), default, "the threads are exhausted first");
        for (changed, words) in [
            (
                with(|it| (it.threads, it.leased_connections) = (1, None)),
                "Each open tab holds this server's only thread. Open two; the second waits.",
            ),
            (
                with(|it| (it.threads, it.leased_connections) = (64, None)),
                "Each open tab holds one of this server's 64 threads. Open 65; the 65th waits.",
            ),
            (
                with(|it| (it.max_io_threads, it.leased_connections) = (5, Some(13))),
                "Each open tab holds one of this server's 8 + 5 threads. Open 14; the 14th waits.",
            ),
            (
                with(|it| it.max_stream_age = Some(Duration::from_millis(5500))),
                "Each open tab holds one of this server's 8 threads, for at most 5.5 s. Open nine; they take turns.",
            ),
            (
                with(|it| it.stream_cap = Some(6)),
                "Each open tab holds one of this server's 8 threads, and at most six may stream. Open seven; the \
                 seventh is refused at once.",
            ),
            (
                with(|it| (it.stream_cap, it.leased_connections) = (Some(6), Some(5))),
                "Each open tab holds one of this server's 8 threads and one of 5 database connections. Open six; the \
                 sixth gets an empty answer.",
            ),
            (
                with(|it| it.streams_at = Some("http://127.0.0.1:9294")),
                "The stream of each open tab is on another server, http://127.0.0.1:9294. This server only serves pages.",
            ),
        ] {
            assert_eq!(changed, words);
        }
    }

    #[test]
    fn ordinals_end_in_st_nd_rd_or_th() {
        let all = [1, 9, 10, 11, 12, 13, 21, 22, 33, 101, 111, 112].map(ordinal);
        let words = [
            "first", "ninth", "10th", "11th", "12th", "13th", "21st", "22nd", "33rd", "101st", "111th",
            "112th",
        ];
        assert_eq!(all, words);
    }
}
