//! The measurements of ten real setups, and the findings that they must give.

use super::super::{Findings, LimitKind, NoteKind, infer, is_measured, verdict};
use super::literals::*;
use crate::lab::probe::measured::{
    CutHow, Free, LatePage, Measured, OtherAddress, PageOutcome, ProbedTab, SlotReturn, Statistics,
    StatsMoment, TabOutcome, WaitPlace,
};

/// The kind of the limit, its second readings and the notes. Also checks that the run counts as measured.
fn found(measured: &Measured) -> (LimitKind, Vec<LimitKind>, Vec<NoteKind>, Findings) {
    let findings = infer(measured);
    assert_eq!(is_measured(measured, &findings), Ok(()));
    let kind = findings.limit.as_ref().unwrap().kind;
    let notes = findings.notes.iter().map(|note| note.kind).collect();
    (kind, findings.or.clone(), notes, findings)
}

/// Sets the first event of each tab.
fn first_events(measured: &mut Measured, milliseconds: &[u64]) {
    for (tab, time) in measured.climbs[0].tabs.iter_mut().zip(milliseconds.iter().cycle()) {
        tab.first_event = Some(ms(*time));
    }
}

#[test]
fn node_holds_all_tabs() {
    let measured = without_limit(40, &[("/page", None)]);
    let (kind, or, notes, findings) = found(&measured);
    assert_eq!((kind, or), (LimitKind::NoneFound, vec![]));
    assert_eq!(notes, [NoteKind::BrowsersSix]);
    assert_eq!(verdict(&measured, &findings), "40 streams run at the same time, and every page answers.");
    assert!(findings.limit.unwrap().remedy.contains("six connections"));
}

#[test]
fn puma5_is_out_of_workers() {
    let mut measured = neither_stops(5, staircase(5, &[("/page", Some(5))]));
    first_events(&mut measured, &[204, 208, 206, 219, 205]);
    measured.waiting = vec![waits(6, WaitPlace::Kernel), waits(7, WaitPlace::Kernel)];
    measured.crowded_gaps = vec![secs(1.0); 20];
    measured.lone_gaps = vec![secs(1.0); 2];
    measured.slot_returns = slots(&[1.9, 1.2, 0.7]);
    measured.free = Some(Free { page: Some(secs(1.2)), stream: Some(secs(1.5)) });
    measured.statistics = puma(5, 0);
    let (kind, or, notes, findings) = found(&measured);
    assert_eq!((kind, or), (LimitKind::Workers, vec![]));
    assert_eq!(notes, [NoteKind::LateFirstEvent, NoteKind::SlotReturn]);
    assert!(!findings.behind);
    let slot = findings.note(NoteKind::SlotReturn).unwrap();
    assert_eq!(slot.evidence["class"], "at-a-write");
    assert_eq!((slot.fix, slot.act), (Some("reaper"), Some(2)));
    let late = findings.note(NoteKind::LateFirstEvent).unwrap();
    assert_eq!(late.text, "204-219 ms in each tab; Puma delays it by 200 ms (TCP_CORK).");
    assert_eq!(verdict(&measured, &findings), "5 streams at the same time; pages answer beside 4 of them.");
    let limit = findings.limit.unwrap();
    assert_eq!(limit.text, "The sixth tab and /page wait in the kernel until a stream ends.");
    assert_eq!((limit.act, limit.fix), (Some(1), Some("reaper")));
    assert_eq!(limit.evidence["waits"], "kernel");
}

#[test]
fn gthread4_is_out_of_workers_and_idle_connections_hold_one_each() {
    let mut measured = staircase(4, &[("/page", Some(4))]);
    measured.target.server = Some("gunicorn".to_owned());
    measured.waiting = vec![waits(5, WaitPlace::Unread), waits(6, WaitPlace::Unread)];
    measured.idle = vec![held(4, &[("/page", false)])];
    measured.kept = Some(held(4, &[("/page", true)]));
    measured.lone_gaps = vec![secs(1.0); 2];
    measured.slot_returns = slots(&[1.9, 1.2, 0.7]);
    let (kind, or, notes, findings) = found(&measured);
    assert_eq!((kind, or), (LimitKind::Workers, vec![]));
    assert_eq!(notes, [NoteKind::SlotReturn]);
    let limit = findings.limit.unwrap();
    assert_eq!(limit.remedy, "More workers, or threads: gunicorn -k gthread --threads N.");
    assert_eq!((&limit.evidence["waits"], &limit.evidence["idle_stop"]), (&"unread".into(), &true.into()));
}

