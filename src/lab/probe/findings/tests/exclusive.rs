//! For every limit of at most one stream (session lock, blocked loop, one at a time), a run for which it is
//! found and similar runs for which it is not.

use super::super::{LimitKind, infer, verdict};
use super::limits::{limit, only};
use super::literals::*;
use crate::lab::probe::measured::{LateEvents, Measured, TabOutcome, WaitPlace};

/// One stream runs, the page stops beside it, the next tab waits, and streams with the other cookie run.
fn session_lock() -> Measured {
    let mut measured = staircase(1, &[("/page", Some(1))]);
    measured.target.has_cookie = true;
    measured.target.sets_cookies = vec!["PHPSESSID".to_owned()];
    measured.waiting = vec![waits(2, WaitPlace::Read)];
    measured.other_cookie = Some(tries(3));
    measured
}

#[test]
fn another_session_that_is_served_shows_a_session_lock() {
    let measured = session_lock();
    assert_eq!(limit(&measured), only(LimitKind::SessionLock));
    let findings = infer(&measured);
    assert!(findings.limit.as_ref().unwrap().remedy.contains("session_write_close()"));
    assert_eq!(
        verdict(&measured, &findings),
        "1 stream at a time per session, and that session's pages wait as well. Other sessions are served."
    );
}

#[test]
fn another_session_that_waits_as_well_is_not_a_session_lock() {
    let mut measured = session_lock();
    measured.other_cookie = Some(tries(2));
    assert_eq!(limit(&measured), only(LimitKind::OneAtATime));
    measured.other_cookie = None;
    assert_eq!(limit(&measured), only(LimitKind::OneAtATime));
}

#[test]
fn two_streams_of_one_session_are_not_a_session_lock() {
    let mut measured = neither_stops(2, staircase(2, &[("/page", Some(2))]));
    measured.waiting = vec![waits(3, WaitPlace::Read)];
    measured.other_cookie = Some(tries(3));
    assert_eq!(limit(&measured), only(LimitKind::Workers));
}

#[test]
fn a_silent_stream_whose_page_waits_in_the_kernel_blocks_the_loop() {
    let mut measured = blind(1, &[("/page", Some(1)), ("/up", Some(1))]);
    measured.waiting = vec![waits(2, WaitPlace::Kernel)];
    assert_eq!(limit(&measured), only(LimitKind::BlockedLoop));
}

#[test]
fn a_silent_stream_whose_page_request_was_read_can_be_one_at_a_time() {
    let mut measured = blind(1, &[("/page", None)]);
    measured.climbs[0].pages_until = 0;
    measured.climbs[0].tabs[0].pages = vec![dead("/page", WaitPlace::Read)];
    measured.waiting = vec![waits(2, WaitPlace::Read)];
    assert_eq!(limit(&measured), (LimitKind::BlockedLoop, vec![LimitKind::OneAtATime]));
}

#[test]
fn a_quiet_stream_on_one_worker_does_not_block_the_loop() {
    let mut measured = blind(1, &[("/page", Some(1))]);
    measured.waiting = vec![waits(2, WaitPlace::Kernel)];
    measured.late_events = Some(LateEvents { after: secs(15.0), at_once: 1 });
    assert_eq!(limit(&measured), only(LimitKind::OneAtATime));
}

#[test]
fn a_page_that_answers_beside_a_silent_stream_does_not_block_the_loop() {
    let mut measured = neither_stops(1, blind(1, &[("/page", Some(1)), ("/static", None)]));
    measured.waiting = vec![waits(2, WaitPlace::Read)];
    assert_eq!(limit(&measured), (LimitKind::Workers, vec![LimitKind::OneAtATime]));
}

#[test]
fn a_second_tab_that_fails_after_the_pools_timeout_is_not_one_at_a_time() {
    let mut measured = staircase(1, &[("/page", Some(1))]);
    measured.waiting =
        vec![ends(2, TabOutcome::Empty, Some(200), 5.0), ends(3, TabOutcome::Empty, Some(200), 5.0)];
    assert_eq!(limit(&measured), only(LimitKind::DatabasePool));
}

#[test]
fn a_server_that_an_interpreter_runs_is_not_called_a_proxy() {
    let mut measured = staircase(1, &[("/page", Some(1)), ("/up", None)]);
    measured.waiting = vec![waits(2, WaitPlace::Read)];
    measured.target.server = Some("BaseHTTP/0.6 Python/3.11.2".to_owned());
    assert!(infer(&measured).is_proxied, "nothing says what listens");
    measured.listeners_before = vec![listener("python3", 8, 1024)];
    let findings = infer(&measured);
    assert!(findings.behind && !findings.is_proxied);
}
