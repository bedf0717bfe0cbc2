//! Servers that run a fixed number of streams. They differ in where the next request waits.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use ninetabs::lab::probe::findings::{LimitKind, NoteKind};
use ninetabs::lab::probe::measured::{TabOutcome, Tries, WaitPlace};

use super::{app, plan, probe, probe_with};
use crate::common::batch::batch;
use crate::common::scripted::{GAP, Scripted, Slots};

batch! { super::super::BATCH:
    threads_that_are_taken_before_the_next_accept,
    threads_that_read_their_requests_themselves,
    threads_that_take_requests_that_were_read,
    a_page_that_queries_waits_for_the_database_pool,
    one_lock_around_the_whole_application,
    one_session_is_locked_and_another_is_served,
    a_stream_that_blocks_the_event_loop,
    streams_that_wait_for_their_own_pool,
    streams_that_share_the_threads_that_produce_events,
    no_limit_within_the_tabs,
}

/// Like Puma: connections without a request hold no thread.
fn threads_that_are_taken_before_the_next_accept() {
    let pool = Slots::new(3);
    let accepting = pool.clone();
    let server = Scripted::admitting(
        move || accepting.until_free(),
        move |client, ()| {
            client.each(|client, request| {
                let _thread = pool.take();
                app(client, request)
            });
        },
    );
    let found = probe(&server);
    found.counts(3, 2).limit(LimitKind::Workers).or(&[]).next_tab(TabOutcome::Waits, Some(WaitPlace::Kernel));
    found.note(NoteKind::SlotReturn).no_note(NoteKind::Leak).no_note(NoteKind::SeveralQueues);
    found.has_slots_again(&server, 3);
}

/// Like gunicorn's gthread: an idle connection holds a thread, but a keep-alive connection does not.
fn threads_that_read_their_requests_themselves() {
    let pool = Slots::new(3);
    let server = Scripted::start(move |client| {
        let mut goes_on = true;
        while goes_on {
            let thread = pool.take();
            let Some(request) = client.request() else { return };
            goes_on = app(client, &request);
            drop(thread);
            goes_on = goes_on && client.wait_for_a_byte();
        }
    });
    let found = probe(&server);
    found.counts(3, 2).limit(LimitKind::Workers).or(&[]).next_tab(TabOutcome::Waits, Some(WaitPlace::Unread));
    found.has_slots_again(&server, 3);
}

/// Like waitress.
fn threads_that_take_requests_that_were_read() {
    let pool = Slots::new(3);
    let server = Scripted::start(move |client| {
        client.each(|client, request| {
            let _thread = pool.take();
            app(client, request)
        });
    });
    let found = probe(&server);
    found.counts(3, 2).limit(LimitKind::Workers).or(&[]).next_tab(TabOutcome::Waits, Some(WaitPlace::Read));
    found.has_slots_again(&server, 3);
}

fn a_page_that_queries_waits_for_the_database_pool() {
    let (threads, connections) = (Slots::new(8), Slots::new(3));
    let patience = Duration::from_millis(1500);
    let server = Scripted::start(move |client| {
        client.each(|client, request| {
            let _thread = threads.take();
            if request.path == "/up" {
                return client.page();
            }
            match connections.take_within(patience) {
                Some(_connection) => app(client, request),
                None if request.is_stream() => {
                    client.begin("");
                    client.finish();
                    false
                }
                None => client.answer("500 Internal Server Error", "", ""),
            }
        });
    });
    let mut plan = plan(&server, &["/page", "/up"]);
    // Long enough for three tabs to end.
    plan.patience = Some(Duration::from_secs(6));
    let found = probe_with(&server, &plan);
    found.counts(3, 2).limit(LimitKind::DatabasePool).next_tab(TabOutcome::Empty, Some(WaitPlace::Read));
    found.has_slots_again(&server, 3);
}

