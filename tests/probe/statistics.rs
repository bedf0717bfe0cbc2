//! A control server beside the application: Puma's `/stats`.

use ninetabs::lab::probe::findings::{LimitKind, NoteKind};
use ninetabs::lab::probe::measured::StatsMoment;
use ninetabs::lab::probe::plan::ControlAddress;
use url::Url;

use super::{Found, app, plan, probe_with};
use crate::common::batch::batch;
use crate::common::scripted::{Scripted, Slots};

batch! { super::super::BATCH:
    statistics_that_report_free_threads_while_a_tab_waits,
    statistics_that_agree,
    statistics_that_do_not_answer_at_the_limit,
    a_token_is_sent_to_the_control_server_only,
}

/// A server with three threads, and a control server that reports how many of them are free.
fn probe_with_statistics(report: impl Fn(&Slots) -> Option<usize> + Send + Sync + 'static) -> Found {
    let threads = Slots::new(3);
    let pool = threads.clone();
    let server = Scripted::start(move |client| {
        client.each(|client, request| {
            let _thread = pool.take();
            app(client, request)
        });
    });
    let control = Scripted::start(move |client| {
        client.each(|client, _| match report(&threads) {
            Some(free) => {
                let body = format!(
                    "{{\"backlog\":0,\"running\":3,\"pool_capacity\":{free},\"max_threads\":3,\"requests_count\":9}}"
                );
                client.answer("200 OK", "Content-Type: application/json\r\n", &body)
            }
            None => client.pause(std::time::Duration::from_secs(3600)),
        });
    });
    let mut plan = plan(&server, &["/page"]);
    let url = Url::parse(&control.url("")).unwrap();
    plan.control = Some(ControlAddress { url, token: Some("t0ken".to_owned()) });
    let found = probe_with(&server, &plan);
    found.counts(3, 2).limit(LimitKind::Workers).has_slots_again(&server, 3);
    assert!(control.record.requests().iter().all(|request| request.path == "/stats"));
    found
}

fn statistics_that_report_free_threads_while_a_tab_waits() {
    let found = probe_with_statistics(|_| Some(2));
    found.note(NoteKind::StatsDisagree).no_note(NoteKind::StatsSilent);
}

fn statistics_that_agree() {
    let found = probe_with_statistics(|threads| Some(threads.free()));
    found.no_note(NoteKind::StatsDisagree).no_note(NoteKind::StatsSilent);
    let moments: Vec<_> = found.measured.statistics.iter().map(|it| it.moment).collect();
    assert_eq!(moments, [StatsMoment::Before, StatsMoment::AtLimit, StatsMoment::After], "{found}");
}

fn statistics_that_do_not_answer_at_the_limit() {
    let found = probe_with_statistics(|threads| Some(threads.free()).filter(|free| *free > 0));
    found.note(NoteKind::StatsSilent);
}

fn a_token_is_sent_to_the_control_server_only() {
    let server = Scripted::start(|client| client.each(app));
    let control = Scripted::start(|client| client.each(|client, _| client.answer("403 Forbidden", "", "")));
    let mut plan = plan(&server, &["/page"]);
    let url = Url::parse(&control.url("")).unwrap();
    plan.control = Some(ControlAddress { url, token: Some("t0ken".to_owned()) });
    probe_with(&server, &plan).counts(8, 8).limit(LimitKind::NoneFound);
    let asked = control.record.requests();
    let with_token = |request: &crate::common::scripted::Request| request.head.contains("t0ken");
    assert!(!asked.is_empty() && asked.iter().all(with_token), "{asked:?}");
    assert!(!server.record.requests().iter().any(with_token));
}