#[test]
fn waitress4_is_out_of_workers_and_notices_at_the_third_write() {
    let mut measured = neither_stops(4, staircase(4, &[("/page", Some(4))]));
    measured.target.server = Some("waitress".to_owned());
    measured.waiting = vec![waits(5, WaitPlace::Read)];
    measured.crowded_gaps = vec![secs(1.001); 20];
    measured.lone_gaps = vec![secs(1.0); 2];
    measured.slot_returns = slots(&[3.6, 2.9, 1.5]);
    let (kind, or, notes, findings) = found(&measured);
    assert_eq!((kind, or), (LimitKind::Workers, vec![]));
    assert_eq!(notes, [NoteKind::SlotReturn]);
    assert_eq!(findings.note(NoteKind::SlotReturn).unwrap().evidence["class"], "at-a-write");
}

#[test]
fn gsync3_t8_is_out_of_workers_or_connections_and_cuts() {
    let mut measured = staircase(3, &[("/page", Some(3))]);
    measured.target.server = Some("gunicorn".to_owned());
    let took_over = |number, after| ProbedTab {
        first_event: Some(secs(after)),
        outcome: TabOutcome::Flows,
        status: Some(200),
        saw_a_cut: true,
        ..waits(number, WaitPlace::Kernel)
    };
    measured.waiting = vec![took_over(4, 6.9), took_over(5, 4.1)];
    measured.cuts = [(1, 9.4, 9.1), (2, 9.4, 8.6), (3, 9.4, 8.2), (4, 18.9, 9.5), (5, 19.2, 9.8)]
        .map(|(tab, at, age)| cut(tab, at, age, CutHow::Abrupt))
        .to_vec();
    measured.idle = vec![held(3, &[("/page", false)])];
    measured.kept = Some(closed_first(3));
    measured.slot_returns =
        slots(&[0.5, 0.7]).into_iter().map(|slot| SlotReturn { is_void: true, ..slot }).collect();
    measured.free = Some(Free { page: Some(ms(5)), stream: Some(ms(4)) });
    let (kind, or, notes, findings) = found(&measured);
    assert_eq!((kind, or), (LimitKind::Workers, vec![LimitKind::Connections]));
    assert_eq!(notes, [NoteKind::Cut]);
    let note = findings.note(NoteKind::Cut).unwrap();
    assert_eq!(note.text, "5 of 5 at 8.2-9.8 s, abrupt.");
    assert!(note.remedy.starts_with("gunicorn's --timeout kills a worker"), "{}", note.remedy);
    assert_eq!(
        verdict(&measured, &findings),
        "3 streams at a time; pages answer beside 2. Each is cut off after 8 to 10 s."
    );
    let text = findings.limit.unwrap().text;
    assert_eq!(text, "The fourth tab and /page wait in the kernel until a stream ends.");
}

#[test]
fn flask_dev_1_serves_one_at_a_time() {
    let mut measured = neither_stops(1, staircase(1, &[("/page", Some(1))]));
    measured.target.server = Some("Werkzeug/3.0.1 Python/3.11.2".to_owned());
    measured.waiting = vec![waits(2, WaitPlace::Kernel)];
    measured.lone_gaps = vec![secs(1.0); 2];
    measured.slot_returns = slots(&[1.9, 1.2, 0.7]);
    let (kind, or, notes, findings) = found(&measured);
    assert_eq!((kind, or), (LimitKind::OneAtATime, vec![]));
    assert_eq!(notes, [NoteKind::SlotReturn]);
    assert_eq!(verdict(&measured, &findings), "1 stream at a time; no page answers beside it.");
    assert!(findings.limit.unwrap().remedy.contains("threaded=True"));
}

