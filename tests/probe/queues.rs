//! How slots are distributed, and how they return: several queues, late tabs, lost slots, leaks.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ninetabs::lab::probe::findings::{LimitKind, NoteKind};
use ninetabs::lab::probe::measured::{Stopped, TabOutcome};

use super::{app, plan, probe, probe_with};
use crate::common::batch::batch;
use crate::common::scripted::{Client, GAP, Scripted, Slots};

batch! { super::super::BATCH:
    connections_dealt_in_turn_to_several_processes,
    connections_dealt_by_the_clients_port,
    a_tab_that_is_late_is_not_refused,
    processes_that_are_started_on_demand,
    a_slot_that_is_lost,
    slots_that_never_return,
    a_server_that_lingers_on_answered_connections,
    a_slot_that_returns_immediately,
}

/// A server with three processes, each with its own queue and two threads.
fn dealt(deal: impl Fn(&Client) -> usize + Send + Sync + 'static) -> Scripted {
    let processes: Vec<_> = (0..3).map(|_| Slots::new(2)).collect();
    Scripted::start(move |client| {
        let threads = processes[deal(client) % 3].clone();
        client.each(|client, request| {
            let _thread = threads.take();
            app(client, request)
        });
    })
}

fn connections_dealt_in_turn_to_several_processes() {
    let next = AtomicUsize::new(0);
    let server = dealt(move |_| next.fetch_add(1, Ordering::Relaxed));
    let found = probe(&server);
    found.limit(LimitKind::Workers).note(NoteKind::SeveralQueues).no_note(NoteKind::Leak);
    assert!((2..=6).contains(&found.first().streams), "{found}");
}

fn connections_dealt_by_the_clients_port() {
    let server = dealt(|client| usize::from(client.peer.port() / 2));
    let found = probe(&server);
    found.limit(LimitKind::Workers).no_note(NoteKind::Leak);
    assert!((2..=6).contains(&found.first().streams), "{found}");
}

/// The third stream takes four seconds until its first event, and no other stream ends before.
fn a_tab_that_is_late_is_not_refused() {
    let streams = AtomicUsize::new(0);
    let server = Scripted::start(move |client| {
        client.each(|client, request| {
            if request.is_stream() && streams.fetch_add(1, Ordering::Relaxed) == 2 {
                client.pause(Duration::from_secs(4));
            }
            app(client, request)
        });
    });
    let mut plan = plan(&server, &["/page"]);
    (plan.tabs, plan.patience) = (5, Some(Duration::from_secs(8)));
    let found = probe_with(&server, &plan);
    found.counts(5, 5).limit(LimitKind::NoneFound);
    let late = found.first().tabs.iter().find(|tab| tab.outcome == TabOutcome::Late);
    assert_eq!(late.map(|tab| tab.number), Some(3), "{found}");
}

fn processes_that_are_started_on_demand() {
    let streams = AtomicUsize::new(0);
    let server = Scripted::start(move |client| {
        client.each(|client, request| {
            if request.is_stream() && (1..=3).contains(&streams.fetch_add(1, Ordering::Relaxed)) {
                client.pause(Duration::from_millis(800));
            }
            app(client, request)
        });
    });
    probe(&server).counts(8, 8).limit(LimitKind::NoneFound).note(NoteKind::Grows);
}

/// The thread of the first closed stream stays held forever.
fn a_slot_that_is_lost() {
    let (threads, closed) = (Slots::new(4), AtomicUsize::new(0));
    let server = Scripted::start(move |client| {
        client.each(|client, request| {
            let thread = threads.take();
            let goes_on = app(client, request);
            if request.is_stream() && closed.fetch_add(1, Ordering::Relaxed) == 0 {
                thread.lose();
            }
            goes_on
        });
    });
    let found = probe(&server);
    found.counts(4, 3).limit(LimitKind::Workers).note(NoteKind::SlotReturn);
    assert!(found.measured.slot_returns.iter().any(|it| !it.is_void && it.after.is_none()), "{found}");
    found.has_slots_again(&server, 3);
}

/// A loop that waits for something to send never notices that its client has left.
fn slots_that_never_return() {
    let threads = Slots::new(3);
    let server = Scripted::start(move |client| {
        client.each(|client, request| {
            let _thread = threads.take();
            if !request.is_stream() {
                return client.page();
            }
            client.begin("");
            client.event(1);
            client.pause(Duration::from_secs(3600))
        });
    });
    let found = probe(&server);
    found.counts(3, 2).limit(LimitKind::Workers).note(NoteKind::Leak);
    assert_eq!(found.measured.stopped, Some(Stopped::Leak), "{found}");
    assert!(found.measured.idle.is_empty() && found.measured.kept.is_none(), "the run continued: {found}");
}

/// After an answer, the thread is held until the client closes the connection.
fn a_server_that_lingers_on_answered_connections() {
    let threads = Slots::new(3);
    let server = Scripted::start(move |client| {
        let Some(request) = client.request() else { return };
        let _thread = threads.take();
        if app(client, &request) {
            for _ in 0..1500 {
                if client.has_left() || !client.pause(Duration::from_millis(20)) {
                    return;
                }
            }
        }
    });
    let found = probe(&server);
    found.counts(3, 2).limit(LimitKind::Workers).no_note(NoteKind::Leak);
    found.has_slots_again(&server, 3);
}

/// The server watches its clients, as an event loop does.
fn a_slot_that_returns_immediately() {
    let streams = Slots::new(3);
    let server = Scripted::start(move |client| {
        client.each(|client, request| {
            if !request.is_stream() {
                return client.page();
            }
            let _stream = streams.take();
            let (mut number, mut is_open) = (1, client.begin(""));
            while is_open {
                is_open = client.event(number);
                for _ in 0..GAP.as_millis() / 2 {
                    is_open = is_open && !client.has_left() && client.pause(Duration::from_millis(2));
                }
                number += 1;
            }
            false
        });
    });
    let found = probe(&server);
    found.counts(3, 3).limit(LimitKind::StreamCapWaits).note(NoteKind::SlotReturn);
    found.has_slots_again(&server, 3);
}
