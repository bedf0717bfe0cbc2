//! For every limit of more than one stream, a run that gets it and similar runs that do not.

use super::super::{LimitKind, infer, is_measured, verdict};
use super::literals::*;
use crate::lab::probe::measured::{
    HeldConnections, Http2, Http2Stop, LatePage, Measured, OtherAddress, PageOutcome, ProbedTab, TabOutcome,
    UncachedPage, WaitPlace,
};

/// The limit and its second readings.
pub fn limit(measured: &Measured) -> (LimitKind, Vec<LimitKind>) {
    let findings = infer(measured);
    assert_eq!(is_measured(measured, &findings), Ok(()));
    let limit = findings.limit.unwrap();
    assert!(!limit.text.is_empty() && limit.text.ends_with('.'), "{}", limit.text);
    assert!(!limit.remedy.is_empty(), "{}", limit.kind);
    (limit.kind, findings.or)
}

pub fn only(kind: LimitKind) -> (LimitKind, Vec<LimitKind>) {
    (kind, Vec::new())
}

#[test]
fn a_tab_that_is_refused_before_others_stream_is_not_a_limit() {
    let mut measured = without_limit(8, &[("/page", None)]);
    measured.climbs[0].tabs.retain(|tab| tab.number != 4);
    measured.climbs[0].streams = 7;
    measured.waiting = vec![ends(4, TabOutcome::Status, Some(502), 0.01)];
    assert_eq!(limit(&measured), only(LimitKind::NoneFound));
    let text = infer(&measured).limit.unwrap().text;
    assert!(text.contains("Tab 4 got a 502, and later tabs streamed."), "{text}");
    // A tab that is refused after the last one that streamed shows the limit.
    measured.climbs[0].met_a_limit = true;
    measured.waiting.push(ends(9, TabOutcome::Status, Some(502), 0.01));
    assert_eq!(limit(&measured), only(LimitKind::Refused));
}

#[test]
fn a_single_path_that_fails_after_the_same_time_shows_a_database_pool() {
    let mut measured = staircase(5, &[("/page", Some(5))]);
    measured.waiting =
        vec![ends(6, TabOutcome::Status, Some(500), 2.0), ends(7, TabOutcome::Status, Some(500), 2.05)];
    measured.climbs[0].tabs[4].pages = vec![failed("/page", PageOutcome::Status(500), secs(2.0))];
    assert_eq!(limit(&measured), only(LimitKind::DatabasePool));
}

#[test]
fn a_single_end_does_not_make_a_common_time() {
    let mut measured = neither_stops(5, staircase(5, &[("/page", Some(5))]));
    measured.waiting = vec![waits(6, WaitPlace::Read), ends(7, TabOutcome::Empty, Some(200), 5.0)];
    assert_eq!(limit(&measured), only(LimitKind::Workers));
}

#[test]
fn ends_after_different_times_do_not_make_a_common_time() {
    let mut measured = neither_stops(5, staircase(5, &[("/page", Some(5))]));
    measured.waiting = [2.0, 4.0, 7.0].map(|after| ends(6, TabOutcome::Empty, Some(200), after)).to_vec();
    assert_eq!(limit(&measured), only(LimitKind::Workers));
}

#[test]
fn a_page_that_waits_longer_than_the_tabs_does_not_show_a_database_pool() {
    let mut measured = neither_stops(5, staircase(5, &[("/page", Some(5))]));
    measured.waiting = [5.0, 5.0].map(|after| ends(6, TabOutcome::Empty, Some(200), after)).to_vec();
    let pending = ask(PageOutcome::Nothing, secs(30.0));
    measured.late_page =
        Some(LatePage { path: "/page".to_owned(), ask: pending, is_from_another_sender: false });
    assert_eq!(limit(&measured), only(LimitKind::Workers));
}

/// Tabs and the page wait in a proxy's queue, and get this status after 3 s.
pub fn queue_timeout(status: u16) -> Measured {
    let mut measured = staircase(4, &[("/page", Some(4))]);
    let refused = |number| ProbedTab {
        is_from_another_sender: true,
        ..ends(number, TabOutcome::Status, Some(status), 3.0)
    };
    measured.waiting = (5..8).map(refused).collect();
    let late = ask(PageOutcome::Status(status), secs(3.01));
    measured.late_page = Some(LatePage { path: "/page".to_owned(), ask: late, is_from_another_sender: true });
    measured
}