/// If there are as many database connections as threads, the threads are the limit. A tab that gets a thread once a
/// stream is closed may still find no free database connection.
#[test]
fn a_tab_whose_request_was_not_read_waited_for_a_thread_whatever_it_got_later() {
    let mut measured = neither_stops(8, staircase(8, &[("/page", Some(8)), ("/up", Some(8))]));
    measured.waiting =
        vec![ProbedTab { place: Some(WaitPlace::Kernel), ..ends(9, TabOutcome::Empty, Some(200), 22.06) }];
    let late = ask(PageOutcome::Status(500), secs(21.9));
    measured.late_page =
        Some(LatePage { path: "/page".to_owned(), ask: late, is_from_another_sender: false });
    measured.statistics = puma(8, 0);
    let (kind, or, _, findings) = found(&measured);
    assert_eq!((kind, or), (LimitKind::Workers, vec![]));
    let limit = findings.limit.unwrap();
    assert_eq!(limit.text, "The ninth tab, /page and /up wait in the kernel until a stream ends.");
    assert!(limit.remedy.starts_with("More threads than 8 "), "{}", limit.remedy);
}

/// The measurements of `rails-db5`. Other tests modify them.
pub fn rails_db5() -> Measured {
    let mut measured = neither_stops(5, staircase(5, &[("/page", Some(5)), ("/up", None)]));
    first_events(&mut measured, &[204, 208, 206, 219, 205]);
    let empty = |number, after| ProbedTab {
        place: Some(WaitPlace::Read),
        pages: vec![answered("/up")],
        ..ends(number, TabOutcome::Empty, Some(200), after)
    };
    measured.waiting = vec![empty(6, 5.02), empty(7, 5.01), empty(8, 5.03)];
    let late = ask(PageOutcome::Status(500), secs(5.01));
    measured.late_page =
        Some(LatePage { path: "/page".to_owned(), ask: late, is_from_another_sender: false });
    measured.statistics = puma(8, 3);
    measured.lone_gaps = vec![secs(1.0); 2];
    measured.slot_returns = slots(&[5.4, 5.4, 5.4]);
    for slot in &mut measured.slot_returns {
        slot.ends_between = 1;
    }
    measured.free = Some(Free { page: Some(secs(5.3)), stream: Some(secs(5.5)) });
    measured
}

#[test]
fn rails_db5_is_out_of_database_connections() {
    let measured = rails_db5();
    let (kind, or, notes, findings) = found(&measured);
    assert_eq!((kind, or), (LimitKind::DatabasePool, vec![]));
    assert_eq!(notes, [NoteKind::LateFirstEvent, NoteKind::SlotReturn, NoteKind::StatsDisagree]);
    assert_eq!(
        verdict(&measured, &findings),
        "5 streams at the same time; pages that use the database answer beside 4 of them."
    );
    assert_eq!(
        findings.note(NoteKind::StatsDisagree).unwrap().text,
        "Puma reports 3 idle threads while the next tab waits."
    );
    assert!(findings.behind && !findings.is_proxied, "/up answers because it does not use the database");
    let slot = findings.note(NoteKind::SlotReturn).unwrap();
    assert_eq!((&slot.evidence["class"], &slot.evidence["ends_between"]), (&"slow".into(), &1.into()));
    let limit = findings.limit.unwrap();
    assert_eq!(
        limit.text,
        "The next tab waits 5.0 s and gets an empty 200. /page fails after the same 5.0 s, /up answers, and Puma has 3 \
         idle threads. Each stream holds a database connection."
    );
    assert_eq!(
        (limit.act, limit.fix, limit.see.as_deref()),
        (Some(6), None, Some("ninetabs reproduce --act 6"))
    );
    assert!(limit.remedy.contains("database.yml"), "{}", limit.remedy);
    assert_eq!((&limit.evidence["t_s"], &limit.evidence["outcome"]), (&5.02.into(), &"empty".into()));
}

