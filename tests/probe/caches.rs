//! Caches between the probe and the application.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ninetabs::lab::probe::findings::{LimitKind, NoteKind};
use ninetabs::lab::probe::measured::{TabOutcome, WaitPlace};

use super::{app, probe};
use crate::common::batch::batch;
use crate::common::scripted::{GAP, Scripted, Slots};

batch! { super::super::BATCH:
    a_cached_page_does_not_hide_that_all_threads_are_held,
    a_cached_stream_is_not_measured,
    an_application_that_replays_its_history,
}

/// The cache answers the page while the application cannot. With a random query parameter, it does not.
fn a_cached_page_does_not_hide_that_all_threads_are_held() {
    let threads = Slots::new(3);
    let server = Scripted::start(move |client| {
        client.each(|client, request| {
            if !request.is_stream() && request.query.is_none() {
                return client.answer("200 OK", "Age: 5\r\nX-Cache: HIT\r\n", "up\n");
            }
            let _thread = threads.take();
            app(client, request)
        });
    });
    let found = probe(&server);
    found.limit(LimitKind::Workers).note(NoteKind::Cached).next_tab(TabOutcome::Waits, Some(WaitPlace::Read));
    assert_eq!(found.first().streams, 3, "{found}");
    assert!(found.measured.uncached_pages.iter().any(|page| page.plain && !page.uncached), "{found}");
    found.has_slots_again(&server, 3);
}

/// A server on which a late tab immediately receives everything that the first tab has received.
fn replaying(fields: &'static str, whatever_the_query: bool) -> Scripted {
    let sent = Arc::new(AtomicUsize::new(0));
    let begun = std::time::Instant::now();
    Scripted::start(move |client| {
        client.each(|client, request| {
            if !request.is_stream() {
                return client.page();
            }
            let has_query = request.query.is_some();
            let mut next = 1;
            let mut is_open = client.begin(fields);
            while is_open {
                // Either every event that the shared response has by now, or the next event of a separate response.
                let last = if has_query && !whatever_the_query {
                    next
                } else {
                    let now = 1 + (begun.elapsed().as_millis() / GAP.as_millis()) as usize;
                    sent.fetch_max(now, Ordering::Relaxed).max(now)
                };
                let events: String = (next..=last).map(|number| format!("data: {number}\n\n")).collect();
                next = last + 1;
                is_open = (events.is_empty() || client.chunk(events)) && client.pause(GAP);
            }
            false
        });
    })
}

fn a_cached_stream_is_not_measured() {
    let server = replaying("X-Cache: HIT\r\n", false);
    let found = probe(&server);
    found.nothing_measured(NoteKind::Cached);
    let shared = found.measured.shared_stream.unwrap_or_else(|| panic!("{found}"));
    assert_eq!(shared.a_new_address_begins_anew, Some(true), "{found}");
}

/// There is no header that names a cache.
fn an_application_that_replays_its_history() {
    let server = replaying("", true);
    let found = probe(&server);
    found.limit(LimitKind::NoneFound).no_note(NoteKind::Cached);
    assert!(found.measured.watched >= Duration::from_secs(1), "{found}");
}