#[test]
fn a_proxys_status_after_the_same_time_is_a_queue_timeout() {
    let measured = queue_timeout(503);
    assert_eq!(limit(&measured), only(LimitKind::QueueTimeout));
    let found = infer(&measured).limit.unwrap();
    assert_eq!((&found.evidence["status"], &found.evidence["sender"]), (&503.into(), &"proxy".into()));
    assert_eq!(limit(&queue_timeout(504)), (LimitKind::QueueTimeout, vec![LimitKind::Workers]));
}

#[test]
fn a_500_after_the_same_time_is_not_a_queue_timeout() {
    assert_eq!(limit(&queue_timeout(500)), only(LimitKind::DatabasePool));
}

#[test]
fn tabs_that_end_as_a_stream_is_cut_are_not_a_queue_timeout() {
    use crate::lab::probe::measured::CutHow;
    let mut measured = neither_stops(4, queue_timeout(503));
    measured.late_page = None;
    measured.cuts = measured
        .waiting
        .iter()
        .map(|tab| cut(1, (tab.opened_at + secs(3.0)).as_secs_f64(), 30.0, CutHow::Abrupt))
        .collect();
    assert_eq!(limit(&measured), only(LimitKind::Workers));
}

/// The next tab immediately gets a 503, and pages answer.
pub fn refused() -> Measured {
    let mut measured = neither_stops(4, staircase(4, &[("/page", None)]));
    measured.waiting = (5..8).map(|number| ends(number, TabOutcome::Status, Some(503), 0.004)).collect();
    measured
}

#[test]
fn a_refusal_while_nothing_waits_is_a_cap() {
    assert_eq!(limit(&refused()), only(LimitKind::Refused));
    let mut bare = refused();
    bare.waiting = (5..8).map(|number| ends(number, TabOutcome::Closed, None, 0.004)).collect();
    assert_eq!(limit(&bare), only(LimitKind::Refused));
    let mut polite = refused();
    polite.waiting = (5..8).map(|number| ends(number, TabOutcome::Empty, Some(200), 0.004)).collect();
    assert_eq!(limit(&polite), only(LimitKind::Refused));
}

#[test]
fn a_refusal_after_a_page_waited_is_a_full_queue_of_workers() {
    let mut measured = refused();
    measured.climbs[0].tabs[3].pages = vec![dead("/page", WaitPlace::Read)];
    assert_eq!(limit(&measured), only(LimitKind::Workers));
}

#[test]
fn a_reset_at_the_moment_of_a_cut_is_not_a_refusal() {
    use crate::lab::probe::measured::CutHow;
    let mut measured = neither_stops(4, staircase(4, &[("/page", Some(4))]));
    let reset = ends(5, TabOutcome::Reset, None, 0.6);
    measured.cuts = vec![cut(1, reset.opened_at.as_secs_f64() + 0.6, 30.0, CutHow::Abrupt)];
    measured.waiting = vec![reset];
    assert_eq!(limit(&measured), only(LimitKind::Workers));
}

#[test]
fn another_address_that_is_served_shows_a_limit_per_client() {
    let mut measured = refused();
    measured.other_address = Some(OtherAddress { other: tries(3), own: tries(0), a_stream_ended: false });
    assert_eq!(limit(&measured), only(LimitKind::RefusedPerClient));
}

#[test]
fn a_result_that_may_be_chance_is_not_a_limit_per_client() {
    for (other, own, a_stream_ended) in [(3, 1, false), (2, 0, false), (3, 0, true)] {
        let mut measured = refused();
        measured.other_address = Some(OtherAddress { other: tries(other), own: tries(own), a_stream_ended });
        assert_eq!(limit(&measured), only(LimitKind::Refused), "{other} {own} {a_stream_ended}");
    }
}

/// Idle and keep-alive connections stop the page as streams do.
pub fn connections() -> Measured {
    let mut measured = both_stop(10, staircase(10, &[("/page", Some(10))]));
    measured.waiting = vec![waits(11, WaitPlace::Kernel)];
    measured
}