#[test]
fn nginx_default_buffers_and_hides_the_workers() {
    let mut measured = blind(5, &[("/page", Some(5)), ("/static", None)]);
    measured.target.server = Some("nginx".to_owned());
    measured.waiting = vec![ProbedTab { outcome: TabOutcome::Waits, ..waits(6, WaitPlace::Read) }];
    measured.waiting[0].pages = vec![answered("/static")];
    let free = held(5, &[("/page", true), ("/static", true)]);
    measured.idle = vec![free.clone()];
    measured.kept = Some(free);
    measured.free = Some(Free { page: Some(secs(1.0)), stream: None });
    let (kind, or, notes, findings) = found(&measured);
    assert_eq!((kind, or), (LimitKind::Workers, vec![]));
    assert!(findings.behind && findings.is_proxied);
    assert_eq!(notes, [NoteKind::Buffered]);
    assert_eq!(verdict(&measured, &findings), "No stream delivers an event, yet 5 of them stop the pages.");
    let buffered = findings.note(NoteKind::Buffered).unwrap();
    assert_eq!(buffered.text, "the application runs the streams, and nothing reaches the client.");
    assert!(buffered.remedy.starts_with("Send X-Accel-Buffering: no"), "{}", buffered.remedy);
    assert_eq!(findings.limit.unwrap().text, "/page stops at the fifth stream; /static never does.");
}

#[test]
fn nginx_limitconn4_refuses_per_client() {
    let mut measured = staircase(4, &[("/page", Some(4)), ("/static", None)]);
    measured.target.server = Some("nginx".to_owned());
    measured.climbs[0].tabs[3].pages =
        vec![answered("/static"), failed("/page", PageOutcome::Status(503), ms(1))];
    let refused = |number| ProbedTab {
        pages: vec![answered("/static")],
        ..ends(number, TabOutcome::Status, Some(503), 0.002)
    };
    measured.waiting = (5..8).map(refused).collect();
    measured.other_address = Some(OtherAddress { other: tries(3), own: tries(0), a_stream_ended: false });
    measured = Measured { ..neither_stops(4, measured) };
    measured.slot_returns = slots(&[0.003, 0.002, 0.002]);
    let (kind, or, notes, findings) = found(&measured);
    assert_eq!((kind, or), (LimitKind::RefusedPerClient, vec![]));
    assert_eq!(notes, [NoteKind::SlotReturn]);
    assert_eq!(findings.note(NoteKind::SlotReturn).unwrap().evidence["class"], "at-once");
    assert_eq!(
        verdict(&measured, &findings),
        "4 streams at the same time; /page answers beside 3 of them, and /static always answers."
    );
    let limit = findings.limit.unwrap();
    assert_eq!(limit.fix, Some("shared-worker"));
    assert!(limit.remedy.contains("limit_conn"), "{}", limit.remedy);
}

#[test]
fn puma5_fd40_is_out_of_descriptors() {
    let mut measured = both_stop(26, staircase(26, &[("/page", Some(26))]));
    first_events(&mut measured, &[204, 208, 206, 219, 205]);
    measured.waiting = vec![waits(27, WaitPlace::Kernel), waits(28, WaitPlace::Kernel)];
    measured.listeners_before = vec![listener("puma 5.6.5", 14, 40)];
    measured.listeners_at_limit = vec![listener("puma 5.6.5", 40, 40)];
    measured.statistics = puma(60, 34);
    measured.statistics[1] = Statistics { moment: StatsMoment::AtLimit, figures: None };
    let (kind, or, notes, findings) = found(&measured);
    assert_eq!((kind, or), (LimitKind::Descriptors, vec![]));
    assert_eq!(notes, [NoteKind::LateFirstEvent, NoteKind::StatsSilent, NoteKind::BrowsersSix]);
    let limit = findings.limit.unwrap();
    assert!(limit.text.contains("40 of 40 descriptors"), "{}", limit.text);
    assert!(limit.remedy.contains("LimitNOFILE="), "{}", limit.remedy);
}

#[test]
fn streams_that_are_cut_within_a_second_have_one_age() {
    let mut measured = neither_stops(5, staircase(5, &[("/page", Some(5))]));
    measured.waiting = vec![waits(6, WaitPlace::Kernel)];
    measured.cuts = [30.0, 30.1, 30.4].map(|age| cut(1, 35.0 + age, age, CutHow::Clean)).to_vec();
    let findings = infer(&measured);
    let text = verdict(&measured, &findings);
    assert_eq!(text, "5 streams at a time; pages answer beside 4. Each is cut off after about 30 s.");
}
