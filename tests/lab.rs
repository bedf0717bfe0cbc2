//! The lab's clients: a browser's six connections, zombies, and the real programs.
//!
//! If a real program is missing, the error must report that.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::program;
use crate::common::stopped::Stopped;
use crate::common::wire::{PATIENCE, STREAM, Server, wait_for_close, wait_until, write};
use ninetabs::lab::browser::{Browser, BrowserTab, TabFailure, TabState};
use ninetabs::lab::chromium::{self, Chromium, ChromiumError, Page, PageId};
use ninetabs::lab::interrupt::Interrupt;
use ninetabs::lab::program::find;
use ninetabs::lab::tab::{Reason, Waiting};
use ninetabs::lab::visitors::{self, VisitError};
use ninetabs::lab::zombies::Zombie;

const PAGE: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n\
    <title>loading</title><script>\
    new EventSource('/stream').onmessage = event => document.title = event.data\
    </script>";

/// Serves a page at `/`, and a stream at `/stream` that sends one event and stays open.
fn app() -> Server {
    Server::start(|asked, stream| match asked.path() {
        "/" => write(stream, PAGE),
        "/stream" => {
            write(stream, format!("{STREAM}retry: 10\n\ndata: streaming\n\n"));
            wait_for_close(stream);
        }
        _ => write(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
    })
}

fn reaches(tab: &BrowserTab, state: TabState) {
    let reached = tab.wait_for(|now| *now == state, PATIENCE);
    assert!(reached.is_some(), "{state:?} was not reached: {:?}", tab.state());
}

#[test]
fn on_one_host_the_seventh_page_is_not_even_requested() {
    let server = app();
    let browser = Browser::new();
    let mut tabs: Vec<BrowserTab> = Vec::new();
    for _ in 0..6 {
        tabs.push(browser.open(&server.url("/"), "stream").unwrap());
        reaches(tabs.last().unwrap(), TabState::Streaming);
    }
    let seventh = browser.open(&server.url("/"), "stream").unwrap();
    reaches(&seventh, TabState::Loading(Waiting::ForSocket));
    assert_eq!(server.accepted(), 12, "six pages and six streams");
    assert_eq!(seventh.page_port(), None);

    // Another host has separate connections, and so does another browser.
    let elsewhere = browser.open(&format!("http://tab1.localhost:{}/", server.port), "stream").unwrap();
    reaches(&elsewhere, TabState::Streaming);
    let other = Browser::new().open(&server.url("/"), "stream").unwrap();
    reaches(&other, TabState::Streaming);
    assert_eq!(seventh.state(), TabState::Loading(Waiting::ForSocket));

    tabs.remove(2).close();
    reaches(&seventh, TabState::Streaming);
    assert!(seventh.page_port().is_some() && seventh.stream().is_some());
    seventh.close();
    assert_eq!(seventh.state(), TabState::Closed);
}

#[test]
fn a_page_without_an_answer_waits_for_the_server_and_closing_frees_the_connection() {
    let silent = Server::start(|_, stream| wait_for_close(stream));
    let browser = Browser::new();
    let tabs: Vec<_> = (0..7).map(|_| browser.open(&silent.url("/"), "stream").unwrap()).collect();
    let waits = |waiting| tabs.iter().filter(|tab| tab.state() == TabState::Loading(waiting)).count();
    wait_until("six pages are requested", || {
        silent.accepted() == 6 && (waits(Waiting::ForServer), waits(Waiting::ForSocket)) == (6, 1)
    });
    drop(tabs);
    let url = url::Url::parse(&silent.url("/")).unwrap();
    assert_eq!(browser.sockets().in_use(&url), 0);
}

#[test]
fn a_stream_frees_its_connection_while_it_waits_to_reconnect() {
    let server = Server::start(|asked, stream| match asked.path() {
        "/" => write(stream, PAGE),
        _ => write(stream, format!("{STREAM}retry: 10000000\n\n")),
    });
    let browser = Browser::new();
    let tabs: Vec<_> = (0..9).map(|_| browser.open(&server.url("/"), "stream").unwrap()).collect();
    for tab in &tabs {
        reaches(tab, TabState::Connecting(Waiting::ToReconnect));
    }
    assert_eq!(server.accepted(), 18);
}

#[test]
fn a_failed_page_or_stream_has_a_reason() {
    let server = app();
    let browser = Browser::new();
    let no_page = browser.open(&server.url("/no/page"), "stream").unwrap();
    reaches(&no_page, TabState::Failed(TabFailure::PageStatus(404)));
    let no_stream = browser.open(&server.url("/"), "no/stream").unwrap();
    reaches(&no_stream, TabState::Failed(TabFailure::Stream(Reason::Status(404))));
}

/// A server that writes as fast as it can. Returns the number of bytes that it has written so far, and a channel
/// that receives the client's port when a write fails.
fn firehose() -> (Server, Arc<AtomicUsize>, mpsc::Receiver<u16>) {
    let written = Arc::new(AtomicUsize::new(0));
    let (tell, gone) = mpsc::channel();
    let server = Server::start({
        let written = written.clone();
        move |asked, stream| {
            use std::io::Write;
            write(stream, STREAM);
            while stream.write_all(&[b':'; 4096]).is_ok() {
                written.fetch_add(4096, Ordering::SeqCst);
            }
            tell.send(asked.peer_port).unwrap();
        }
    });
    (server, written, gone)
}

/// Blocks until nothing has been written for 300 ms.
fn wait_until_blocked(written: &AtomicUsize) -> usize {
    let end = Instant::now() + PATIENCE;
    loop {
        let before = written.load(Ordering::SeqCst);
        thread::sleep(Duration::from_millis(300));
        if before > 0 && before == written.load(Ordering::SeqCst) {
            return before;
        }
        assert!(Instant::now() < end, "the server is still writing");
    }
}

#[test]
fn a_zombie_blocks_its_writer_until_it_is_dropped() {
    let (server, written, gone) = firehose();
    let zombie = Zombie::open(&server.url("/")).unwrap();
    wait_until_blocked(&written);
    assert!(gone.try_recv().is_err(), "a write has already failed");
    let port = zombie.local_port();
    drop(zombie);
    assert_eq!(gone.recv_timeout(PATIENCE), Ok(port));
}

#[test]
fn a_stopped_curl_blocks_its_writer_until_it_is_killed() {
    let (server, written, gone) = firehose();
    if program("curl").is_none() {
        return;
    }
    let stopped = Stopped::open(&server.url("/"));
    wait_until_blocked(&written);
    assert!(gone.try_recv().is_err(), "a write has already failed");
    drop(stopped);
    gone.recv_timeout(PATIENCE).expect("the kernel closes the connection of the killed curl");
}

#[test]
fn the_real_curl_reads_a_page_and_leaves_a_stream_when_its_time_is_up() {
    let server = app();
    let page = match visitors::curl(&server.url("/"), PATIENCE) {
        Err(error) => {
            assert!(matches!(error, VisitError::NotInstalled { .. }) && find("curl").is_none(), "{error}");
            return;
        }
        Ok(visitor) => visitor.wait().unwrap(),
    };
    assert_eq!((page.status, page.stderr.as_str()), (Some(0), ""));
    assert!(page.stdout.contains("<title>loading"), "{page:?}");

    let mut visitor = visitors::curl(&server.url("/stream"), PATIENCE).unwrap();
    wait_until("curl is connected", || server.accepted() == 2);
    assert!(visitor.is_there());
    assert_eq!(visitor.leave().unwrap().status, None);
    let stream = visitors::curl(&server.url("/stream"), Duration::from_secs(1)).unwrap().wait().unwrap();
    assert_eq!(stream.status, None);
    assert!(stream.stdout.contains("data: streaming"), "{stream:?}");
}

#[test]
fn the_real_ab_counts_its_requests() {
    let server = app();
    match visitors::ab(&server.url("/"), 20, 4, PATIENCE) {
        Err(error) => {
            assert!(matches!(error, VisitError::NotInstalled { .. }) && find("ab").is_none(), "{error}");
        }
        Ok(visitor) => {
            let visit = visitor.wait().unwrap();
            assert_eq!(visit.status, Some(0), "{visit:?}");
            let complete = visit.stdout.lines().find(|line| line.starts_with("Complete requests:"));
            assert!(complete.is_some_and(|line| line.ends_with(" 20")), "{visit:?}");
        }
    }
}

fn titles(chromium: &Chromium, title: &str) -> usize {
    let has = |page: &&Page| page.title == title;
    chromium.pages().unwrap().iter().filter(has).count()
}

#[test]
fn the_real_chromium_streams_in_six_tabs_of_one_host_and_not_in_the_seventh() {
    let server = app();
    let chromium = match Chromium::start(&Interrupt::never()) {
        Err(error) => {
            assert!(
                matches!(error, ChromiumError::NotInstalled) && chromium::installed().is_none(),
                "{error}"
            );
            return;
        }
        Ok(chromium) => chromium,
    };
    let mut ids = Vec::new();
    for number in 1..=6 {
        ids.push(chromium.open(&server.url("/")).unwrap());
        wait_until("the tab streams", || titles(&chromium, "streaming") == number);
    }
    ids.push(chromium.open(&server.url("/")).unwrap());
    let elsewhere = format!("http://tab7.localhost:{}/", server.port);
    let elsewhere = chromium.open(&elsewhere).unwrap();
    wait_until("another host streams", || titles(&chromium, "streaming") == 7);
    let seventh = chromium.pages().unwrap().into_iter().find(|page| page.id == ids[6]).unwrap();
    assert_ne!(seventh.title, "streaming");

    chromium.close(&ids[0]).unwrap();
    wait_until("the seventh tab streams", || {
        let pages = chromium.pages().unwrap();
        let streams = |id: &PageId| pages.iter().any(|page| page.id == *id && page.title == "streaming");
        streams(&ids[6]) && streams(&elsewhere) && !pages.iter().any(|page| page.id == ids[0])
    });
}
