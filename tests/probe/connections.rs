//! Servers that limit connections instead of requests, and servers that do not accept silent connections.

use std::time::Duration;

use ninetabs::lab::probe::findings::{LimitKind, NoteKind, infer};
use ninetabs::lab::probe::measured::{ListeningProcess, TabOutcome, WaitPlace};

use super::{app, plan, probe, probe_with};
use crate::common::batch::batch;
use crate::common::scripted::{Scripted, Slots};

batch! { super::super::BATCH:
    connections_that_wait_for_others_to_close,
    connections_that_are_closed_immediately,
    connections_that_are_answered_with_503,
    descriptors_are_named_only_with_evidence,
    an_accept_queue_that_is_full,
    a_process_per_connection_that_sends_something,
    a_server_that_closes_idle_connections_for_a_new_one,
    a_server_that_closes_silent_connections_after_three_seconds,
}

fn connections_that_wait_for_others_to_close() {
    let connections = Slots::new(3);
    let server = Scripted::admitting(move || connections.take(), |client, _connection| client.each(app));
    let found = probe(&server);
    found.counts(3, 2).limit(LimitKind::Connections).next_tab(TabOutcome::Waits, Some(WaitPlace::Kernel));
    found.no_note(NoteKind::Leak).has_slots_again(&server, 3);
}

fn connections_that_are_closed_immediately() {
    let connections = Slots::new(3);
    let server = Scripted::start(move |client| {
        let Some(_connection) = connections.try_take() else { return };
        client.each(app);
    });
    let found = probe(&server);
    found.counts(3, 2).limit(LimitKind::Connections);
    found.has_slots_again(&server, 3);
}

/// The refusal is an HTTP response, but it is not caused by a cap on streams: idle connections cause it as well.
fn connections_that_are_answered_with_503() {
    let connections = Slots::new(3);
    let server = Scripted::start(move |client| match connections.try_take() {
        Some(_connection) => client.each(app),
        None => client.each(|client, _| client.answer("503 Service Unavailable", "", "busy\n")),
    });
    let found = probe(&server);
    found.counts(3, 2).limit(LimitKind::Connections).next_tab(TabOutcome::Status, None);
    found.has_slots_again(&server, 3);
}

fn descriptors_are_named_only_with_evidence() {
    let connections = Slots::new(3);
    let server = Scripted::admitting(move || connections.take(), |client, _connection| client.each(app));
    let mut measured = probe(&server).measured;
    let listener = |descriptors| {
        let name = "server".to_owned();
        vec![ListeningProcess { pid: 1, name, threads: 4, descriptors, limit: 12 }]
    };
    (measured.listeners_before, measured.listeners_at_limit) = (listener(8), listener(11));
    let limit = infer(&measured).limit.map(|limit| limit.kind);
    assert_eq!(limit, Some(LimitKind::Descriptors));
    measured.listeners_at_limit = listener(9);
    let limit = infer(&measured).limit.map(|limit| limit.kind);
    assert_eq!(limit, Some(LimitKind::Connections));
}

fn an_accept_queue_that_is_full() {
    let connections = Slots::new(3);
    // The queue takes one connection more than its length.
    let server = Scripted::queueing(0, move || connections.take(), |client, _connection| client.each(app));
    let found = probe(&server);
    found.counts(3, 2).limit(LimitKind::Connections).note(NoteKind::AcceptQueue);
    found.has_slots_again(&server, 3);
}

/// Like a prefork server with a deferred accept: it does not accept a connection before the client sends something.
fn a_process_per_connection_that_sends_something() {
    let processes = Slots::new(3);
    let server = Scripted::start(move |client| {
        if client.wait_for_a_byte() {
            let _process = processes.take();
            client.each(app);
        }
    });
    let found = probe(&server);
    found.counts(3, 2).limit(LimitKind::Workers).next_tab(TabOutcome::Waits, Some(WaitPlace::Unread));
    found.has_slots_again(&server, 3);
}

/// The page is answered only because some of the held connections were closed for it.
fn a_server_that_closes_idle_connections_for_a_new_one() {
    let connections = Slots::new(3);
    let waiting = connections.clone();
    let server = Scripted::admitting(
        move || connections.take(),
        move |client, _connection| loop {
            // An idle connection is closed as soon as another client waits.
            while !client.has_byte() {
                if waiting.waiting() > 0 || client.has_left() || !client.pause(Duration::from_millis(20)) {
                    return;
                }
            }
            let Some(request) = client.request() else { return };
            if !app(client, &request) || request.wants_close() {
                return;
            }
        },
    );
    let found = probe(&server);
    found.counts(3, 2).limit(LimitKind::Connections);
    found.has_slots_again(&server, 3);
}

/// Idle connections only delay the page until they are closed; they do not stop it.
fn a_server_that_closes_silent_connections_after_three_seconds() {
    let threads = Slots::new(3);
    let server = Scripted::start(move |client| {
        let _thread = threads.take();
        for _ in 0..150 {
            if client.has_byte() {
                let Some(request) = client.request() else { return };
                app(client, &request);
                return;
            }
            if client.has_left() || !client.pause(Duration::from_millis(20)) {
                return;
            }
        }
    });
    let found = probe_with(&server, &plan(&server, &["/page"]));
    // The server closes connections after each answer, so only the idle half of the experiment is possible.
    found.counts(3, 2).limit(LimitKind::Workers).or(&[LimitKind::Connections]);
    found.has_slots_again(&server, 3);
}
