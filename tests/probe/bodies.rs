//! Bodies of streams: nothing, lumps, late or compressed events, lines, chunks.

use std::io::Write;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use ninetabs::lab::probe::findings::{LimitKind, NoteKind};
use ninetabs::lab::probe::measured::{TabOutcome, Unit};

use super::{app, plan, probe, probe_with};
use crate::common::batch::batch;
use crate::common::scripted::{Client, GAP, Scripted, Slots};

batch! { super::super::BATCH:
    a_proxy_that_buffers_hides_a_full_server,
    a_stream_with_a_single_late_event,
    streams_without_events_that_stop_no_page,
    events_that_are_compressed_and_never_flushed,
    events_that_are_compressed_and_flushed,
    a_refusal_of_gzip_does_not_blame_compression,
    a_slot_that_returns_late_does_not_blame_compression,
    an_event_that_is_too_large_is_not_a_cut_by_the_server,
    a_first_event_that_is_always_late_does_not_blame_compression,
    a_first_event_that_the_kernel_holds_back,
    events_that_arrive_in_lumps,
    comments_are_a_sign_of_life,
    comments_are_a_sign_of_life_with_a_short_patience,
    lines_are_events_of_another_type,
    another_chunked_body_counts_by_its_first_chunk,
}

/// A server with three threads behind a proxy that delivers no part of a stream.
fn a_proxy_that_buffers_hides_a_full_server() {
    let threads = Slots::new(3);
    let server = Scripted::start(move |client| {
        client.each(|client, request| {
            if request.path == "/static" {
                return client.page();
            }
            let _thread = threads.take();
            if !request.is_stream() {
                return client.page();
            }
            // The proxy closes its connection when the client leaves, and the application notices at a write.
            while !client.has_left() && client.pause(GAP) {}
            false
        });
    });
    let found = probe_with(&server, &plan(&server, &["/page", "/static"]));
    found.counts(0, 2).limit(LimitKind::Workers).note(NoteKind::Buffered).no_note(NoteKind::Leak);
    assert!(found.findings.behind && found.measured.is_blind, "{found}");
    found.no_note(NoteKind::Quiet);
}

/// The event arrives later than the first tab is watched.
fn a_stream_with_a_single_late_event() {
    let server = Scripted::start(|client| {
        client.each(|client, request| {
            if !request.is_stream() {
                return client.page();
            }
            client.begin("");
            for _ in 0..220 {
                if client.has_left() || !client.pause(Duration::from_millis(20)) {
                    return false;
                }
            }
            client.event(1);
            while !client.has_left() && client.pause(GAP) {}
            false
        });
    });
    let found = probe(&server);
    found.nothing_measured(NoteKind::Quiet);
    assert!(found.measured.is_blind, "{found}");
}

fn streams_without_events_that_stop_no_page() {
    let server = Scripted::start(|client| {
        client.each(|client, request| {
            if !request.is_stream() {
                return client.page();
            }
            client.begin("");
            while !client.has_left() && client.pause(GAP) {}
            false
        });
    });
    let found = probe(&server);
    assert!(found.findings.limit.is_none(), "{found}");
    assert!(found.measured.is_blind, "{found}");
    assert!(server.record.most_open() <= 9, "{}", server.record.most_open());
}

/// A server that compresses the stream of a client that accepts gzip. If `flush`, it writes each event immediately,
/// otherwise none. Uncompressed streams work as usual.
fn compressing(flush: bool) -> Scripted {
    Scripted::start(move |client| {
        client.each(|client, request| {
            if !request.is_stream() || !request.accepts_gzip() {
                return app(client, request);
            }
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            // The gzip header is sent immediately, so the client receives data but no event.
            let _ = encoder.flush();
            let mut is_open =
                client.begin("Content-Encoding: gzip\r\n") && client.chunk(std::mem::take(encoder.get_mut()));
            while is_open {
                let _ = encoder.write_all(b"data: 1\n\n");
                if flush {
                    let _ = encoder.flush();
                    is_open = client.chunk(std::mem::take(encoder.get_mut()));
                }
                is_open = is_open && !client.has_left() && client.pause(GAP);
            }
            false
        });
    })
}

fn events_that_are_compressed_and_never_flushed() {
    let found = probe(&compressing(false));
    found.counts(8, 8).limit(LimitKind::NoneFound).note(NoteKind::Compressed);
}

fn events_that_are_compressed_and_flushed() {
    let found = probe(&compressing(true));
    found.counts(8, 8).limit(LimitKind::NoneFound).no_note(NoteKind::Compressed);
}

fn a_refusal_of_gzip_does_not_blame_compression() {
    let server = Scripted::start(|client| {
        client.each(|client, request| match request.is_stream() && request.accepts_gzip() {
            true => client.answer("503 Service Unavailable", "", "not for gzip"),
            false => app(client, request),
        });
    });
    probe(&server).counts(8, 8).limit(LimitKind::NoneFound).no_note(NoteKind::Compressed);
}

