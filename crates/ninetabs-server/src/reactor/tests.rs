use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use crossbeam_channel::{Receiver, unbounded};

use super::*;

const LONG: Duration = Duration::from_secs(60);

/// One end of a pair of sockets.
struct ReadEnd {
    stream: UnixStream,
    slot: Option<SlotHandle<ReadEnd>>,
    since: Instant,
}

impl Parked for ReadEnd {
    fn deadline(&self) -> Instant {
        self.since + LONG * 60
    }

    fn since(&self) -> Instant {
        self.since
    }

    fn waits_for(&self) -> WaitsFor {
        WaitsFor::ARequest
    }
}

impl Watched for ReadEnd {
    fn fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }

    fn slot(&mut self) -> &mut Option<SlotHandle<ReadEnd>> {
        &mut self.slot
    }
}

/// A reactor that reads once per wake-up, as the server does with a part of a head, and reports what it read.
fn reactor_that_reads_once() -> (Reactor<ReadEnd>, Receiver<Result<usize, ErrorKind>>) {
    let (tell, told) = unbounded();
    let on_wake = move |mut it: ReadEnd, _| {
        let read = it.stream.read(&mut [0; 64]).map_err(|error| error.kind());
        tell.send(read).unwrap();
        if read == Ok(0) { After::Done } else { After::WatchUnlessTold(it) }
    };
    (Reactor::start("reactor", &Services::default(), on_wake).unwrap(), told)
}

fn pair() -> (UnixStream, ReadEnd) {
    let (peer, stream) = UnixStream::pair().unwrap();
    stream.set_nonblocking(true).unwrap();
    (peer, ReadEnd { stream, slot: None, since: Instant::now() })
}

fn watch(reactor: &Reactor<ReadEnd>, it: ReadEnd) {
    assert!(reactor.watch(it).is_ok(), "the reactor is open");
}

#[test]
fn a_connection_that_sends_in_parts_is_read_once_per_part() {
    let (reactor, told) = reactor_that_reads_once();
    let (mut peer, it) = pair();
    watch(&reactor, it);
    for part in ["GET / HT", "TP/1.1\r\nHost: ", "localhost\r\n"] {
        peer.write_all(part.as_bytes()).unwrap();
        assert_eq!(told.recv_timeout(LONG), Ok(Ok(part.len())));
    }
    drop(peer);
    assert_eq!(told.recv_timeout(LONG), Ok(Ok(0)), "no read between the last part and the end found nothing");
}

#[test]
fn an_end_that_was_reported_together_with_the_last_part_is_read() {
    let (reactor, told) = reactor_that_reads_once();
    let (mut peer, it) = pair();
    peer.write_all(b"GET / HT").unwrap();
    drop(peer);
    watch(&reactor, it);
    assert_eq!(told.recv_timeout(LONG), Ok(Ok(8)));
    assert_eq!(told.recv_timeout(LONG), Ok(Ok(0)));
}