#[test]
fn idle_and_keep_alive_connections_that_stop_the_page_show_a_connection_limit() {
    assert_eq!(limit(&connections()), (LimitKind::Connections, vec![LimitKind::Descriptors]));
    let mut known = connections();
    known.listeners_at_limit = vec![listener("haproxy", 30, 1024)];
    assert_eq!(limit(&known), only(LimitKind::Connections));
    let mut refusing = known;
    refusing.waiting = vec![ends(11, TabOutcome::Status, Some(503), 0.001)];
    assert_eq!(limit(&refusing), only(LimitKind::Connections));
}

#[test]
fn a_page_that_stops_only_at_twice_as_many_idle_connections_shows_a_connection_limit() {
    let mut measured = connections();
    measured.idle = vec![held(10, &[("/page", true)]), held(20, &[("/page", false)])];
    assert_eq!(limit(&measured).0, LimitKind::Connections);
}

#[test]
fn idle_connections_that_are_closed_for_a_page_show_a_connection_limit() {
    let mut measured = connections();
    measured.idle = vec![HeldConnections { open_after: 9, ..held(10, &[("/page", true)]) }];
    measured.kept = Some(closed_first(10));
    assert_eq!(limit(&measured).0, LimitKind::Connections);
}

#[test]
fn pages_that_are_closed_immediately_show_a_connection_limit() {
    let mut measured = neither_stops(10, staircase(10, &[("/page", Some(10)), ("/up", Some(10))]));
    let closed = |path| failed(path, PageOutcome::Closed, ms(1));
    measured.climbs[0].tabs[9].pages = vec![closed("/page"), closed("/up")];
    measured.waiting = vec![ends(11, TabOutcome::Closed, None, 0.001)];
    assert_eq!(limit(&measured).0, LimitKind::Connections);
    // If one path answers, the server reads requests before it refuses them, so it does not count connections.
    measured.climbs[0].tabs[9].pages = vec![closed("/page"), answered("/up")];
    assert_eq!(limit(&measured), only(LimitKind::Refused));
}

#[test]
fn idle_connections_alone_hold_workers() {
    let mut measured = connections();
    measured.kept = Some(held(10, &[("/page", true)]));
    assert_eq!(limit(&measured), only(LimitKind::Workers));
    measured.kept = Some(closed_first(10));
    assert_eq!(limit(&measured), (LimitKind::Workers, vec![LimitKind::Connections]));
}

#[test]
fn keep_alive_connections_alone_hold_workers() {
    let mut measured = connections();
    measured.idle = vec![held(10, &[("/page", true)])];
    assert_eq!(limit(&measured), only(LimitKind::Workers));
}

#[test]
fn a_page_that_waits_until_workers_drop_idle_connections_shows_workers() {
    let mut measured = connections();
    let mut idle = HeldConnections { open_after: 6, ..held(10, &[("/page", true)]) };
    idle.pages[0].1.time = secs(1.7);
    measured.idle = vec![idle];
    measured.kept = Some(held(10, &[("/page", true)]));
    assert_eq!(limit(&measured), only(LimitKind::Workers));
}

#[test]
fn a_connection_limit_of_a_process_without_free_descriptors_is_its_descriptors() {
    let mut measured = connections();
    measured.listeners_at_limit = vec![listener("master", 8, 1024), listener("puma", 38, 40)];
    assert_eq!(limit(&measured), only(LimitKind::Descriptors));
    measured.listeners_at_limit = vec![listener("puma", 37, 40)];
    assert_eq!(limit(&measured), only(LimitKind::Connections));
}

#[test]
fn workers_of_a_process_without_free_descriptors_are_still_workers() {
    let mut measured = neither_stops(10, connections());
    measured.listeners_at_limit = vec![listener("puma", 39, 40)];
    assert_eq!(limit(&measured), only(LimitKind::Workers));
}

#[test]
fn a_page_that_only_a_cache_answers_has_stopped() {
    let mut measured = neither_stops(4, staircase(4, &[("/page", None)]));
    measured.waiting = vec![waits(5, WaitPlace::Read)];
    assert_eq!(limit(&measured), only(LimitKind::StreamCapWaits));
    measured.uncached_pages = vec![UncachedPage { path: "/page".to_owned(), plain: true, uncached: true }];
    assert_eq!(limit(&measured), only(LimitKind::StreamCapWaits));
    measured.uncached_pages[0].uncached = false;
    assert_eq!(limit(&measured), only(LimitKind::Workers));
}

