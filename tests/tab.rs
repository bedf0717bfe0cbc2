//! How a tab reacts to a server that redirects, refuses, ends or breaks off an answer, or sends too much. The tests
//! check the table of a browser's reactions row by row, over real sockets.

use std::io::{self, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::wire::{Asked, PATIENCE, STREAM, Server, reset, wait_for_close, wait_until, write};
use ninetabs::lab::event_stream::{EventTooLarge, ReceivedEvent};
use ninetabs::lab::http::{HttpError, MAX_HEAD_BYTES};
use ninetabs::lab::pacing::{BURST, PER_SECOND};
use ninetabs::lab::tab::{Cause, Happens, MAX_REDIRECTS, ReadyState, Reason, Settings, Tab, TabError};
use rustix::process::{Pid, Signal, kill_process};
use socket2::{Domain, Socket, Type};

/// Settings with a short reconnect delay, so that a test need not wait for a browser's default of 3 s.
fn soon() -> Settings {
    Settings { reconnect_after: Duration::from_millis(10), ..Settings::default() }
}

fn next(tab: &Tab) -> Happens {
    tab.happenings().recv_timeout(PATIENCE).expect("nothing happened to the tab").what
}

/// Skips to the next event.
fn next_event(tab: &Tab) -> ReceivedEvent {
    loop {
        match next(tab) {
            Happens::Event(event) => return event,
            Happens::Failed { reason } => panic!("{reason}"),
            _ => {}
        }
    }
}

/// Skips to the next end of a connection after which the tab reconnects.
fn next_end(tab: &Tab) -> (Cause, Duration) {
    loop {
        match next(tab) {
            Happens::Ended { cause, reconnect_in } => return (cause, reconnect_in),
            Happens::Failed { reason } => panic!("{reason}"),
            _ => {}
        }
    }
}

fn failure(tab: &Tab) -> Reason {
    tab.wait_for(|tab| tab.ready_state == ReadyState::Closed, PATIENCE)
        .expect("the tab must fail")
        .failed
        .unwrap()
}

#[test]
fn a_stream_opens_before_its_first_event_and_the_server_notices_its_close() {
    let (tell, closed) = mpsc::channel();
    let server = Server::start(move |asked, stream| {
        write(stream, STREAM);
        wait_for_close(stream);
        tell.send(asked.peer_port).unwrap();
    });
    let tab = Tab::open(&server.url("/"), soon()).unwrap();
    let Happens::Connecting { local_port } = next(&tab) else { panic!("the tab must connect first") };
    let Happens::FirstByte { after: first_byte } = next(&tab) else { panic!("the first byte must follow") };
    let Happens::Opened { after: opened, .. } = next(&tab) else {
        panic!("the tab must open after the first byte")
    };
    assert!(first_byte <= opened);
    assert_eq!((tab.ready_state(), tab.local_port()), (ReadyState::Open, Some(local_port)));
    assert_eq!(tab.first_byte(), Some(first_byte));
    tab.close();
    assert_eq!(closed.recv_timeout(PATIENCE), Ok(local_port));
    assert_eq!((tab.ready_state(), tab.progress().failed), (ReadyState::Closed, None));
    tab.close();
}

#[test]
fn a_tab_that_waits_for_an_answer_can_be_closed() {
    let (tell, closed) = mpsc::channel();
    let server = Server::start(move |asked, stream| {
        wait_for_close(stream);
        tell.send(asked.peer_port).unwrap();
    });
    let tab = Tab::open(&server.url("/"), soon()).unwrap();
    let Happens::Connecting { local_port } = next(&tab) else { panic!("the tab must connect first") };
    wait_until("the server accepts the connection", || server.accepted() == 1);
    assert_eq!((tab.ready_state(), tab.first_byte()), (ReadyState::Connecting, None));
    drop(tab);
    assert_eq!(closed.recv_timeout(PATIENCE), Ok(local_port));
}

#[test]
fn a_request_with_a_final_answer_is_not_repeated() {
    for status in [204, 205, 206, 304, 400, 401, 404, 408, 429, 500, 502, 503] {
        let server = Server::start(move |_, stream| {
            let head = format!(
                "HTTP/1.1 {status} X\r\nContent-Type: text/event-stream\r\nRetry-After: 0\r\n\
                 Connection: close\r\n\r\nretry: 1\n\ndata: not seen\n\n"
            );
            write(stream, head);
        });
        let tab = Tab::open(&server.url("/"), soon()).unwrap();
        assert_eq!(failure(&tab), Reason::Status(status));
        tab.close();
        assert_eq!((server.accepted(), tab.progress().events), (1, 0), "{status}");
    }
}

#[test]
fn a_503_is_final_even_for_a_stream_that_worked_before() {
    let server = Server::start(|asked, stream| match asked.number {
        0 => write(stream, format!("{STREAM}retry: 1\nid: 1\ndata: fine\n\n")),
        _ => write(stream, "HTTP/1.1 503 Full\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"),
    });
    let tab = Tab::open(&server.url("/"), soon()).unwrap();
    assert_eq!(failure(&tab), Reason::Status(503));
    tab.close();
    assert_eq!((server.accepted(), tab.progress().events), (2, 1));
}

#[test]
fn an_answer_with_another_content_type_is_final() {
    for (header, named) in [
        ("Content-Type: text/html; charset=utf-8\r\n", "text/html"),
        ("Content-Type: text/event-stream,text/html\r\n", "text/event-stream,text/html"),
        ("", ""),
    ] {
        let server = Server::start(move |_, stream| {
            write(stream, format!("HTTP/1.1 200 OK\r\n{header}\r\ndata: x\n\n"))
        });
        let tab = Tab::open(&server.url("/"), soon()).unwrap();
        assert_eq!(failure(&tab), Reason::MimeType(named.to_owned()));
    }
}

#[test]
fn a_redirect_is_followed_once_and_reconnects_go_straight_to_its_target() {
    for status in [301, 302, 303, 307, 308] {
        let paths = Arc::new(Mutex::new(Vec::new()));
        let server = Server::start({
            let paths = paths.clone();
            move |asked, stream| {
                paths.lock().unwrap().push(asked.path().to_owned());
                match asked.path() {
                    "/old" => write(
                        stream,
                        format!(
                            "HTTP/1.1 {status} X\r\nLocation: deeper/new?a=b#c\r\nContent-Length: 0\r\n\r\n"
                        ),
                    ),
                    _ => write(stream, format!("{STREAM}data: {status}\n\n")),
                }
            }
        });
        let tab = Tab::open(&server.url("/old"), soon()).unwrap();
        for _ in 0..3 {
            assert_eq!(next_event(&tab).data, status.to_string());
        }
        tab.close();
        let paths = paths.lock().unwrap();
        assert_eq!(paths[..4], ["/old", "/deeper/new?a=b", "/deeper/new?a=b", "/deeper/new?a=b"]);
    }
}

#[test]
fn a_redirect_without_a_target_or_to_https_is_final() {
    let nowhere = Server::start(|_, stream| write(stream, "HTTP/1.1 301 X\r\nContent-Length: 0\r\n\r\n"));
    assert_eq!(failure(&Tab::open(&nowhere.url("/"), soon()).unwrap()), Reason::Status(301));
    let https = Server::start(|_, stream| {
        write(stream, "HTTP/1.1 302 X\r\nLocation: https://localhost/\r\nContent-Length: 0\r\n\r\n");
    });
    assert!(matches!(failure(&Tab::open(&https.url("/"), soon()).unwrap()), Reason::Unusable(_)));
}

#[test]
fn a_loop_of_redirects_is_abandoned_and_retried() {
    let server = Server::start(|asked, stream| {
        let next = asked.number + 1;
        write(stream, format!("HTTP/1.1 307 X\r\nLocation: /{next}\r\nContent-Length: 0\r\n\r\n"));
    });
    let tab =
        Tab::open(&server.url("/"), Settings { reconnect_after: PATIENCE, ..Settings::default() }).unwrap();
    assert!(matches!(next_end(&tab), (Cause::TooManyRedirects, PATIENCE)));
    assert_eq!(server.accepted(), MAX_REDIRECTS);
    assert_eq!(tab.ready_state(), ReadyState::Connecting);
}

#[test]
fn a_refused_tab_reconnects_until_a_server_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let tab = Tab::open(&format!("http://{address}/"), soon()).unwrap();
    for _ in 0..5 {
        let (cause, _) = next_end(&tab);
        assert!(matches!(cause, Cause::Network(HttpError::Refused { .. })), "{cause}");
    }
    let _server = Server::on(TcpListener::bind(address).unwrap(), |_, stream| {
        write(stream, format!("{STREAM}data: here\n\n"));
        wait_for_close(stream);
    });
    assert_eq!(next_event(&tab).data, "here");
}

