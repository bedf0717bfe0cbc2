//! Servers that refuse the next stream, either immediately or after it has waited.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ninetabs::lab::probe::findings::{LimitKind, NoteKind};
use ninetabs::lab::probe::measured::{TabOutcome, WaitPlace};

use super::{Found, app, plan, probe, probe_with};
use crate::common::batch::batch;
use crate::common::scripted::{Client, Scripted, Slots};

batch! { super::super::BATCH:
    streams_beyond_a_cap_are_answered_503,
    streams_beyond_a_cap_get_a_503_in_chunks,
    streams_beyond_a_cap_get_an_empty_200,
    streams_beyond_a_cap_get_a_retry_time,
    streams_beyond_a_cap_are_closed,
    each_address_has_its_own_limit,
    a_proxy_whose_queue_timeout_expires,
    a_proxy_whose_read_timeout_expires,
    a_queue_that_is_full,
    a_single_refusal_is_not_a_limit,
}

/// A server with a cap of three streams. Further streams are refused in this way. Pages are always answered.
fn with_a_cap(refuse: impl Fn(&mut Client) + Send + Sync + 'static) -> Scripted {
    let cap = Slots::new(3);
    Scripted::start(move |client| {
        client.each(|client, request| {
            if !request.is_stream() {
                return client.page();
            }
            match cap.try_take() {
                Some(_slot) => client.ticks(),
                None => refuse(client),
            }
            false
        });
    })
}

fn streams_beyond_a_cap_are_answered_503() {
    let server = with_a_cap(|client| {
        client.answer("503 Service Unavailable", "", "too many streams\n");
    });
    let found = probe(&server);
    found.counts(3, 3).limit(LimitKind::Refused).next_tab(TabOutcome::Status, None);
    found.has_slots_again(&server, 3);
}

/// The first chunk of a refusal is no event.
fn streams_beyond_a_cap_get_a_503_in_chunks() {
    let server = with_a_cap(|client| {
        client.send(b"HTTP/1.1 503 Service Unavailable\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.chunk("full\n");
        client.finish();
    });
    let found = probe(&server);
    found.counts(3, 3).limit(LimitKind::Refused).next_tab(TabOutcome::Status, None);
    found.has_slots_again(&server, 3);
}

fn streams_beyond_a_cap_get_an_empty_200() {
    let server = with_a_cap(|client| {
        client.begin("");
        client.finish();
    });
    let found = probe(&server);
    found.counts(3, 3).limit(LimitKind::Refused).next_tab(TabOutcome::Empty, None);
    found.has_slots_again(&server, 3);
}

/// The client receives data, but no event.
fn streams_beyond_a_cap_get_a_retry_time() {
    let server = with_a_cap(|client| {
        client.begin("");
        client.chunk("retry: 5000\n\n");
        client.finish();
    });
    let found = probe(&server);
    found.counts(3, 3).limit(LimitKind::Refused).next_tab(TabOutcome::Empty, None);
    found.has_slots_again(&server, 3);
}

fn streams_beyond_a_cap_are_closed() {
    let server = with_a_cap(|_| ());
    let found = probe(&server);
    found.counts(3, 3).limit(LimitKind::Refused).next_tab(TabOutcome::Closed, None);
    found.has_slots_again(&server, 3);
}

fn each_address_has_its_own_limit() {
    let addresses = Mutex::new(HashMap::<IpAddr, Slots>::new());
    let server = Scripted::start(move |client| {
        let limit = addresses.lock().unwrap().entry(client.address()).or_insert(Slots::new(3)).clone();
        client.each(|client, request| {
            if request.path == "/static" {
                return client.page();
            }
            match limit.try_take() {
                Some(_request) => app(client, request),
                None => client.answer("503 Service Unavailable", "", ""),
            }
        });
    });
    let found = probe_with(&server, &plan(&server, &["/page", "/static"]));
    found.counts(3, 2).limit(LimitKind::RefusedPerClient).next_tab(TabOutcome::Status, None);
    found.has_slots_again(&server, 3);
}

/// A one-time failure, as during the restart of a proxy.
fn a_single_refusal_is_not_a_limit() {
    let asked = AtomicUsize::new(0);
    let server = Scripted::start(move |client| {
        client.each(|client, request| {
            if request.is_stream() && asked.fetch_add(1, Ordering::SeqCst) == 3 {
                return client.answer("502 Bad Gateway", "", "");
            }
            app(client, request)
        });
    });
    let found = probe(&server);
    found.counts(7, 7).limit(LimitKind::NoneFound);
    assert_eq!(found.measured.waiting.len(), 1, "{found}");
}

/// A proxy that forwards three requests at a time. A further one gets this status after a while in the queue.
fn queueing(status: &'static str) -> Scripted {
    let upstream = Slots::new(3);
    Scripted::start(move |client| {
        client.each(|client, request| match upstream.take_within(Duration::from_millis(1500)) {
            Some(_request) => app(client, request),
            None => client.answer(status, "Server: proxy\r\n", ""),
        });
    })
}

/// Probes the server with enough patience for three tabs to end.
fn probe_for_longer(server: &Scripted) -> Found {
    let mut plan = plan(server, &["/page"]);
    plan.patience = Some(Duration::from_secs(6));
    probe_with(server, &plan)
}

fn a_proxy_whose_queue_timeout_expires() {
    let server = queueing("503 Service Unavailable");
    let found = probe_for_longer(&server);
    found.counts(3, 2).limit(LimitKind::QueueTimeout).next_tab(TabOutcome::Status, Some(WaitPlace::Read));
    found.has_slots_again(&server, 3);
}

fn a_proxy_whose_read_timeout_expires() {
    let server = queueing("504 Gateway Timeout");
    let found = probe_for_longer(&server);
    found.counts(3, 2).limit(LimitKind::QueueTimeout).or(&[LimitKind::Workers]);
    found.has_slots_again(&server, 3);
}

/// The refusals begin only after requests have been left waiting, so they are not the limit.
fn a_queue_that_is_full() {
    let (threads, queue) = (Slots::new(3), Slots::new(2));
    let server = Scripted::start(move |client| {
        client.each(|client, request| {
            let thread = threads.try_take().or_else(|| {
                let _queued = queue.try_take()?;
                Some(threads.take())
            });
            match thread {
                Some(_thread) => app(client, request),
                None => client.answer("503 Service Unavailable", "", "queue full\n"),
            }
        });
    });
    let found = probe(&server);
    found.counts(3, 2).limit(LimitKind::Workers).note(NoteKind::QueueFull).no_note(NoteKind::Leak);
    found.has_slots_again(&server, 3);
}
