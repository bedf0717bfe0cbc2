//! For every note, a run for which it is found and a similar run for which it is not.

use super::super::{Finding, NoteKind, infer, verdict};
use super::limits::{connections, refused, shared_slots};
use super::literals::*;
use super::ten_cases::rails_db5;
use crate::lab::probe::measured::{
    Climb, Compression, Cut, CutHow, Free, Http10, LateEvents, Measured, ProbedTab, SlotReturn, Statistics,
    StatsMoment, Stopped, TabOutcome, UncachedPage, WaitPlace, Zombies,
};

fn note(measured: &Measured, kind: NoteKind) -> Option<Finding<NoteKind>> {
    let findings = infer(measured);
    for note in &findings.notes {
        assert!(note.text.ends_with('.'), "{}: {}", note.kind, note.text);
    }
    assert!(findings.notes.iter().map(|note| note.kind).is_sorted());
    findings.notes.into_iter().find(|note| note.kind == kind)
}

#[track_caller]
fn has(measured: &Measured, kind: NoteKind) {
    assert!(note(measured, kind).is_some(), "{kind} is missing");
}

#[track_caller]
fn has_not(measured: &Measured, kind: NoteKind) {
    assert_eq!(note(measured, kind), None, "{kind}");
}

fn text(measured: &Measured, kind: NoteKind) -> String {
    note(measured, kind).unwrap().text
}

/// Four streams, a page that stops beside the fourth, and a tab that waits.
fn four() -> Measured {
    let mut measured = neither_stops(4, staircase(4, &[("/page", Some(4))]));
    measured.waiting = vec![waits(5, WaitPlace::Kernel)];
    measured
}

#[test]
fn several_events_together_after_a_silence_were_buffered() {
    let mut measured = blind(40, &[("/page", None)]);
    measured.late_events = Some(LateEvents { after: secs(14.0), at_once: 14 });
    has(&measured, NoteKind::Buffered);
    has_not(&measured, NoteKind::Quiet);
}

#[test]
fn one_event_after_a_silence_is_quiet() {
    let mut measured = blind(40, &[("/page", None)]);
    measured.late_events = Some(LateEvents { after: secs(14.0), at_once: 1 });
    assert_eq!(text(&measured, NoteKind::Quiet), "the first event arrives alone after 14.0 s.");
    has_not(&measured, NoteKind::Buffered);
}

#[test]
fn a_page_that_stops_beside_streams_with_events_is_not_a_sign_of_buffering() {
    has_not(&four(), NoteKind::Buffered);
}

/// Four streams, and one that accepts gzip and gets its first event after this many milliseconds.
fn gzip(first_event: Option<u64>) -> Measured {
    let compression = Compression {
        accepted: "gzip".to_owned(),
        coding: Some("gzip".to_owned()),
        first_event: first_event.map(ms),
        within: secs(5.0),
        identity_flows: true,
        bytes: 10,
    };
    Measured { compression: Some(compression), ..four() }
}

#[test]
fn a_gzip_header_without_an_event_is_compressed() {
    has(&gzip(None), NoteKind::Compressed);
    has_not(&gzip(Some(40)), NoteKind::Compressed);
    let mut blind = gzip(None);
    blind.compression.as_mut().unwrap().identity_flows = false;
    has_not(&blind, NoteKind::Compressed);
    let mut identity = gzip(None);
    identity.compression.as_mut().unwrap().accepted = "identity".to_owned();
    has_not(&identity, NoteKind::Compressed);
}

#[test]
fn arrivals_of_the_size_of_a_buffer_are_lumps() {
    let with = |arrivals: &[usize]| Measured { arrivals: arrivals.to_vec(), ..four() };
    has(&with(&[4096, 4090, 100, 4112]), NoteKind::Lumps);
    has(&with(&[8192, 8180, 8200]), NoteKind::Lumps);
    has_not(&with(&[4096, 8192, 12_288]), NoteKind::Lumps);
    has_not(&with(&[4096, 4096, 4113]), NoteKind::Lumps);
    has_not(&with(&[1000, 1000, 1000, 1, 0]), NoteKind::Lumps);
}

/// The first events of four tabs.
fn first_events(times: [u64; 4]) -> Measured {
    let mut measured = four();
    for (tab, time) in measured.climbs[0].tabs.iter_mut().zip(times) {
        tab.first_event = Some(ms(time));
    }
    measured
}

