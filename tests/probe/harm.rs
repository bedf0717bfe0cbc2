//! The rules that keep a probe from harming the server and the terminal, and from leaking secrets.

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use ninetabs::lab::probe::findings::{LimitKind, NoteKind};

use rustix::process::{Pid, Signal, kill_process};

use super::{app, plan, probe, probe_with};
use crate::common::batch::batch;
use crate::common::scripted::{GAP, Scripted, Slots};
use crate::common::{proc_status, wait_for};

batch! { super::super::BATCH:
    a_limit_of_three_is_found_with_six_connections,
    no_more_connections_than_tabs_are_ever_held,
    tabs_are_opened_one_after_another,
    only_get_and_the_given_method_are_sent,
    a_page_that_is_not_answered_is_requested_three_times_per_climb,
    a_probe_of_another_host_needs_confirmation,
    pages_and_the_control_server_must_be_on_allowed_hosts,
    redirects_of_a_stream_are_not_followed,
    proxy_variables_in_the_environment_are_ignored,
    no_output_contains_a_secret,
    control_characters_from_the_server_are_replaced,
    a_head_without_an_end_is_not_read_to_its_end,
    an_event_without_an_end_is_not_kept,
    large_heads_are_not_kept,
    a_flood_of_events_hides_neither_the_deadline_nor_a_signal,
    a_run_announces_how_much_it_will_send,
}

/// A server with three threads. It reads every request before a thread takes it, so that its record contains
/// every connection.
fn three_threads() -> Scripted {
    let threads = Slots::new(3);
    Scripted::start(move |client| {
        client.each(|client, request| {
            let _thread = threads.take();
            app(client, request)
        });
    })
}

fn a_limit_of_three_is_found_with_six_connections() {
    let server = three_threads();
    let found = probe(&server);
    found.counts(3, 2).limit(LimitKind::Workers);
    let open = found.open_at_the_count.unwrap_or_else(|| panic!("the count was never reported: {found}"));
    assert!(open <= 3 + 3, "{open} connections: {found}");
}

/// Idle and keep-alive connections count as well.
fn no_more_connections_than_tabs_are_ever_held() {
    let server = three_threads();
    let mut plan = plan(&server, &["/page"]);
    plan.tabs = 5;
    let found = probe_with(&server, &plan);
    found.counts(3, 2).limit(LimitKind::Workers);
    // Page requests are additional: one at a time, or up to three while they are not answered.
    assert!(server.record.most_open() <= 5 + 3, "{} connections: {found}", server.record.most_open());
    let unlimited = Scripted::start(|client| client.each(app));
    let mut plan = super::plan(&unlimited, &["/page", "/other"]);
    plan.tabs = 5;
    probe_with(&unlimited, &plan).counts(5, 5);
    assert!(unlimited.record.most_open() <= 5 + 1, "{} connections", unlimited.record.most_open());
}

fn tabs_are_opened_one_after_another() {
    let server = Scripted::start(|client| {
        client.each(|client, request| {
            client.pause(Duration::from_millis(if request.is_stream() { 100 } else { 0 }));
            app(client, request)
        });
    });
    probe(&server).counts(8, 8);
    assert_eq!(server.record.most_without_event(), 1, "several streams waited at the same time");
}

fn only_get_and_the_given_method_are_sent() {
    let server = three_threads();
    probe(&server).limit(LimitKind::Workers);
    for request in server.record.requests() {
        assert_eq!((&*request.method, &*request.version), ("GET", "HTTP/1.1"), "{request:?}");
        assert!(request.header("user-agent").unwrap().starts_with("ninetabs-probe/"), "{request:?}");
    }
}

fn a_page_that_is_not_answered_is_requested_three_times_per_climb() {
    let server = three_threads();
    let found = probe(&server);
    found.counts(3, 2).limit(LimitKind::Workers);
    // Three requests beside each of the three tabs.
    let first = found.first();
    let beside: usize = first.tabs.iter().flat_map(|tab| &tab.pages).map(|page| page.asks.len()).sum();
    assert_eq!(beside, 9, "{found}");
    assert!(found.measured.waiting.len() <= 3, "{found}");
    assert!(
        found.measured.waiting.iter().all(|tab| tab.pages.iter().all(|page| page.asks.is_empty())),
        "{found}"
    );
    assert!(found.measured.requests >= server.record.requests().len(), "{found}");
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ninetabs"));
    command.arg("probe").args(args).stdin(Stdio::null());
    command
}

fn ninetabs(args: &[&str]) -> Output {
    command(args).output().unwrap()
}