#[test]
fn retry_stays_in_effect_across_connections_and_the_default_is_three_seconds() {
    let server = Server::start(|asked, stream| match asked.number {
        0 => write(stream, format!("{STREAM}retry: 7\n")),
        1 => write(stream, STREAM),
        _ => write(stream, format!("{STREAM}retry: 10000000\n")),
    });
    let tab = Tab::open(&server.url("/"), Settings::default()).unwrap();
    let delays: Vec<_> = (0..3).map(|_| next_end(&tab).1).collect();
    assert_eq!(delays, [7, 7, 10_000_000].map(Duration::from_millis));
    let silent = Server::start(|_, stream| write(stream, STREAM));
    let tab = Tab::open(&silent.url("/"), Settings::default()).unwrap();
    assert_eq!(next_end(&tab).1, Duration::from_secs(3));
}

#[test]
fn the_last_event_id_is_sent_unencoded_and_with_the_first_request_if_given() {
    let (tell, asked) = mpsc::channel::<Asked>();
    let server = Server::start(move |request, stream| {
        tell.send(request.clone()).unwrap();
        write(stream, format!("{STREAM}id:  \u{2026} 2 \ndata\n\n"));
    });
    let settings = Settings { last_event_id: "seven".to_owned(), ..soon() };
    let tab = Tab::open(&server.url("/"), settings).unwrap();
    let ids: Vec<_> = (0..2).map(|_| asked.recv_timeout(PATIENCE).unwrap()).collect();
    assert_eq!(ids[0].header("Last-Event-ID"), Some("seven"));
    assert_eq!(ids[1].header("Last-Event-ID"), Some("\u{2026} 2"));
    drop(tab);
    let smuggled = Settings { last_event_id: "1\r\nA: b".to_owned(), ..soon() };
    let refused = Tab::open(&server.url("/"), smuggled);
    assert!(matches!(refused, Err(TabError::Http(HttpError::BadHeaderValue { .. }))));
}

