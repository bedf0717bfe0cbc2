//! Runs in which nothing was measured.

use super::super::{LimitKind, NotMeasured, NoteKind, infer, is_measured, verdict};
use super::literals::*;
use crate::lab::probe::measured::{LateEvents, Measured, SharedStream, Stopped};

/// The reason why nothing was measured. Also checks that the verdict contains it.
fn why(measured: &Measured) -> NotMeasured {
    let findings = infer(measured);
    assert_eq!(findings.limit, None);
    let why = is_measured(measured, &findings).unwrap_err();
    assert!(why.to_string().starts_with("cannot "), "{why}");
    assert_eq!(verdict(measured, &findings), format!("Nothing was measured: {why}."));
    why
}

#[test]
fn a_run_that_stopped_early_is_not_measured() {
    let text = || "connection refused".to_owned();
    let cases = [
        (Stopped::Interrupted, "interrupted"),
        (Stopped::UnstablePage { path: "/page".to_owned(), answers: "200, 500, 502".to_owned() }, "--page"),
        (Stopped::Unreachable { why: text() }, "connection refused"),
        (Stopped::NotAStream { what: "404 text/html".to_owned() }, "404 text/html"),
        (Stopped::Certificate { why: text() }, "--insecure"),
        (Stopped::StreamsFinish { after: secs(2.0) }, "at least 30 s"),
        (Stopped::OwnLimit { why: text(), held: 200 }, "200 connections"),
    ];
    for (stopped, words) in cases {
        let mut measured = without_limit(3, &[("/page", None)]);
        measured.stopped = Some(stopped);
        assert!(why(&measured).to_string().contains(words), "{}", why(&measured));
    }
    assert_eq!(why(&Measured::default()), NotMeasured::NoTab);
}

#[test]
fn a_run_without_events_in_which_every_page_answers_is_not_measured() {
    let mut measured = blind(40, &[("/page", None)]);
    assert!(matches!(why(&measured), NotMeasured::NothingFlows { tabs: 40, .. }));
    assert!(why(&measured).to_string().contains("--patience 60"));
    assert_eq!(infer(&measured).notes, []);
    measured.late_events = Some(LateEvents { after: secs(14.0), at_once: 14 });
    assert!(infer(&measured).note(NoteKind::Buffered).is_some());
    why(&measured);
}

#[test]
fn a_cached_stream_is_not_measured() {
    let mut measured = without_limit(40, &[("/page", None)]);
    measured.target.names_a_cache = true;
    let shared =
        SharedStream { events_at_once: 12, events_of_the_first: 12, a_new_address_begins_anew: Some(true) };
    measured.shared_stream = Some(shared);
    assert!(why(&measured).to_string().contains("{tab}"));
    assert!(infer(&measured).note(NoteKind::Cached).is_some());
    // If a new address gets the old events as well, the application replays its history, and no cache is involved.
    measured.shared_stream = Some(SharedStream { a_new_address_begins_anew: Some(false), ..shared });
    assert_eq!(infer(&measured).limit.unwrap().kind, LimitKind::NoneFound);
    measured.shared_stream = Some(SharedStream { a_new_address_begins_anew: None, ..shared });
    measured.target.names_a_cache = false;
    assert_eq!(infer(&measured).limit.unwrap().kind, LimitKind::NoneFound);
    assert!(infer(&measured).note(NoteKind::Cached).is_none());
}

#[test]
fn the_notes_name_what_stopped_the_run() {
    let cases = [
        (Stopped::OwnLimit { why: "EMFILE".to_owned(), held: 9 }, NoteKind::OwnLimit),
        (Stopped::NotAStream { what: "200 text/html".to_owned() }, NoteKind::NotAStream),
        (Stopped::Unreachable { why: "refused".to_owned() }, NoteKind::Unreachable),
    ];
    for (stopped, kind) in cases {
        let measured = Measured { stopped: Some(stopped), ..Measured::default() };
        let kinds: Vec<NoteKind> = infer(&measured).notes.iter().map(|note| note.kind).collect();
        assert_eq!(kinds, [kind]);
    }
    let measured = Measured { stopped: Some(Stopped::Interrupted), ..Measured::default() };
    assert_eq!(infer(&measured).notes, []);
}

#[test]
fn our_own_limit_does_not_hide_a_server_limit_that_was_found_before() {
    let mut measured = neither_stops(4, staircase(4, &[("/page", Some(4))]));
    measured.waiting = vec![waits(5, crate::lab::probe::measured::WaitPlace::Kernel)];
    measured.stopped = Some(Stopped::OwnLimit { why: "EMFILE".to_owned(), held: 9 });
    let findings = infer(&measured);
    assert_eq!(findings.limit.as_ref().unwrap().kind, LimitKind::Workers);
    assert!(findings.note(NoteKind::OwnLimit).is_some());
}

#[test]
fn the_advice_names_a_cookie_that_was_not_given() {
    let mut measured = without_limit(40, &[("/page", None)]);
    measured.target.sets_cookies = vec!["_shop_session".to_owned()];
    let advice = infer(&measured).advice;
    assert_eq!(advice.len(), 1);
    assert!(advice[0].contains("--cookie '_shop_session=VALUE'"), "{}", advice[0]);
    measured.target.has_cookie = true;
    assert_eq!(infer(&measured).advice, Vec::<String>::new());
}

#[test]
fn a_cookie_name_cannot_break_out_of_the_quotes_in_the_proposed_command() {
    let mut measured = without_limit(3, &[("/page", None)]);
    measured.target.sets_cookies = vec![String::new(), "a'$(reboot)'".to_owned()];
    let advice = infer(&measured).advice;
    assert!(advice[0].contains(r"--cookie 'a'\''$(reboot)'\''=VALUE'"), "{advice:?}");
}