#[test]
fn a_page_that_stops_in_a_later_climb_has_stopped() {
    let mut measured = neither_stops(4, staircase(4, &[("/page", None)]));
    measured.waiting = vec![waits(5, WaitPlace::Read)];
    measured.climbs.extend(staircase(3, &[("/page", Some(3))]).climbs);
    assert_eq!(limit(&measured), only(LimitKind::Workers));
}

#[test]
fn tabs_that_end_late_while_pages_answer_show_a_limit_on_streams_only() {
    let mut measured = neither_stops(4, staircase(4, &[("/page", None)]));
    measured.waiting = [3.0, 3.0].map(|after| ends(5, TabOutcome::Status, Some(503), after)).to_vec();
    assert_eq!(limit(&measured), (LimitKind::StreamCapWaits, vec![LimitKind::QueueTimeout]));
}

/// 40 streams run, each with an event every 1.9 s instead of every 1.0 s.
pub fn shared_slots() -> Measured {
    let mut measured = without_limit(40, &[("/page", None)]);
    measured.crowded_gaps = [1.7, 1.8, 1.9, 1.9, 2.0].map(secs).to_vec();
    measured.lone_gaps = [1.0, 1.01].map(secs).to_vec();
    measured
}

#[test]
fn gaps_that_grow_with_the_tabs_are_shared_slots() {
    let measured = shared_slots();
    assert_eq!(limit(&measured), only(LimitKind::SharedSlots));
    let findings = infer(&measured);
    assert_eq!(findings.limit.as_ref().unwrap().evidence["slots"], 21);
    assert_eq!(
        verdict(&measured, &findings),
        "40 streams run at the same time, but they share about 21 slots: each gets an event every 1.9 s, a lone one \
         every 1.0 s."
    );
}

#[test]
fn gaps_of_a_busy_machine_are_not_shared_slots() {
    let mut measured = shared_slots();
    measured.lone_gaps = [1.0, 1.9].map(secs).to_vec();
    assert_eq!(limit(&measured), only(LimitKind::NoneFound));
    let mut measured = shared_slots();
    measured.crowded_gaps = vec![secs(1.1); 5];
    assert_eq!(limit(&measured), only(LimitKind::NoneFound));
}

#[test]
fn a_second_connection_that_carries_a_stream_shows_the_limit_of_http2() {
    let mut measured = without_limit(40, &[("/page", None)]);
    let http2 = Http2 {
        announced: Some(8),
        reached: 8,
        stopped_by: Some(Http2Stop::Settings),
        second_connection: Some(true),
        ..Http2::default()
    };
    measured.http2 = Some(http2.clone());
    assert_eq!(limit(&measured), only(LimitKind::Http2Streams));
    measured.http2 = Some(Http2 { announced: Some(128), reached: 40, stopped_by: None, ..http2.clone() });
    assert_eq!(limit(&measured), only(LimitKind::NoneFound));
    measured.http2 = Some(Http2 { second_connection: Some(false), ..http2 });
    assert_eq!(limit(&measured), only(LimitKind::NoneFound));
}

#[test]
fn a_verdict_without_a_limit_mentions_slower_pages() {
    let mut measured = without_limit(40, &[("/page", None)]);
    measured.climbs[0].tabs[39].pages[0].asks[0].time = ms(57);
    let findings = infer(&measured);
    assert_eq!(findings.limit.as_ref().unwrap().evidence["slower"], true);
    assert_eq!(
        verdict(&measured, &findings),
        "40 streams run at the same time, and every page answers, though more slowly."
    );
    measured.climbs[0].tabs[39].pages[0].asks[0].time = ms(56);
    assert_eq!(infer(&measured).limit.unwrap().evidence["slower"], false);
}

#[test]
fn a_page_that_stops_while_all_tabs_stream_is_a_limit() {
    let measured = without_limit(40, &[("/page", Some(8)), ("/up", None)]);
    assert_eq!(limit(&measured).0, LimitKind::Workers);
}