#[test]
fn the_same_delay_in_each_of_the_first_tabs_is_late() {
    assert_eq!(
        text(&first_events([200, 210, 205, 207]), NoteKind::LateFirstEvent),
        "200-210 ms in each tab."
    );
    has_not(&first_events([20, 21, 22, 23]), NoteKind::LateFirstEvent);
    has_not(&first_events([30, 40, 50, 60]), NoteKind::LateFirstEvent);
    has_not(&first_events([2, 210, 205, 207]), NoteKind::LateFirstEvent);
}

#[test]
fn tabs_that_took_longer_once_show_growth() {
    assert_eq!(
        text(&first_events([10, 900, 12, 11]), NoteKind::Grows),
        "tab 2 took up to 900 ms; later ones did not."
    );
    // A slow last tab may be due to the limit, a short delay is noise, and the same delay in every tab is not growth.
    has_not(&first_events([10, 11, 12, 900]), NoteKind::Grows);
    has_not(&first_events([10, 190, 12, 11]), NoteKind::Grows);
    has_not(&first_events([200, 210, 205, 207]), NoteKind::Grows);
}

#[test]
fn tabs_that_wait_for_a_shared_slot_do_not_show_growth() {
    let uneven = |mut measured: Measured| {
        measured.climbs[0].tabs[20].first_event = Some(ms(600));
        measured
    };
    has(&uneven(without_limit(40, &[("/page", None)])), NoteKind::Grows);
    has_not(&uneven(shared_slots()), NoteKind::Grows);
}

#[test]
fn a_page_that_took_longer_once_shows_growth() {
    let mut measured = four();
    measured.climbs[0].tabs[1].pages[0].asks[0].time = ms(400);
    assert_eq!(
        text(&measured, NoteKind::Grows),
        "tab 2, or /page at the same time, took up to 400 ms; later ones did not."
    );
}

fn cuts(ages: &[f64], how: CutHow) -> Measured {
    let cuts = ages.iter().enumerate().map(|(index, age)| cut(index + 1, 30.0 + index as f64, *age, how));
    Measured { cuts: cuts.collect(), ..four() }
}

#[test]
fn streams_that_end_at_one_age_are_cut() {
    assert_eq!(
        text(&cuts(&[30.0, 30.1, 12.0], CutHow::Clean), NoteKind::Cut),
        "2 of 3 at 30.0-30.1 s, clean."
    );
    has_not(&cuts(&[30.0, 12.0], CutHow::Abrupt), NoteKind::Cut);
    has_not(&cuts(&[30.0], CutHow::Abrupt), NoteKind::Cut);
    let finished = note(&cuts(&[30.0, 30.0], CutHow::Finished), NoteKind::Cut).unwrap();
    assert_eq!(finished.evidence["how"], "finished");
}

#[test]
fn the_verdict_says_that_each_stream_is_cut_only_if_all_are() {
    let said = |ages: &[f64]| {
        let measured = cuts(ages, CutHow::Abrupt);
        verdict(&measured, &infer(&measured))
    };
    assert!(said(&[30.0, 30.1]).ends_with(" Each is cut off after about 30 s."), "{}", said(&[30.0, 30.1]));
    assert!(said(&[0.3, 0.3]).ends_with(" Each is cut off after about 300 ms."), "{}", said(&[0.3, 0.3]));
    let some = said(&[30.0, 30.1, 12.0]);
    assert!(
        some.ends_with(" Of 3 streams that the server ended, 2 were cut off after about 30 s."),
        "{some}"
    );
}

#[test]
fn a_cut_after_a_retry_or_a_comment_is_reported_as_polite() {
    let mut measured = cuts(&[5.0, 5.0], CutHow::Clean);
    measured.cuts = measured.cuts.iter().map(|cut| Cut { is_polite: true, ..*cut }).collect();
    assert_eq!(note(&measured, NoteKind::Cut).unwrap().evidence["polite"], true);
    assert_eq!(text(&measured, NoteKind::Cut), "2 of 2 at 5.0 s, clean, after a `retry:` or a comment.");
}

#[test]
fn the_return_of_a_slot_has_a_class() {
    let class = |after: &[f64]| {
        let measured = Measured { slot_returns: slots(after), lone_gaps: vec![secs(1.0)], ..four() };
        note(&measured, NoteKind::SlotReturn).unwrap().evidence["class"].clone()
    };
    assert_eq!(class(&[0.01, 0.049, 0.02]), "at-once");
    assert_eq!(class(&[2.0, 4.0, 1.0]), "at-a-write");
    assert_eq!(class(&[5.4, 5.4, 5.4]), "slow");
    let mut lost = Measured { slot_returns: slots(&[2.0, 2.0, 2.0]), ..four() };
    lost.slot_returns[1].after = None;
    let found = note(&lost, NoteKind::SlotReturn).unwrap();
    assert_eq!(
        (&found.evidence["class"], &found.evidence["worst_s"]),
        (&"lost".into(), &serde_json::Value::Null)
    );
    assert_eq!(found.text, "1 of 3 slots did not return within 15 s.");
}

