//! Tests the end of an event loop whose peers panic when they are dropped.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ninetabs_server::event_loop::{EventLoop, Feed, NextPiece, Peer};
use ninetabs_server::services::Services;
use ninetabs_server::{Request, Response, Server};

const TICK: Duration = Duration::from_millis(5);

struct Silence;

impl Feed for Silence {
    fn refresh(&mut self, _peers: usize) -> bool {
        false
    }
}

struct PanicsInDrop;

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        panic!("for a test");
    }
}

impl Peer<Silence> for PanicsInDrop {
    fn next(&mut self, _feed: &mut Silence, _now: Instant) -> NextPiece {
        NextPiece::Wait
    }

    fn goodbye(&mut self, _feed: &mut Silence) -> Rc<[u8]> {
        Rc::from(*b"bye")
    }
}

/// Ends a loop with two such peers. Both connections must be closed, and the loop must not be reported as
/// failed.
fn end_with(end: impl FnOnce(&EventLoop<Silence>)) {
    let services = Services::default();
    let events = Arc::new(EventLoop::start("test", &services, Duration::from_secs(600), || Silence).unwrap());
    let joins = Arc::downgrade(&events);
    let server = Server::bind("127.0.0.1:0").start(move |_: &Request| {
        let events = joins.upgrade().unwrap();
        Response::detach(move |detached| events.join(detached, Box::new(PanicsInDrop)))
    });
    let server = server.unwrap();
    let clients: Vec<TcpStream> = (0..2)
        .map(|_| {
            let mut client = TcpStream::connect(server.addr()).unwrap();
            client.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            client
        })
        .collect();
    while events.counts().open < 2 {
        thread::sleep(TICK);
    }
    end(&events);
    // Waits until the pool threads have dropped their references.
    while Arc::strong_count(&events) > 1 {
        thread::sleep(TICK);
    }
    drop(events);
    for mut client in clients {
        client.read_to_end(&mut Vec::new()).unwrap();
    }
    assert_eq!(services.ended().try_iter().map(|it| it.to_string()).collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn peers_that_panic_when_dropped_do_not_abort_a_loop_that_is_dropped() {
    end_with(|_| ());
}

#[test]
fn peers_that_panic_when_dropped_do_not_abort_a_loop_that_is_stopped() {
    end_with(|events| {
        events.stop(Instant::now() + Duration::from_secs(2));
        assert!(events.ended().recv().is_err());
    });
}
