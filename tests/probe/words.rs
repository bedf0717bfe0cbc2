//! Runs in which nothing is measured, advice, and the requests that are sent.

use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ninetabs::lab::probe::findings::{LimitKind, NoteKind};
use ninetabs::lab::probe::measured::Stopped;

use super::{app, plan, probe, probe_once, probe_with};
use crate::common::batch::batch;
use crate::common::scripted::Scripted;

batch! { super::super::BATCH:
    a_page_whose_answers_vary,
    a_page_that_fails_from_the_start,
    a_page_that_is_a_redirect_is_a_page,
    a_page_that_is_not_found_is_a_page,
    an_address_without_a_server,
    a_response_that_is_not_a_stream,
    an_empty_stream,
    a_cookie_that_the_server_sets_is_named,
    each_tab_requests_the_url_with_its_number,
    headers_and_cookies_are_sent_as_given,
    a_client_without_a_cookie_counts_as_another_user,
}

fn a_page_whose_answers_vary() {
    let asked = AtomicUsize::new(0);
    let server = Scripted::start(move |client| {
        client.each(|client, request| {
            let is_odd = asked.fetch_add(1, Ordering::Relaxed) % 2 == 1;
            if request.is_stream() || is_odd {
                app(client, request)
            } else {
                client.answer("404 Not Found", "", "")
            }
        });
    });
    let found = probe_once(&server, &plan(&server, &["/page"]));
    assert!(found.findings.limit.is_none(), "{found}");
    assert!(
        matches!(&found.measured.stopped, Some(Stopped::UnstablePage { path, .. }) if path == "/page"),
        "{found}"
    );
    assert_eq!((server.record.asked("/page"), server.record.asked("/stream")), (6, 0));
}

fn a_page_that_fails_from_the_start() {
    let server = Scripted::start(|client| {
        client.each(|client, _| client.answer("500 Internal Server Error", "", ""));
    });
    let found = probe_once(&server, &plan(&server, &["/page"]));
    assert!(matches!(found.measured.stopped, Some(Stopped::UnstablePage { .. })), "{found}");
    assert_eq!(server.record.asked("/stream"), 0);
}

/// A server whose pages all have this status.
fn with_page_status(status: &'static str, fields: &'static str) -> Scripted {
    Scripted::start(move |client| {
        client.each(|client, request| match request.is_stream() {
            true => app(client, request),
            false => client.answer(status, fields, ""),
        });
    })
}

fn a_page_that_is_a_redirect_is_a_page() {
    let other = Scripted::start(|client| client.each(app));
    let fields: &'static str = format!("Location: {}\r\n", other.url("/page")).leak();
    let server = with_page_status("302 Found", fields);
    let found = probe(&server);
    found.counts(8, 8).limit(LimitKind::NoneFound);
    assert_eq!(found.measured.baseline[0].status, 302, "{found}");
    assert_eq!(other.record.accepted(), 0, "a redirect was followed");
}

fn a_page_that_is_not_found_is_a_page() {
    let found = probe(&with_page_status("404 Not Found", ""));
    found.counts(8, 8).limit(LimitKind::NoneFound);
}

fn an_address_without_a_server() {
    let server = Scripted::start(|client| client.each(app));
    let mut plan = plan(&server, &["/page"]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    plan.address = listener.local_addr().unwrap();
    drop(listener);
    let found = probe_with(&server, &plan);
    found.nothing_measured(NoteKind::Unreachable);
}

fn a_response_that_is_not_a_stream() {
    let server = Scripted::start(|client| client.each(|client, _| client.page()));
    let found = probe(&server);
    found.nothing_measured(NoteKind::NotAStream);
    assert!(server.record.asked("/stream") <= 2, "{found}");
}

fn an_empty_stream() {
    let server = Scripted::start(|client| {
        client.each(|client, request| {
            if !request.is_stream() {
                return client.page();
            }
            client.begin("");
            client.finish();
            false
        });
    });
    probe(&server).nothing_measured(NoteKind::NotAStream);
}

fn a_cookie_that_the_server_sets_is_named() {
    let server = Scripted::start(|client| {
        client.each(|client, request| match request.is_stream() {
            true => app(client, request),
            false => client.answer("200 OK", "Set-Cookie: session=v4lue; Path=/\r\n", "up\n"),
        });
    });
    let found = probe(&server);
    found.counts(8, 8).limit(LimitKind::NoneFound);
    assert_eq!(found.measured.target.sets_cookies, ["session"], "{found}");
    assert!(found.findings.advice.iter().any(|line| line.contains("--cookie")), "{found}");
    assert!(!found.to_string().contains("v4lue"));
}

fn each_tab_requests_the_url_with_its_number() {
    let server = Scripted::start(|client| client.each(app));
    let mut plan = plan(&server, &["/page"]);
    (plan.url, plan.tabs) = (url::Url::parse(&server.url("/stream/{tab}?t={tab}")).unwrap(), 3);
    probe_with(&server, &plan).counts(3, 3);
    let requests = server.record.requests();
    let tabs: Vec<_> = requests.iter().filter(|request| request.is_stream()).collect();
    for (number, request) in (1..=3).zip(tabs) {
        assert_eq!(
            (&request.path, &request.query),
            (&format!("/stream/{number}"), &Some(format!("t={number}")))
        );
    }
}

fn headers_and_cookies_are_sent_as_given() {
    let server = Scripted::start(|client| client.each(app));
    let mut plan = plan(&server, &["/page"]);
    plan.tabs = 2;
    plan.headers = vec![("X-One".to_owned(), b"1".to_vec())];
    plan.cookie = Some("id=one".to_owned());
    probe_with(&server, &plan).counts(2, 2);
    for request in server.record.requests() {
        assert_eq!(
            (request.header("x-one"), request.header("cookie")),
            (Some("1"), Some("id=one")),
            "{request:?}"
        );
        assert!(request.header("user-agent").unwrap().starts_with("ninetabs-probe/"), "{request:?}");
        let (accept, coding) = (request.header("accept"), request.header("accept-encoding"));
        match request.is_stream() {
            true => assert_eq!(accept, Some("text/event-stream"), "{request:?}"),
            false => assert_eq!(accept, Some("text/html"), "{request:?}"),
        }
        assert!(coding.is_none() || coding == Some("identity") || request.accepts_gzip(), "{request:?}");
    }
}

/// A client without a cookie does not wait for the lock of the session.
fn a_client_without_a_cookie_counts_as_another_user() {
    let session = crate::common::scripted::Slots::new(1);
    let server = Scripted::start(move |client| {
        client.each(|client, request| {
            let _session = request.header("cookie").map(|_| session.take());
            app(client, request)
        });
    });
    let mut plan = plan(&server, &["/page"]);
    plan.headers = vec![("Cookie".to_owned(), b"id=one".to_vec())];
    plan.patience = Some(Duration::from_secs(3));
    probe_with(&server, &plan).counts(1, 0).limit(LimitKind::SessionLock);
}