#[test]
fn a_void_return_is_not_measured() {
    let void = slots(&[2.0, 2.0]).into_iter().map(|slot| SlotReturn { is_void: true, ..slot });
    has_not(&Measured { slot_returns: void.collect(), ..four() }, NoteKind::SlotReturn);
    has_not(&four(), NoteKind::SlotReturn);
}

#[test]
fn a_page_or_stream_that_is_not_served_afterward_is_a_leak() {
    let free = |page: Option<f64>, stream: Option<f64>| {
        let free = Free { page: page.map(secs), stream: stream.map(secs) };
        Measured { free: Some(free), ..four() }
    };
    has(&free(None, None), NoteKind::Leak);
    has(&free(Some(1.0), None), NoteKind::Leak);
    has_not(&free(Some(11.0), Some(12.0)), NoteKind::Leak);
    has(&Measured { stopped: Some(Stopped::Leak), ..four() }, NoteKind::Leak);
    // If no stream delivers an event, neither does a fresh one, which proves nothing.
    let silent = blind(5, &[("/page", Some(5)), ("/static", None)]);
    has_not(&Measured { free: Some(Free { page: Some(secs(1.0)), stream: None }), ..silent }, NoteKind::Leak);
}

#[test]
fn fewer_streams_after_http_1_0_are_a_leak() {
    let after = |streams| Measured {
        http10: Some(Http10 { flowed: true, streams_after: Some(streams), ..Http10::default() }),
        ..four()
    };
    has(&after(3), NoteKind::Leak);
    has_not(&after(4), NoteKind::Leak);
}

#[test]
fn zombies_stay_or_are_freed() {
    let with = |tab: Option<f64>, page: Option<f64>| {
        let zombies = Zombies {
            n: 4,
            watched: secs(60.0),
            tab: tab.map(secs),
            page: page.map(secs),
            unsent: Some(740),
            free: None,
        };
        Measured { zombies: Some(zombies), ..four() }
    };
    assert_eq!(
        text(&with(None, None), NoteKind::ZombiesStay),
        "4 clients stopped reading; after 60.0 s neither the next tab nor the page was served: the server has not \
         noticed yet, with 740 bytes unsent."
    );
    has_not(&with(None, None), NoteKind::ZombiesFreed);
    has(&with(Some(20.0), Some(20.5)), NoteKind::ZombiesFreed);
    has_not(&with(Some(20.0), Some(20.5)), NoteKind::ZombiesStay);
    let mut none = with(None, None);
    none.zombies = Some(Zombies::default());
    has_not(&none, NoteKind::ZombiesStay);
}

#[test]
fn a_partial_page_or_differing_climbs_show_several_queues() {
    let mut measured = four();
    measured.climbs[0].tabs[1].pages = vec![partial("/page")];
    has(&measured, NoteKind::SeveralQueues);
    has_not(&four(), NoteKind::SeveralQueues);
    let mut climbs = four();
    climbs.climbs.push(Climb { streams: 3, pages_until: 2, met_a_limit: true, ..Climb::default() });
    has(&climbs, NoteKind::SeveralQueues);
    has(&Measured { slot_went_to_a_fresh_tab: true, ..four() }, NoteKind::SeveralQueues);
}

#[test]
fn the_edge_of_a_limit_a_cut_or_a_lost_slot_does_not_show_several_queues() {
    for mut measured in [connections(), refused()] {
        measured.climbs[0].tabs[1].pages = vec![partial("/page")];
        has_not(&measured, NoteKind::SeveralQueues);
    }
    let mut during_a_cut = four();
    during_a_cut.climbs[0].tabs[1].pages = vec![partial("/page")];
    let at = during_a_cut.climbs[0].tabs[1].opened_at.as_secs_f64() + 0.1;
    during_a_cut.cuts = vec![cut(1, at, 0.6, CutHow::Abrupt)];
    has_not(&during_a_cut, NoteKind::SeveralQueues);
    let mut lost = Measured { slot_returns: slots(&[1.0, 1.0]), ..four() };
    lost.slot_returns[0].after = None;
    lost.climbs.push(Climb { streams: 3, pages_until: 2, met_a_limit: true, ..Climb::default() });
    has_not(&lost, NoteKind::SeveralQueues);
}