#[test]
fn every_early_end_keeps_complete_events_and_has_its_own_cause() {
    let chunked = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    let counted = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 999\r\n\r\n";
    let whole = "id: 1\ndata: whole\n\n";
    let in_a_chunk = format!("{chunked}{:x}\r\n{whole}", whole.len());
    for (answer, named) in [
        (format!("{STREAM}{whole}id: 2\ndata: lost"), "the server ended the stream"),
        (format!("{counted}{whole}id: 2\ndata: lost"), "ended before it was complete"),
        // The line ending after the chunk never arrives, but the event in the chunk is complete.
        (in_a_chunk.clone(), "ended before it was complete"),
        (format!("{in_a_chunk}\r\n"), "ended before it was complete"),
        (format!("{in_a_chunk}\r\nno number\r\n"), "framing of the answer's body is invalid"),
        (format!("{in_a_chunk}\r\n0\r\n\r\n"), "the server ended the stream"),
    ] {
        let (tell, ids) = mpsc::channel();
        let server = Server::start({
            let answer = answer.clone();
            move |asked, stream| {
                tell.send(asked.header("Last-Event-ID").map(str::to_owned)).unwrap();
                write(stream, &answer);
            }
        });
        let tab = Tab::open(&server.url("/"), soon()).unwrap();
        let event = next_event(&tab);
        assert_eq!((event.data.as_str(), event.last_event_id.as_str()), ("whole", "1"), "{answer:?}");
        let (cause, _) = next_end(&tab);
        assert!(cause.to_string().contains(named), "{answer:?}: {cause}");
        let ids: Vec<_> = (0..2).map(|_| ids.recv_timeout(PATIENCE).unwrap()).collect();
        assert_eq!(ids, [None, Some("1".to_owned())], "{answer:?}");
    }
}