/// Everything that the command printed.
fn printed(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The addresses are reserved for documentation, so a connection to them could not be established.
fn a_probe_of_another_host_needs_confirmation() {
    let output = ninetabs(&["http://192.0.2.1/stream"]);
    assert_eq!(output.status.code(), Some(2), "{}", printed(&output));
    let refusal = "cannot probe 192.0.2.1: it is not this machine; a probe makes its pages hang for up to a \
                   minute, so confirm with --i-own-this-host";
    assert!(printed(&output).contains(refusal), "{}", printed(&output));
    let output = ninetabs(&["http://[2001:db8::1]/stream"]);
    assert_eq!(output.status.code(), Some(2), "{}", printed(&output));
}

fn pages_and_the_control_server_must_be_on_allowed_hosts() {
    let server = Scripted::start(|client| client.each(app));
    let stream = server.url("/stream");
    let other = Scripted::start(|client| client.each(app));
    for args in [
        ["--page", "http://192.0.2.1/page"],
        ["--page", &other.url("/page")],
        ["--control-url", "http://192.0.2.1:9293"],
    ] {
        let output = ninetabs(&[&[&*stream], &args[..]].concat());
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", printed(&output));
    }
    assert_eq!((server.record.accepted(), other.record.accepted()), (0, 0));
}

fn redirects_of_a_stream_are_not_followed() {
    let other = Scripted::start(|client| client.each(app));
    let fields = format!("Location: {}\r\n", other.url("/stream"));
    let server = Scripted::start(move |client| {
        client.each(|client, request| match request.is_stream() {
            true => client.answer("302 Found", &fields, ""),
            false => client.page(),
        });
    });
    probe(&server).nothing_measured(NoteKind::NotAStream);
    assert_eq!(other.record.accepted(), 0);
}

fn proxy_variables_in_the_environment_are_ignored() {
    let (server, proxy) =
        (Scripted::start(|client| client.each(app)), Scripted::start(|client| client.each(app)));
    let mut command =
        command(&[&server.url("/stream"), "--page", &server.url("/page"), "--tabs", "2", "--patience", "2"]);
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        command.env(name, proxy.url(""));
    }
    command.env_remove("NO_PROXY").env_remove("no_proxy");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", printed(&output));
    assert_eq!(proxy.record.accepted(), 0, "the proxy received a connection");
    assert!(server.record.asked("/stream") >= 2);
}

fn no_output_contains_a_secret() {
    let server = Scripted::start(|client| client.each(app));
    let control = Scripted::start(|client| client.each(|client, _| client.answer("200 OK", "", "{}")));
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.html");
    let (stream, page) = (server.url("/stream"), server.url("/page"));
    let control_url = control.url("");
    let given = [
        &*stream,
        "--page",
        &page,
        "--tabs",
        "2",
        "--patience",
        "2",
        "-H",
        "X-Api-Key: s3cret-key",
        "-H",
        "Authorization: Bearer s3cret-bearer",
        "--cookie",
        "id=s3cret-cookie",
        "--other-cookie",
        "id=s3cret-other",
        "-d",
        "s3cret-data",
        "--control-url",
        &control_url,
        "--control-token",
        "s3cret-token",
    ];
    let with_password = [&given[..7], &["-u", "user:s3cret-password"]].concat();
    let user_and_password = "dXNlcjpzM2NyZXQtcGFzc3dvcmQ=";
    for args in [&given[..], &with_password] {
        for more in [&[][..], &["--json"], &["--markdown"], &["--report", report.to_str().unwrap()]] {
            let output = ninetabs(&[args, more].concat());
            assert_eq!(output.status.code(), Some(0), "{}", printed(&output));
            let report = std::fs::read_to_string(&report).unwrap_or_default();
            for text in [printed(&output), report] {
                // The name of a header that is not a known secret may be printed, but its value may not.
                for secret in ["s3cret", user_and_password] {
                    assert!(!text.contains(secret), "{secret} in {text}");
                }
            }
        }
    }
    assert!(std::fs::read_to_string(&report).unwrap().contains("<html"));
    let sent = server.record.requests();
    for secret in ["s3cret-bearer", "s3cret-cookie", user_and_password] {
        assert!(sent.iter().any(|request| request.head.contains(secret)), "{secret} was not sent");
    }
    assert!(sent.iter().any(|request| request.body == "s3cret-data"), "the body was not sent");
}

/// The characters are in headers and in a status line. A terminal interprets ESC and U+009B.
fn control_characters_from_the_server_are_replaced() {
    let server = Scripted::start(|client| {
        client.each(|client, request| {
            let fields = "Server: e\u{1b}[2Jvil\u{9b}31m\u{7}\r\nSet-Cookie: a\u{1b}b=1\r\n";
            match request.is_stream() {
                true => app(client, request),
                false => client.answer("200 \u{1b}]0;title\u{7}", fields, "up\n"),
            }
        });
    });
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.html");
    let (stream, page) = (server.url("/stream"), server.url("/page"));
    let given = [&*stream, "--page", &page, "--tabs", "2", "--patience", "2"];
    for more in [&[][..], &["--json"], &["--markdown"], &["--report", report.to_str().unwrap()]] {
        let output = ninetabs(&[&given[..], more].concat());
        let report = std::fs::read_to_string(&report).unwrap_or_default();
        for text in [printed(&output), report] {
            let found = text.chars().find(|it| it.is_control() && *it != '\n');
            assert_eq!(found, None, "{text:?}");
            assert!(!text.contains("\\u001b") && !text.contains("\\u009b"), "{text}");
        }
    }
}

