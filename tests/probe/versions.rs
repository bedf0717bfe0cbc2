//! The optional experiments: HTTP/2, HTTP/1.0 and clients that stop reading.

use std::time::Duration;

use ninetabs::lab::probe::findings::{LimitKind, NoteKind};
use ninetabs::lab::probe::measured::Http2Stop;

use super::{Found, app, plan, probe_with};
use crate::common::batch::batch;
use crate::common::scripted::{Beyond, GAP, Http2, Scripted, Slots};

batch! { super::super::BATCH:
    an_announced_maximum_of_http2_streams,
    http2_streams_that_are_refused,
    http2_streams_that_wait,
    a_server_without_http2,
    an_http10_stream_that_keeps_its_slot_forever,
    an_http10_stream_that_keeps_no_slot,
    http10_beside_streams_without_events_is_not_a_leak,
    clients_that_stop_reading_hold_their_slots,
    clients_that_stop_reading_are_cut_off,
    only_clients_that_had_an_event_stop_reading,
    small_events_do_not_show_clients_that_stop_reading,
}

/// Probes a server that has these limits for HTTP/2, and none for HTTP/1.1.
fn probe_http2(limits: Http2) -> Found {
    let server = Scripted::start(move |client| match client.speaks_http2() {
        true => client.http2(limits),
        false => client.each(app),
    });
    let mut plan = plan(&server, &["/page"]);
    plan.http2 = true;
    let found = probe_with(&server, &plan);
    assert_eq!(found.measured.http2.as_ref().and_then(|http2| http2.error.clone()), None, "{found}");
    found
}

fn an_announced_maximum_of_http2_streams() {
    let found = probe_http2(Http2 { announced: Some(4), streams: 100, beyond: Beyond::Refused });
    found.limit(LimitKind::Http2Streams);
    let http2 = found.measured.http2.as_ref().unwrap();
    assert_eq!(
        (http2.announced, http2.reached, http2.stopped_by),
        (Some(4), 4, Some(Http2Stop::Settings)),
        "{found}"
    );
    assert_eq!((http2.second_connection, http2.after_cancel), (Some(true), Some(true)), "{found}");
}

fn http2_streams_that_are_refused() {
    let found = probe_http2(Http2 { announced: None, streams: 4, beyond: Beyond::Refused });
    found.limit(LimitKind::Http2Streams);
    let http2 = found.measured.http2.as_ref().unwrap();
    assert_eq!((http2.reached, http2.stopped_by), (4, Some(Http2Stop::RefusedStream)), "{found}");
    assert_eq!(
        (http2.page, http2.second_connection, http2.after_cancel),
        (Some(true), Some(true), Some(true))
    );
}

/// Neither SETTINGS nor a refusal shows that HTTP/2 is the limit.
fn http2_streams_that_wait() {
    let found = probe_http2(Http2 { announced: Some(100), streams: 4, beyond: Beyond::Waits });
    found.limit(LimitKind::NoneFound);
    let http2 = found.measured.http2.as_ref().unwrap();
    assert_eq!((http2.reached, http2.stopped_by), (4, Some(Http2Stop::Waits)), "{found}");
}

fn a_server_without_http2() {
    let server = Scripted::start(|client| client.each(app));
    let mut plan = plan(&server, &["/page"]);
    plan.http2 = true;
    let found = probe_with(&server, &plan);
    found.counts(8, 8).limit(LimitKind::NoneFound);
    assert!(found.measured.http2.as_ref().is_some_and(|http2| http2.error.is_some()), "{found}");
}

/// A server with four threads. If `it_stays`, an HTTP/1.0 stream keeps its thread after its client has left.
fn probe_http10(it_stays: bool) -> Found {
    let threads = Slots::new(4);
    let server = Scripted::start(move |client| {
        client.each(|client, request| {
            let thread = threads.take();
            let goes_on = app(client, request);
            if it_stays && request.version == "HTTP/1.0" {
                thread.lose();
            }
            goes_on
        });
    });
    let mut plan = plan(&server, &["/page"]);
    plan.http10 = true;
    let found = probe_with(&server, &plan);
    found.counts(4, 3).limit(LimitKind::Workers);
    let asked = server.record.requests();
    let by_http10 = asked.iter().filter(|request| request.version == "HTTP/1.0").count();
    assert_eq!(by_http10, 1, "{found}");
    found.has_slots_again(&server, if it_stays { 3 } else { 4 });
    found
}