#[test]
fn a_reset_within_an_event_and_an_end_before_the_first_byte_have_different_causes() {
    let (whole_came, reset_now) = crossbeam_channel::bounded(1);
    let server = Server::start(move |asked, stream| match asked.number {
        0 => {}
        1 => {
            write(stream, format!("{STREAM}data: whole\n\ndata: lo"));
            // An RST discards data that the client has not yet read.
            reset_now.recv_timeout(PATIENCE).unwrap();
            reset(stream);
        }
        _ => wait_for_close(stream),
    });
    let tab = Tab::open(&server.url("/"), soon()).unwrap();
    let (cause, _) = next_end(&tab);
    assert!(matches!(cause, Cause::Network(HttpError::NoAnswer)), "{cause}");
    assert_eq!(next_event(&tab).data, "whole");
    whole_came.send(()).unwrap();
    let (cause, _) = next_end(&tab);
    assert!(matches!(cause, Cause::Network(HttpError::Reset { .. })), "{cause}");
}

/// A server whose stream resumes from `Last-Event-ID` and is sent in pieces of a few bytes. Each connection receives
/// at most `most` events and the beginning of another one, and then nothing until the tab closes it.
fn counting_server(to: u64, most: u64) -> Server {
    Server::start(move |asked, stream| {
        let from = asked.header("Last-Event-ID").map_or(0, |id| id.parse::<u64>().unwrap());
        let last = to.min(from + most);
        let events = (from + 1..=last).map(|id| format!("data: the event\ndata: {id}\nid: {id}\n\n"));
        let begun = if last < to { "data: the ev" } else { "" };
        let bytes = format!("{STREAM}{}{begun}", events.collect::<String>()).into_bytes();
        let mut random = fastrand::Rng::with_seed(asked.number as u64);
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(random.usize(1..=rest.len().min(70)));
            write(stream, piece);
            rest = after;
            if random.u8(..) < 8 {
                thread::sleep(Duration::from_millis(1));
            }
        }
        wait_for_close(stream);
    })
}

#[test]
fn hundreds_of_cuts_within_events_lose_and_repeat_nothing() {
    const LAST: u64 = 20_000;
    // The test cuts each connection before it has delivered this many events, even if it sees the events late.
    const MOST: u64 = 100;
    let server = counting_server(LAST, MOST);
    let settings = Settings { reconnect_after: Duration::ZERO, ..Settings::default() };
    let tab = Tab::open(&server.url("/"), settings).unwrap();
    let mut random = fastrand::Rng::with_seed(9);
    let (mut ids, mut cuts, mut next_cut) = (Vec::new(), 0, 1);
    while ids.last() != Some(&LAST) {
        match next(&tab) {
            Happens::Event(event) => {
                ids.push(event.last_event_id.parse::<u64>().unwrap());
                if ids.len() as u64 >= next_cut && tab.cut() {
                    next_cut = ids.len() as u64 + random.u64(1..MOST - 20);
                }
            }
            Happens::Ended { cause, .. } => {
                assert!(matches!(cause, Cause::Cut), "{cause}");
                cuts += 1;
            }
            Happens::Failed { reason } => panic!("{reason}"),
            _ => {}
        }
    }
    assert_eq!(ids, (1..=LAST).collect::<Vec<_>>());
    assert!(cuts >= LAST / MOST - 1, "only {cuts} cuts");
}