/// A server with one thread, which remains held for twelve seconds after the client of a stream has left. The stream
/// that accepts gzip waits for the thread as any other would.
fn a_slot_that_returns_late_does_not_blame_compression() {
    let threads = Slots::new(1);
    let server = Scripted::start(move |client| {
        client.each(|client, request| {
            if !request.is_stream() {
                return client.page();
            }
            let _thread = threads.take();
            if !client.has_left() {
                client.ticks();
                client.pause(Duration::from_secs(12));
            }
            false
        });
    });
    probe(&server).counts(1, 1).limit(LimitKind::StreamCapWaits).no_note(NoteKind::Compressed);
}

/// The first event takes six seconds, whether compressed or not.
fn a_first_event_that_is_always_late_does_not_blame_compression() {
    let server = Scripted::start(|client| {
        client.each(|client, request| {
            if request.is_stream() && !client.pause(Duration::from_secs(6)) {
                return false;
            }
            app(client, request)
        });
    });
    let mut plan = plan(&server, &["/page"]);
    (plan.tabs, plan.patience, plan.zombies) = (3, Some(Duration::from_secs(10)), Some(1));
    let found = probe_with(&server, &plan);
    found.counts(3, 3).limit(LimitKind::NoneFound).no_note(NoteKind::Compressed).no_note(NoteKind::Leak);
    assert_eq!(found.measured.zombies.as_ref().map(|zombies| zombies.n), Some(1), "{found}");
}

/// The probe itself stops reading the stream.
fn an_event_that_is_too_large_is_not_a_cut_by_the_server() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n";
    let large = "x".repeat(2 * 1024 * 1024);
    let server = Scripted::start(move |client| {
        client.each(|client, request| {
            if !request.is_stream() {
                return client.page();
            }
            let is_open = client.send(head) && client.chunk("{}\n") && client.pause(GAP);
            let _ = is_open && client.chunk(&large) && client.pause(Duration::from_secs(30));
            false
        });
    });
    let found = probe(&server);
    found.nothing_measured(NoteKind::NotAStream).no_note(NoteKind::Cut);
    let note = found.findings.note(NoteKind::NotAStream).unwrap();
    assert!(note.text.contains("200 application/x-ndjson: an event of the stream has more than"), "{found}");
}

/// The first event is delayed by 200 ms, as Puma's `TCP_CORK` does.
fn a_first_event_that_the_kernel_holds_back() {
    let server = Scripted::start(|client| {
        client.each(|client, request| {
            if request.is_stream() {
                client.pause(Duration::from_millis(200));
            }
            app(client, request)
        });
    });
    let found = probe(&server);
    found.counts(8, 8).limit(LimitKind::NoneFound).note(NoteKind::LateFirstEvent).no_note(NoteKind::Grows);
}

/// The events pass through a 4 KiB buffer.
fn events_that_arrive_in_lumps() {
    let server = Scripted::start(|client| {
        client.each(|client, request| {
            if !request.is_stream() {
                return client.page();
            }
            let event = format!("data: {}\n\n", "x".repeat(504));
            let mut is_open = client.begin("") && client.event(1);
            while is_open {
                is_open = client.pause(GAP) && client.chunk(event.repeat(8));
            }
            false
        });
    });
    probe(&server).counts(8, 8).limit(LimitKind::NoneFound).note(NoteKind::Lumps);
}

/// A server with three threads that sends this head and then this body over and over.
fn sending(head: &'static str, body: impl Fn(&mut Client) -> bool + Send + Sync + 'static) -> Scripted {
    let threads = Slots::new(3);
    Scripted::start(move |client| {
        client.each(|client, request| {
            let _thread = threads.take();
            if !request.is_stream() {
                return client.page();
            }
            let mut is_open = client.send(head);
            while is_open {
                is_open = body(client) && client.pause(GAP);
            }
            false
        });
    })
}

fn comments_are_a_sign_of_life() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    let server = sending(head, |client| client.chunk(": ping\n\n"));
    let mut plan = plan(&server, &["/page"]);
    plan.patience = Some(Duration::from_secs(5));
    let found = probe_with(&server, &plan);
    found.counts(3, 2).limit(LimitKind::Workers);
    assert_eq!(found.measured.target.unit, Some(Unit::SignOfLife), "{found}");
}

/// With a short `--patience`, comments count when it is over, and not as events that were held back.
fn comments_are_a_sign_of_life_with_a_short_patience() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    let server = sending(head, |client| client.chunk(": ping\n\n: ping\n\n"));
    let mut plan = plan(&server, &["/page"]);
    plan.patience = Some(Duration::from_secs(2));
    let found = probe_with(&server, &plan);
    found.counts(3, 2).limit(LimitKind::Workers).no_note(NoteKind::Buffered);
    assert!(!found.measured.is_blind, "{found}");
}

fn lines_are_events_of_another_type() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n";
    let server = sending(head, |client| client.chunk("{\"n\":") && client.chunk("1}\n"));
    let found = probe(&server);
    found.counts(3, 2).limit(LimitKind::Workers);
    assert_eq!(found.measured.target.unit, Some(Unit::Line), "{found}");
}

fn another_chunked_body_counts_by_its_first_chunk() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n";
    let server = sending(head, |client| client.chunk("word "));
    let found = probe(&server);
    found.counts(3, 2).limit(LimitKind::Workers).next_tab(TabOutcome::Waits, found.measured.waiting[0].place);
    assert_eq!(found.measured.target.unit, Some(Unit::Chunk), "{found}");
}