fn an_http10_stream_that_keeps_its_slot_forever() {
    let found = probe_http10(true);
    found.note(NoteKind::Leak);
    assert_eq!(found.measured.http10.as_ref().and_then(|it| it.streams_after), Some(3), "{found}");
}

fn an_http10_stream_that_keeps_no_slot() {
    let found = probe_http10(false);
    found.no_note(NoteKind::Leak);
    assert_eq!(found.measured.http10.as_ref().and_then(|it| it.streams_after), Some(4), "{found}");
}

/// A fresh stream is not expected to deliver an event if no stream does.
fn http10_beside_streams_without_events_is_not_a_leak() {
    let threads = Slots::new(3);
    let server = Scripted::start(move |client| {
        client.each(|client, request| {
            let _thread = threads.take();
            if !request.is_stream() {
                return client.page();
            }
            client.begin("");
            while !client.has_left() && client.pause(GAP) {}
            false
        });
    });
    let mut plan = plan(&server, &["/page"]);
    (plan.http10, plan.zombies) = (true, Some(2));
    let found = probe_with(&server, &plan);
    found.limit(LimitKind::Workers).no_note(NoteKind::Leak).no_note(NoteKind::ZombiesStay);
    assert_eq!(found.measured.stopped, None, "{found}");
    assert_eq!(found.measured.zombies.as_ref().map(|zombies| zombies.n), Some(0), "{found}");
}

/// A server with three threads and events of this size. A thread blocks once its client has stopped reading and the
/// buffers are full.
fn probe_zombies(bytes: usize, cut_after: Option<Duration>) -> Found {
    let threads = Slots::new(3);
    let server = Scripted::start(move |client| {
        client.give_up_writes_after(cut_after);
        client.each(|client, request| {
            let _thread = threads.take();
            if !request.is_stream() {
                return client.page();
            }
            let event = format!("data: {}\n\n", "x".repeat(bytes));
            let mut is_open = client.begin("") && client.event(1);
            while is_open {
                is_open = client.pause(Duration::from_millis(50)) && client.chunk(&event);
            }
            false
        });
    });
    let mut plan = plan(&server, &["/page"]);
    (plan.zombies, plan.patience) = (Some(3), Some(Duration::from_secs(6)));
    let found = probe_with(&server, &plan);
    found.counts(3, 2).limit(LimitKind::Workers).has_slots_again(&server, 3);
    found
}

/// A further client would wait for a slot, and take the first one that returns.
fn only_clients_that_had_an_event_stop_reading() {
    let threads = Slots::new(2);
    let server = Scripted::start(move |client| {
        client.each(|client, request| {
            let _thread = threads.take();
            app(client, request)
        });
    });
    let mut plan = plan(&server, &["/page"]);
    plan.zombies = Some(4);
    let found = probe_with(&server, &plan);
    found.counts(2, 1).limit(LimitKind::Workers).has_slots_again(&server, 2);
    assert_eq!(found.measured.zombies.as_ref().map(|zombies| zombies.n), Some(2), "{found}");
}

fn clients_that_stop_reading_hold_their_slots() {
    let found = probe_zombies(256 * 1024, None);
    found.note(NoteKind::ZombiesStay).no_note(NoteKind::ZombiesFreed);
}

fn clients_that_stop_reading_are_cut_off() {
    let found = probe_zombies(256 * 1024, Some(Duration::from_secs(1)));
    found.note(NoteKind::ZombiesFreed).no_note(NoteKind::ZombiesStay);
}

/// The buffers never fill, so the server cannot have noticed.
fn small_events_do_not_show_clients_that_stop_reading() {
    let found = probe_zombies(8, None);
    let note = found.findings.notes.iter().find(|note| note.kind == NoteKind::ZombiesStay);
    let note = note.unwrap_or_else(|| panic!("{found}"));
    assert!(note.text.contains("has not noticed yet"), "{found}");
}