#[test]
fn an_event_without_an_end_fails_at_the_limit() {
    let server = Server::start(|_, stream| {
        write(stream, format!("{STREAM}data: small\n\ndata: "));
        for _ in 0..100 {
            write(stream, [b'x'; 1000]);
        }
        wait_for_close(stream);
    });
    let settings = Settings { max_event_bytes: 50_000, ..soon() };
    let tab = Tab::open(&server.url("/"), settings).unwrap();
    assert_eq!(failure(&tab), Reason::EventTooLarge(EventTooLarge { limit: 50_000 }));
    let progress = tab.progress();
    assert!(progress.events == 1 && progress.bytes < 100_000, "{progress:?}");
    tab.close();
    assert_eq!(server.accepted(), 1);
}

#[test]
fn an_endless_head_fails_at_the_limit_and_is_final() {
    let server = Server::start(|_, stream| {
        write(stream, "HTTP/1.1 200 OK\r\nA: ");
        write(stream, vec![b'x'; MAX_HEAD_BYTES + 1]);
        wait_for_close(stream);
    });
    let tab = Tab::open(&server.url("/"), soon()).unwrap();
    assert!(failure(&tab).to_string().contains("larger than"));
    tab.close();
    assert_eq!(server.accepted(), 1);
}

#[test]
fn a_name_under_localhost_reaches_a_server_on_either_loopback_address() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let Ok(listener) = TcpListener::bind(address) else {
            eprintln!("not tested: this machine has no {address}");
            continue;
        };
        let port = listener.local_addr().unwrap().port();
        let (tell, asked) = mpsc::channel();
        let _server = Server::on(listener, move |request, stream| {
            tell.send(request.header("Host").map(str::to_owned)).unwrap();
            write(stream, format!("{STREAM}data: here\n\n"));
            wait_for_close(stream);
        });
        let tab = Tab::open(&format!("http://TAB1.localhost:{port}/"), soon()).unwrap();
        assert_eq!(next_event(&tab).data, "here", "{address}");
        assert_eq!(asked.recv_timeout(PATIENCE).unwrap(), Some(format!("tab1.localhost:{port}")));
    }
}

#[test]
fn a_refusal_names_the_host_and_all_of_its_addresses() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let tab = Tab::open(&format!("http://tab1.localhost:{free}/"), soon()).unwrap();
    let (cause, _) = next_end(&tab);
    let expected = format!("tab1.localhost:{free} ([::1] and 127.0.0.1) refused the connection");
    assert_eq!(cause.to_string(), expected);
}

#[test]
fn the_user_and_password_of_the_url_are_sent_after_a_401_and_then_with_every_request() {
    let (tell, asked) = mpsc::channel();
    let server = Server::start(move |request, stream| {
        let authorization = request.header("Authorization").map(str::to_owned);
        tell.send((request.path().to_owned(), authorization.clone())).unwrap();
        match authorization.as_deref() {
            // me:sec:ret
            Some("Basic bWU6c2VjOnJldA==") => write(stream, format!("{STREAM}data: in\n\n")),
            _ => write(
                stream,
                "HTTP/1.1 401 X\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n",
            ),
        }
    });
    let url = |user: &str| format!("http://{user}127.0.0.1:{}/a", server.port);
    let tab = Tab::open(&url("me:sec%3Aret@"), soon()).unwrap();
    assert_eq!(next_event(&tab).data, "in");
    assert_eq!(next_event(&tab).data, "in");
    tab.close();
    let seen: Vec<bool> = asked.try_iter().map(|(_, sent)| sent.is_some()).take(3).collect();
    assert_eq!(seen, [false, true, true]);
    let wrong = Tab::open(&url("me:wrong@"), soon()).unwrap();
    assert!(matches!(failure(&wrong), Reason::Unauthorized(why) if why.contains("not accepted")));
    let none = Tab::open(&url(""), soon()).unwrap();
    assert_eq!(failure(&none), Reason::Status(401));
}