/// Runs the command against a server that answers a stream with `head` and then with `more` over and over. Returns the
/// output and the peak memory of the command [KiB].
fn against_a_flood(head: &'static str, more: &'static [u8]) -> (Output, u64) {
    let server = Scripted::start(move |client| {
        client.each(|client, request| {
            if !request.is_stream() {
                return client.page();
            }
            let flood = more.repeat(64 * 1024 / more.len());
            // The flood is finite. The client has to give up before its end.
            let _ = client.send(head) && (0..8 * 1024).all(|_| client.send(&flood));
            false
        });
    });
    with_its_memory(&server, &["--tabs", "2", "--patience", "3"])
}

/// Runs the command against this server. Returns the output and the peak memory of the command [KiB].
fn with_its_memory(server: &Scripted, more: &[&str]) -> (Output, u64) {
    let (stream, page) = (server.url("/stream"), server.url("/page"));
    let mut command = command(&[&[&*stream, "--page", &*page], more].concat());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut most = 0;
    wait_for("the end of the probe", || {
        let status = child.try_wait().unwrap();
        if status.is_none() {
            // The process may have ended in the meantime.
            let peak = std::panic::catch_unwind(|| proc_status(child.id(), "VmHWM"));
            most = most.max(peak.unwrap_or_default());
        }
        status
    });
    (child.wait_with_output().unwrap(), most)
}

fn a_head_without_an_end_is_not_read_to_its_end() {
    let (output, most) = against_a_flood("HTTP/1.1 200 OK\r\n", b"X-More: and more\r\n");
    assert_eq!(output.status.code(), Some(3), "{}", printed(&output));
    assert!(most < 64 * 1024, "{most} KiB: {}", printed(&output));
}

fn an_event_without_an_end_is_not_kept() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: ";
    let (output, most) = against_a_flood(head, b"and more");
    assert_eq!(output.status.code(), Some(3), "{}", printed(&output));
    assert!(most < 64 * 1024, "{most} KiB: {}", printed(&output));
}

/// A header field of four bytes takes about a hundred bytes of memory once it is parsed.
fn large_heads_are_not_kept() {
    let fields: &'static str = "a:\r\n".repeat(60_000).leak();
    let server = Scripted::start(move |client| {
        client.each(|client, request| {
            if !request.is_stream() {
                return client.answer("200 OK", fields, "up\n");
            }
            let mut is_open = client.begin(fields);
            while is_open {
                is_open = client.event(1) && client.pause(GAP);
            }
            false
        });
    });
    let (output, most) = with_its_memory(&server, &["--tabs", "12", "--patience", "2"]);
    assert_eq!(output.status.code(), Some(0), "{}", printed(&output));
    // The server sends about fifty such heads. Allocators keep some of the memory that was freed.
    assert!(most < 200 * 1024, "{most} KiB: {}", printed(&output));
}

/// Each chunk is an event, and the server sends events faster than they can be counted.
fn a_flood_of_events_hides_neither_the_deadline_nor_a_signal() {
    let flood: &'static [u8] = b"9\r\ndata: x\n\n\r\n".repeat(4096).leak();
    let server = Scripted::start(move |client| {
        client.each(|client, request| {
            if !request.is_stream() {
                return client.page();
            }
            let _ = client.begin("") && (0..).all(|_| client.send(flood));
            false
        });
    });
    let (stream, page) = (server.url("/stream"), server.url("/page"));
    let given = [&*stream, "--page", &*page, "--tabs", "4", "--patience", "2"];
    let output = ninetabs(&given);
    assert!(output.status.code().is_some_and(|status| status == 0 || status == 3), "{}", printed(&output));
    let before = server.record.asked("/stream");
    let mut child = command(&given).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for("a stream", || (server.record.asked("/stream") > before + 1).then_some(()));
    let _ = kill_process(Pid::from_child(&child), Signal::INT);
    let status = wait_for("the end of the probe", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(130), "{status}");
}

fn a_run_announces_how_much_it_will_send() {
    let server = Scripted::start(|client| client.each(app));
    let (stream, page) = (server.url("/stream"), server.url("/page"));
    let given = [&*stream, "--page", &page, "--tabs", "2", "--patience", "2"];
    let output = ninetabs(&[&given[..], &["-d", "{}"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", printed(&output));
    // The words are joined, because the output is wrapped to the terminal's width.
    let words = printed(&output).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("each may cost money or write data"), "{words}");
    let output = ninetabs(&given);
    assert!(!printed(&output).contains("money"), "{}", printed(&output));
    assert!(printed(&output).contains("requests"), "{}", printed(&output));
}