fn one_lock_around_the_whole_application() {
    let lock = Slots::new(1);
    let server = Scripted::start(move |client| {
        client.each(|client, request| {
            let _locked = lock.take();
            app(client, request)
        });
    });
    let found = probe(&server);
    found.counts(1, 0).limit(LimitKind::OneAtATime).next_tab(TabOutcome::Waits, Some(WaitPlace::Read));
    found.has_slots_again(&server, 1);
}

/// Like PHP: a request holds a worker while it waits for its session.
fn one_session_is_locked_and_another_is_served() {
    let (workers, sessions) = (Slots::new(8), Mutex::new(HashMap::<String, Slots>::new()));
    let server = Scripted::start(move |client| {
        client.each(|client, request| {
            let _worker = workers.take();
            let Some(cookie) = request.header("cookie") else { return app(client, request) };
            let session = sessions.lock().unwrap().entry(cookie.to_owned()).or_insert(Slots::new(1)).clone();
            let _session = session.take();
            app(client, request)
        });
    });
    let mut plan = plan(&server, &["/page"]);
    (plan.cookie, plan.other_cookie) = (Some("id=one".to_owned()), Some("id=two".to_owned()));
    let found = probe_with(&server, &plan);
    found.counts(1, 0).limit(LimitKind::SessionLock).next_tab(TabOutcome::Waits, Some(WaitPlace::Read));
    assert_eq!(found.measured.other_cookie, Some(Tries { flowed: 3, of: 3 }), "{found}");
    let mine = |request: &&_| is_mine(request);
    let requests = server.record.requests();
    // At most three requests for the baseline, three beside the first stream, three at the limit, and two after
    // everything has been closed.
    let pages = requests.iter().filter(|request| request.path == "/page").filter(mine).count();
    assert!(pages <= 3 + 3 + 3 + 2, "{pages} pages: {found}");
    found.has_slots_again(&server, 8);
}

fn is_mine(request: &crate::common::scripted::Request) -> bool {
    request.header("cookie") == Some("id=one")
}

/// The server writes nothing, accepts nothing, and never notices that the client has left.
fn a_stream_that_blocks_the_event_loop() {
    let event_loop = Slots::new(1);
    let accepting = event_loop.clone();
    let server = Scripted::admitting(
        move || accepting.until_free(),
        move |client, ()| {
            client.each(|client, request| {
                let _running = event_loop.take();
                if !request.is_stream() {
                    return client.page();
                }
                client.pause(Duration::from_secs(3600))
            });
        },
    );
    let found = probe(&server);
    found.limit(LimitKind::BlockedLoop).note(NoteKind::Leak);
}

fn streams_that_wait_for_their_own_pool() {
    let pool = Slots::new(3);
    let server = Scripted::start(move |client| {
        client.each(|client, request| {
            let _slot = request.is_stream().then(|| pool.take());
            app(client, request)
        });
    });
    let found = probe(&server);
    found.counts(3, 3).limit(LimitKind::StreamCapWaits).next_tab(TabOutcome::Waits, Some(WaitPlace::Read));
    found.has_slots_again(&server, 3);
}

/// Like synchronous generators in a small thread pool: all tabs stream, but each one more slowly.
fn streams_that_share_the_threads_that_produce_events() {
    let producers = Slots::new(2);
    let server = Scripted::start(move |client| {
        client.each(|client, request| {
            if !request.is_stream() {
                return client.page();
            }
            let (mut number, mut is_open) = (1, client.begin(""));
            while is_open {
                let _producer = producers.take();
                is_open = client.event(number) && client.pause(GAP);
                number += 1;
            }
            false
        });
    });
    probe(&server).counts(8, 8).limit(LimitKind::SharedSlots);
}

fn no_limit_within_the_tabs() {
    let server = Scripted::start(|client| client.each(app));
    let found = probe(&server);
    found.counts(8, 8).limit(LimitKind::NoneFound).note(NoteKind::BrowsersSix).no_note(NoteKind::Leak);
    assert!(found.measured.idle.is_empty() && found.measured.kept.is_none(), "{found}");
    assert_eq!(server.record.most_open(), 9, "eight tabs and a page");
}