#[test]
fn a_redirect_to_another_origin_is_read_if_that_origin_allows_it() {
    let other = Server::start(|asked, stream| {
        let allowed = match (asked.path(), asked.header("Origin")) {
            ("/open", Some(origin)) => format!("Access-Control-Allow-Origin: {origin}\r\n"),
            _ => String::new(),
        };
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n";
        write(stream, format!("{head}{allowed}\r\ndata: other\n\n"));
    });
    let there = other.url("");
    let first = Server::start(move |asked, stream| {
        let location = format!("{there}{}", asked.path());
        write(stream, format!("HTTP/1.1 307 X\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"));
    });
    let open = Tab::open(&first.url("/open"), soon()).unwrap();
    // The second time, the tab connects directly to the other origin.
    assert_eq!(next_event(&open).data, "other");
    assert_eq!(next_event(&open).data, "other");
    open.close();
    let closed = Tab::open(&first.url("/closed"), soon()).unwrap();
    assert_eq!(failure(&closed), Reason::OtherOrigin { origin: other.url("") });
}

#[test]
fn a_compressed_event_is_delivered_as_soon_as_it_is_flushed() {
    use std::io::Write;
    let (tell, go_on) = crossbeam_channel::bounded(0);
    let server = Server::start(move |_, stream| {
        write(stream, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\n\r\n");
        let mut gzip = flate2::write::GzEncoder::new(&mut *stream, flate2::Compression::default());
        for number in 0..3 {
            // The last event is larger than any buffer between the two sides.
            let filler = "x".repeat(if number == 2 { 1_000_000 } else { 0 });
            write!(gzip, "data: {number}{filler}\n\n").unwrap();
            gzip.flush().unwrap();
            // Nothing more is sent until this event has arrived.
            go_on.recv_timeout(PATIENCE).unwrap();
        }
    });
    let tab = Tab::open(&server.url("/"), soon()).unwrap();
    for number in 0..3 {
        let data = next_event(&tab).data;
        assert!(data.starts_with(&number.to_string()), "{}", &data[..data.len().min(20)]);
        tell.send_timeout((), PATIENCE).unwrap();
    }
}

#[test]
fn a_compression_bomb_fails_at_the_limit_of_an_event() {
    let server = Server::start(move |_, stream| {
        write(stream, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\n\r\n");
        let mut gzip = flate2::write::GzEncoder::new(&mut *stream, flate2::Compression::best());
        let _ = std::io::Write::write_all(&mut gzip, b"data: ");
        let zeros = [b'0'; 64 * 1024];
        while std::io::Write::write_all(&mut gzip, &zeros).is_ok() {}
    });
    let settings = Settings { max_event_bytes: 3_000_000, ..soon() };
    let tab = Tab::open(&server.url("/"), settings).unwrap();
    assert_eq!(failure(&tab), Reason::EventTooLarge(EventTooLarge { limit: 3_000_000 }));
    assert!(tab.progress().bytes < 4_000_000, "{:?}", tab.progress());
}

/// This is true for answers that end immediately, that set a reconnect delay of zero, or that redirect.
#[test]
fn no_answer_makes_a_tab_connect_more_often_than_the_stated_rate() {
    let answers = [
        format!("{STREAM}retry: 0\n\n"),
        format!("{STREAM}retry: 0\ndata: x\n\n"),
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 0\r\n\r\n".to_owned(),
        String::new(),
        "HTTP/1.1 307 X\r\nLocation: /\r\nContent-Length: 0\r\n\r\n".to_owned(),
        "HTTP/1.1 302 X\r\nLocation: http://localhost/\r\nContent-Length: 0\r\n\r\n".to_owned(),
    ];
    let began = Instant::now();
    let settings = Settings { reconnect_after: Duration::ZERO, ..Settings::default() };
    let opened: Vec<(Server, Tab)> = answers
        .into_iter()
        .map(|answer| {
            let server = Server::start(move |_, stream| write(stream, &answer));
            let tab = Tab::open(&server.url("/"), settings.clone()).unwrap();
            (server, tab)
        })
        .collect();
    thread::sleep(Duration::from_secs(2));
    for (server, tab) in opened {
        tab.close();
        let most = f64::from(BURST) + f64::from(PER_SECOND) * began.elapsed().as_secs_f64() + 1.0;
        assert!((server.accepted() as f64) <= most, "{} connections", server.accepted());
    }
}

#[test]
fn a_slow_listener_delays_the_server_and_loses_nothing() {
    let server = Server::start(|_, stream| {
        write(stream, STREAM);
        for number in 0..1000 {
            write(stream, format!("data: {number}\n\n"));
        }
        wait_for_close(stream);
    });
    let (to, happenings) = crossbeam_channel::bounded(0);
    let tab = Tab::open_into(&server.url("/"), soon(), to).unwrap();
    let mut seen = Vec::new();
    while seen.len() < 1000 {
        if let Happens::Event(event) = happenings.recv_timeout(PATIENCE).unwrap().what {
            seen.push(event.data);
        }
    }
    assert_eq!(seen, (0..1000).map(|number| number.to_string()).collect::<Vec<_>>());
    tab.close();

    // A tab continues even if its receiver has been dropped.
    let (to, happenings) = crossbeam_channel::bounded(0);
    drop(happenings);
    let tab = Tab::open_into(&server.url("/"), soon(), to).unwrap();
    assert!(tab.wait_for(|tab| tab.events == 1000, PATIENCE).is_some());
}

#[test]
fn a_tab_with_a_full_channel_can_still_be_closed() {
    let server = Server::start(|_, stream| {
        write(stream, format!("{STREAM}data: x\n\n"));
        wait_for_close(stream);
    });
    let (to, _happenings) = crossbeam_channel::bounded(0);
    let tab = Tab::open_into(&server.url("/"), soon(), to).unwrap();
    wait_until("the tab is connected", || tab.local_port().is_some());
    tab.close();
    assert_eq!(tab.ready_state(), ReadyState::Closed);
}

#[test]
fn an_unusable_url_is_refused_immediately() {
    let refused = |url: &str| Tab::open(url, soon()).unwrap_err().to_string();
    assert!(refused("https://localhost/").contains("plain http"));
    assert!(refused("localhost:9292").contains("http"));
    assert!(refused("nonsense").contains("http://HOST"));
}

#[test]
fn a_tab_whose_connection_attempt_hangs_can_be_closed_immediately() {
    // A full accept queue leaves a client's SYN unanswered.
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&any.into()).unwrap();
    listener.listen(0).unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap().as_socket().unwrap());
    let settings = Settings { connect_timeout: 10 * PATIENCE, ..Settings::default() };
    let tabs: Vec<Tab> = (0..3).map(|_| Tab::open(&url, settings.clone()).unwrap()).collect();
    wait_until("the queue is full", || tabs.iter().any(|tab| tab.progress().connections == 1));
    let began = Instant::now();
    drop(tabs);
    assert!(began.elapsed() < PATIENCE, "closing the tabs waited for the connection attempts");
}

