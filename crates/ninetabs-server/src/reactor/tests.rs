use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::thread;

use crossbeam_channel::{Receiver, unbounded};

use super::*;

const LONG: Duration = Duration::from_secs(60);

/// One end of a pair of sockets.
struct ReadEnd {
    stream: UnixStream,
    slot: Option<SlotHandle<ReadEnd>>,
    since: Instant,
    patience: Duration,
}

impl Parked for ReadEnd {
    fn deadline(&self) -> Instant {
        self.since + self.patience
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
    (peer, ReadEnd { stream, slot: None, since: Instant::now(), patience: LONG * 60 })
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

#[test]
fn a_connection_that_is_readable_or_has_expired_while_the_reactor_closes_wakes_for_the_shutdown() {
    let (wakes, woken) = unbounded();
    let (go_on, may_go_on) = unbounded();
    let on_wake = move |it: ReadEnd, why| {
        wakes.send((it.stream.as_raw_fd(), why)).unwrap();
        may_go_on.recv().unwrap();
        After::Done
    };
    let reactor = Reactor::start("reactor", &Services::default(), on_wake).unwrap();
    let (mut first_peer, first) = pair();
    let (mut readable_peer, readable) = pair();
    let (_silent_peer, mut expired) = pair();
    expired.patience = Duration::from_millis(1);
    let first_fd = first.fd();
    let mut others = [readable.fd(), expired.fd()];
    watch(&reactor, first);
    first_peer.write_all(b"x").unwrap();
    assert_eq!(woken.recv_timeout(LONG), Ok((first_fd, Wake::Readable)));

    // The reactor's thread now waits for this test. It will find all of this at once.
    watch(&reactor, readable);
    watch(&reactor, expired);
    readable_peer.write_all(b"x").unwrap();
    thread::scope(|scope| {
        scope.spawn(|| reactor.close());
        while reactor.shared.state().phase == ReactorPhase::Open {
            thread::yield_now();
        }
        thread::sleep(Duration::from_millis(2));
        (0..3).for_each(|_| go_on.send(()).unwrap());
    });
    let mut last: Vec<_> = woken.try_iter().collect();
    last.sort_by_key(|(fd, _)| *fd);
    others.sort();
    assert_eq!(last, others.map(|fd| (fd, Wake::Shutdown)));
}
