//! The one warning that follows from the numbers of a Puma: all of its threads are held. A ninetabs reports its own
//! warnings.

use std::collections::VecDeque;

use super::numbers::{Pool, WarningAnswer};
use crate::lab::probe::findings::{LiveState, WatchedServer, live_remedy};

/// How many of the latest answers must all show a full pool: five seconds' worth at the default `--every`. At the
/// start, there are fewer answers.
const ANSWERS: usize = 10;

/// The warning, if no thread was free in any of the latest answers.
pub fn full_pool(samples: &VecDeque<Pool>) -> Option<WarningAnswer> {
    let latest = || samples.iter().rev().take(ANSWERS);
    let newest = latest().next()?;
    let max = newest.max_threads.filter(|max| *max > 0)?;
    if latest().any(|pool| pool.pool_capacity != Some(0)) {
        return None;
    }
    // A thread that is marked IO-bound still counts in the capacity, but the next request may get one more thread.
    if newest.io_threads > Some(0) && newest.backlog == Some(0) {
        return None;
    }
    let threads = match max {
        1 => "The only thread is held".to_owned(),
        max => format!("All {max} threads are held"),
    };
    let waits = match newest.backlog.unwrap_or_default() {
        // With Puma 5 it waits in the kernel, with Puma 8 in the queue.
        0 => "the next request waits".to_owned(),
        1 => "1 request waits".to_owned(),
        many if latest().next_back().is_some_and(|oldest| oldest.backlog < Some(many)) => {
            format!("{many} requests wait, and the number is growing")
        }
        many => format!("{many} requests wait"),
    };
    Some(WarningAnswer {
        text: format!("{threads}; {waits}."),
        remedy: live_remedy(WatchedServer::Puma, LiveState::ThreadsTaken),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(max: u64, capacity: u64, backlog: u64) -> Pool {
        let (max_threads, pool_capacity, backlog) = (Some(max), Some(capacity), Some(backlog));
        Pool { max_threads, pool_capacity, backlog, ..Pool::default() }
    }

    fn text(samples: &[Pool]) -> Option<String> {
        full_pool(&samples.iter().copied().collect()).map(|warning| warning.text)
    }

    #[test]
    fn a_pool_that_stays_full_gets_a_warning_with_the_remedy_of_a_probe() {
        let full = "All 5 threads are held; the next request waits.";
        assert_eq!(text(&[pool(5, 0, 0); 10]).as_deref(), Some(full));
        let growing = [pool(5, 0, 1), pool(5, 0, 3)];
        assert_eq!(
            text(&growing).as_deref(),
            Some("All 5 threads are held; 3 requests wait, and the number is growing.")
        );
        assert_eq!(text(&[pool(1, 0, 1)]).as_deref(), Some("The only thread is held; 1 request waits."));
        let remedy = full_pool(&VecDeque::from([pool(5, 0, 2)])).unwrap().remedy;
        assert!(remedy.contains("threads in puma.rb"), "{remedy}");
    }

    #[test]
    fn a_pool_with_io_threads_is_full_only_if_a_request_waits() {
        // Nine streams of Puma 8 on eight threads, all marked IO-bound: a page is still served.
        let marked = |backlog| Pool { io_threads: Some(9), running: Some(9), ..pool(8, 0, backlog) };
        assert_eq!(text(&[marked(0)]), None);
        assert_eq!(text(&[marked(1)]).as_deref(), Some("All 8 threads are held; 1 request waits."));
    }

    #[test]
    fn a_pool_that_was_not_full_a_moment_ago_or_reports_no_numbers_gets_no_warning() {
        assert_eq!(text(&[pool(5, 1, 0), pool(5, 0, 2)]), None);
        assert_eq!(text(&[Pool::default()]), None);
        assert_eq!(text(&[]), None);
        // Older answers do not count.
        let mut samples = vec![pool(5, 5, 0)];
        samples.extend([pool(5, 0, 0); 10]);
        assert!(text(&samples).is_some());
    }
}