/// Answers with random bytes, and with pieces that are almost valid. In every case, the connection must end or the
/// tab must fail.
#[test]
fn no_answer_of_a_server_makes_a_tab_panic() {
    let pieces: [&[u8]; 24] = [
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 302 X\r\n",
        b"HTTP/1.1 401 X\r\n",
        b"Content-Type: text/event-stream\r\n",
        b"Content-Type: text/event-stream;\"\\\r\n",
        b"Content-Encoding: gzip\r\n",
        b"Content-Encoding: br, deflate\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Content-Length: 18446744073709551615\r\n",
        b"Location: http://\xff:9/\r\n",
        b"Location: ?\r\n",
        b"WWW-Authenticate: ,=\"\\ Basic\r\n",
        b"Access-Control-Allow-Origin: *\r\n",
        b"\r\n",
        b"\r\n\r\n",
        b"7fffffffffffffff\r\n",
        b"retry: 18446744073709551615\n",
        b"retry: 99999999999999999999999\n",
        b"id: \0\xf0\x9f\n",
        b"data: \xed\xa0\x80\n\n",
        b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
        b"\x1b\xff\xff\x07",
        b" : \x00",
        b"HTTP",
    ];
    let server = Server::start(move |asked, stream| {
        let mut random = fastrand::Rng::with_seed(asked.number as u64);
        let mut bytes = if random.bool() { STREAM.as_bytes().to_vec() } else { Vec::new() };
        for _ in 0..random.usize(1..12) {
            match random.u8(..) {
                0..40 => bytes.extend((0..random.usize(0..40)).map(|_| random.u8(..))),
                _ => bytes.extend_from_slice(pieces[random.usize(..pieces.len())]),
            }
        }
        write(stream, bytes);
    });
    let settings = Settings { reconnect_after: PATIENCE, max_event_bytes: 1_000_000, ..Settings::default() };
    for _ in 0..400 {
        let url = format!("http://me:pw@127.0.0.1:{}/", server.port);
        let tab = Tab::open(&url, settings.clone()).unwrap();
        // If the tab's thread panicked, neither of these would arrive, and `next` would fail.
        loop {
            match next(&tab) {
                Happens::Ended { .. } | Happens::Failed { .. } => break,
                _ => {}
            }
        }
    }
}

