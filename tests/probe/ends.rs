//! Servers that end streams after some events.

use std::time::{Duration, Instant};

use ninetabs::lab::probe::findings::{LimitKind, NoteKind};
use ninetabs::lab::probe::measured::{CutHow, Stopped};

use super::{plan, probe_with};
use crate::common::batch::batch;
use crate::common::scripted::{Client, GAP, Scripted, Slots};

batch! { super::super::BATCH:
    streams_that_are_cut_off_at_one_age,
    streams_that_end_politely_at_one_age,
    a_full_server_that_cuts_off_its_streams,
    answers_that_are_complete_before_the_next_tab,
    answers_that_end_by_themselves_later,
}

/// Sends events until the stream has this age.
fn until(client: &mut Client, age: Duration) {
    let begun = Instant::now();
    client.ticks_while(|_| begun.elapsed() < age);
}

/// A server whose streams deliver events for four seconds and then end in this way.
fn ending(end: impl Fn(&mut Client) + Send + Sync + 'static) -> Scripted {
    Scripted::start(move |client| {
        client.each(|client, request| {
            if !request.is_stream() {
                return client.page();
            }
            until(client, Duration::from_secs(4));
            end(client);
            false
        });
    })
}

fn streams_that_are_cut_off_at_one_age() {
    let server = ending(|client| client.reset());
    let mut plan = plan(&server, &["/page"]);
    plan.patience = Some(Duration::from_secs(8));
    let found = probe_with(&server, &plan);
    found.counts(8, 8).limit(LimitKind::NoneFound).note(NoteKind::Cut);
    let cuts = &found.measured.cuts;
    assert!(cuts.len() >= 8 && cuts.iter().all(|cut| cut.how == CutHow::Abrupt && !cut.is_polite), "{found}");
}

fn streams_that_end_politely_at_one_age() {
    let server = ending(|client| {
        client.chunk("retry: 1000\n\n");
        client.finish();
    });
    let mut plan = plan(&server, &["/page"]);
    plan.patience = Some(Duration::from_secs(8));
    let found = probe_with(&server, &plan);
    found.counts(8, 8).limit(LimitKind::NoneFound).note(NoteKind::Cut);
    let cuts = &found.measured.cuts;
    assert!(cuts.iter().all(|cut| cut.how == CutHow::Clean && cut.is_polite), "{found}");
}

/// Each cut frees a slot for a waiting tab. If that tab counted as a further stream, the staircase would never end.
fn a_full_server_that_cuts_off_its_streams() {
    let threads = Slots::new(3);
    let server = Scripted::start(move |client| {
        client.each(|client, request| {
            let _thread = threads.take();
            if !request.is_stream() {
                return client.page();
            }
            until(client, Duration::from_secs(10));
            client.reset();
            false
        });
    });
    let mut plan = plan(&server, &["/page"]);
    plan.patience = Some(Duration::from_secs(12));
    let found = probe_with(&server, &plan);
    found.counts(3, 2).limit(LimitKind::Workers).note(NoteKind::Cut).no_note(NoteKind::Leak);
    found.no_note(NoteKind::SeveralQueues).has_slots_again(&server, 3);
}

fn answers_that_are_complete_before_the_next_tab() {
    let server = Scripted::start(|client| {
        client.each(|client, request| {
            if !request.is_stream() {
                return client.page();
            }
            client.begin("");
            client.event(1);
            client.chunk("data: [DONE]\n\n");
            client.finish();
            false
        });
    });
    let mut plan = plan(&server, &["/page"]);
    plan.method = "POST".to_owned();
    plan.body = Some(b"{}".to_vec());
    let found = probe_with(&server, &plan);
    assert!(found.findings.limit.is_none(), "{found}");
    assert!(matches!(found.measured.stopped, Some(Stopped::StreamsFinish { .. })), "{found}");
    let requests = server.record.requests();
    let streams: Vec<_> = requests.iter().filter(|request| request.is_stream()).collect();
    assert!(streams.iter().all(|request| request.method == "POST" && request.body == "{}"), "{streams:?}");
    assert!(requests.iter().all(|request| request.is_stream() || request.method == "GET"), "{requests:?}");
}

/// A stream that finishes by itself is not one that a timeout cut off.
fn answers_that_end_by_themselves_later() {
    let server = Scripted::start(|client| {
        client.each(|client, request| {
            if !request.is_stream() {
                return client.page();
            }
            until(client, GAP * 16);
            client.chunk("data: [DONE]\n\n");
            client.finish();
            false
        });
    });
    let mut plan = plan(&server, &["/page"]);
    plan.method = "POST".to_owned();
    plan.patience = Some(Duration::from_secs(8));
    let found = probe_with(&server, &plan);
    found.counts(8, 8).limit(LimitKind::NoneFound);
    assert!(found.measured.cuts.iter().all(|cut| cut.how == CutHow::Finished), "{found}");
}