#[test]
fn a_refusal_after_requests_waited_is_a_full_queue() {
    let mut measured = four();
    measured.waiting.push(ends(6, TabOutcome::Status, Some(503), 0.002));
    assert_eq!(text(&measured, NoteKind::QueueFull), "with 4 requests waiting, tab 6 gets a 503.");
    has_not(&refused(), NoteKind::QueueFull);
    has_not(&four(), NoteKind::QueueFull);
}

#[test]
fn a_handshake_that_does_not_finish_is_a_full_accept_queue() {
    let mut measured = four();
    measured.waiting.push(waits(6, WaitPlace::AcceptQueueFull));
    has(&measured, NoteKind::AcceptQueue);
    has_not(&four(), NoteKind::AcceptQueue);
    // TCP_DEFER_ACCEPT can keep silent connections in the kernel, so they do not show a full accept queue.
    let mut deferred = four();
    deferred.idle[0].place = Some(WaitPlace::AcceptQueueFull);
    has_not(&deferred, NoteKind::AcceptQueue);
    let mut refused = four();
    refused.waiting.push(ends(6, TabOutcome::NotConnected, None, 0.001));
    has(&refused, NoteKind::AcceptQueue);
}

#[test]
fn a_random_parameter_or_a_header_shows_a_cache() {
    let page = |uncached| UncachedPage { path: "/page".to_owned(), plain: true, uncached };
    assert_eq!(
        text(&Measured { uncached_pages: vec![page(false)], ..four() }, NoteKind::Cached),
        "/page answers from a cache only, and not with a random query parameter."
    );
    has_not(&Measured { uncached_pages: vec![page(true)], ..four() }, NoteKind::Cached);
    let mut header = four();
    header.target.names_a_cache = true;
    has(&header, NoteKind::Cached);
}

#[test]
fn a_page_from_a_cache_is_not_said_to_answer_beside_all() {
    let uncached = UncachedPage { path: "/page".to_owned(), plain: true, uncached: false };
    let measured = Measured { uncached_pages: vec![uncached], ..staircase(4, &[("/page", None)]) };
    assert_eq!(
        verdict(&measured, &infer(&measured)),
        "4 streams at the same time; pages answer beside them from a cache only."
    );
}

#[test]
fn a_page_that_one_of_several_queues_answers_is_not_cached() {
    let uncached = UncachedPage { path: "/page".to_owned(), plain: true, uncached: false };
    let mut lucky = Measured { uncached_pages: vec![uncached], ..staircase(4, &[("/page", None)]) };
    has(&lucky, NoteKind::Cached);
    lucky.climbs[0].tabs[2].pages = vec![partial("/page")];
    has_not(&lucky, NoteKind::Cached);
}

#[test]
fn free_threads_while_a_tab_waits_disagree() {
    has(&rails_db5(), NoteKind::StatsDisagree);
    has_not(&Measured { statistics: puma(4, 0), ..four() }, NoteKind::StatsDisagree);
    has_not(&Measured { statistics: puma(8, 4), ..refused() }, NoteKind::StatsDisagree);
}

#[test]
fn a_control_server_that_stops_answering_is_silent() {
    let mut measured = Measured { statistics: puma(4, 0), ..four() };
    measured.statistics[1] = Statistics { moment: StatsMoment::AtLimit, figures: None };
    has(&measured, NoteKind::StatsSilent);
    // A control server that never answered was given with a wrong address.
    measured.statistics[0].figures = None;
    has_not(&measured, NoteKind::StatsSilent);
    has_not(&four(), NoteKind::StatsSilent);
}

#[test]
fn pages_that_answer_beside_six_streams_show_the_limit_of_browsers() {
    let with = |streams| {
        let measured = neither_stops(streams, staircase(streams, &[("/page", Some(streams))]));
        Measured { waiting: vec![waits(streams + 1, WaitPlace::Kernel)], ..measured }
    };
    has(&with(7), NoteKind::BrowsersSix);
    has_not(&with(6), NoteKind::BrowsersSix);
    has(&without_limit(3, &[("/page", None)]), NoteKind::BrowsersSix);
    let mut http2 = without_limit(40, &[("/page", None)]);
    http2.target.http = "2".to_owned();
    has_not(&http2, NoteKind::BrowsersSix);
}

#[test]
fn a_tab_that_took_over_a_slot_is_not_growth() {
    let mut measured = first_events([10, 11, 12, 11]);
    measured.climbs[0].tabs[1] = ProbedTab { saw_a_cut: true, ..flows(2, 2500) };
    has_not(&measured, NoteKind::Grows);
}