/// Both ends of a full pipe.
fn full_pipe() -> (io::PipeReader, io::PipeWriter) {
    let (reader, mut writer) = io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    while writer.write(&[b'\n'; 4096]).is_ok() {}
    while writer.write(b"\n").is_ok() {}
    rustix::io::ioctl_fionbio(&writer, false).unwrap();
    (reader, writer)
}

#[test]
fn the_command_ends_on_time_and_at_the_first_signal_even_if_its_output_is_blocked() {
    let server = Server::start(|_, stream| {
        write(stream, format!("{STREAM}data: 1\n\n"));
        wait_for_close(stream);
    });
    for (blocked, arguments, signal, status) in [
        ("stdout", &[][..], Some(Signal::INT), 130),
        ("stdout", &[], Some(Signal::TERM), 130),
        ("stdout", &["--for", "200ms"], None, 0),
        ("stderr", &[], Some(Signal::INT), 130),
        ("stderr", &["--for", "200ms"], None, 0),
        ("stderr", &["--events", "1"], None, 0),
    ] {
        let asked = server.accepted();
        let (reader, full) = full_pipe();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ninetabs"));
        command.arg("tab").args(arguments).arg(server.url("/")).stdin(Stdio::null());
        match blocked {
            "stdout" => command.stdout(full).stderr(Stdio::null()),
            _ => command.stdout(Stdio::null()).stderr(full),
        };
        let mut child = command.spawn().unwrap();
        drop(command);
        wait_until("the command has sent a request", || server.accepted() > asked);
        let what = format!("{blocked} {arguments:?} {signal:?}");
        if let Some(signal) = signal {
            // The command needs this time to block on the full pipe.
            thread::sleep(Duration::from_millis(200));
            kill_process(Pid::from_child(&child), signal).unwrap();
        }
        let asked_at = Instant::now();
        let ended = loop {
            match child.try_wait().unwrap() {
                Some(ended) => break ended,
                None if asked_at.elapsed() > PATIENCE => {
                    child.kill().unwrap();
                    panic!("the command does not end: {what}");
                }
                None => thread::sleep(Duration::from_millis(5)),
            }
        };
        assert_eq!(ended.code(), Some(status), "{what}");
        assert!(asked_at.elapsed() < Duration::from_secs(10), "{what}: {:?}", asked_at.elapsed());
        drop(reader);
    }
}
