//! Tests actions on their own threads, over sockets. The numbered rules were measured on Rails 6.1 with Puma.
//!
//! The test tells an action when to write and reads the result, so nothing here depends on the speed of the machine.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use ninetabs_server::action_threads::ActionThreadStats;
use ninetabs_server::stream::StreamError;
use ninetabs_server::streams::StreamInterrupt;
use ninetabs_server::timeline::{Timeline, What};
use ninetabs_server::{ActionsOn, Dialect, Event, Handle, Request, Response, Server, Stream};

/// How long a condition may take to become true, and an action to answer.
const LONG: Duration = Duration::from_secs(60);
/// A write that has not progressed for this long is blocked.
const STILL: Duration = Duration::from_millis(500);
/// The difference in age between an action that is reaped and one that is not.
const OLDER: Duration = Duration::from_secs(2);
/// More than the kernel buffers on loopback.
const LARGE: usize = 16 << 20;

/// An instruction of the test to an action.
enum Order {
    Write,
    WriteLarge,
    SleepForever,
    Return,
    Panic,
}

/// The test's end of the two channels to an action.
struct Action {
    orders: Sender<Order>,
    results: Receiver<Result<(), StreamError>>,
}

impl Action {
    fn does(&self, order: Order) -> Result<(), StreamError> {
        self.orders.send(order).unwrap();
        self.results.recv_timeout(LONG).unwrap()
    }
}

/// The action's end of the two channels to the test.
type Line = (Receiver<Order>, Sender<Result<(), StreamError>>);

struct Subject {
    server: Handle,
    timeline: Arc<Timeline>,
    actions: Receiver<Action>,
}

impl Subject {
    fn start(configured: impl FnOnce(Server) -> Server) -> Subject {
        let (begin, actions) = unbounded();
        let app = move |request: &Request| {
            if request.path() == "/page" {
                return Response::text("a page");
            }
            let begin = begin.clone();
            Response::events_in(Dialect::Bare, move |stream| {
                let (orders, ordered) = unbounded();
                let (tell, results) = unbounded();
                begin.send(Action { orders, results }).unwrap();
                obey(stream, &(ordered, tell));
                Ok(())
            })
        };
        let timeline = Arc::new(Timeline::default());
        let server =
            Server::bind("127.0.0.1:0").actions_on(ActionsOn::OwnThread).record(Arc::clone(&timeline));
        Subject { server: configured(server).start(app).unwrap(), timeline, actions }
    }

    fn ask(&self, path: &str, version: &str) -> TcpStream {
        let mut client = TcpStream::connect(self.server.addr()).unwrap();
        client.set_read_timeout(Some(LONG)).unwrap();
        write!(client, "GET {path} {version}\r\nHost: localhost\r\n\r\n").unwrap();
        client
    }

    fn open(&self) -> (TcpStream, Action) {
        let client = self.ask("/events", "HTTP/1.1");
        (client, self.actions.recv_timeout(LONG).unwrap())
    }

    fn stats(&self) -> ActionThreadStats {
        self.server.glance().action_threads.unwrap()
    }

    fn await_idle_pool(&self) {
        wait_until("the pool is idle", || self.server.glance().pool.busy_threads == 0);
    }

    fn await_end_of_actions(&self) {
        wait_until("all actions have ended", || self.stats().running == 0);
    }

    /// Waits until the only stream is blocked: the pool thread in a write to the client, and the action in a write to
    /// the full queue. Unsent bytes alone are not enough, because every write has some at its beginning.
    fn await_blocked_write(&self) {
        let (mut last, mut since) = (None, Instant::now());
        wait_until("a write is blocked", || {
            let sent = self.server.threads().iter().find_map(|thread| Some(thread.request.as_ref()?.bytes));
            let written =
                self.server.action_threads().iter().find_map(|thread| Some(thread.action.as_ref()?.writes));
            let now = (sent, written, self.server.glance().unsent_bytes);
            if last != Some(now) {
                (last, since) = (Some(now), Instant::now());
            }
            now.2 > 0 && since.elapsed() > STILL
        });
    }

    fn whats(&self) -> Vec<What> {
        self.timeline.after(0).moments.into_iter().map(|moment| moment.what).collect()
    }
}

fn obey(stream: &mut Stream<'_>, (ordered, tell): &Line) {
    while let Ok(order) = ordered.recv() {
        let result = match order {
            Order::Write => stream.send(Event::data("x")),
            Order::WriteLarge => stream.send(Event::data("x".repeat(LARGE))),
            Order::SleepForever => stream.sleep(Duration::from_secs(100_000)),
            Order::Return => return,
            Order::Panic => panic!("as the test ordered"),
        };
        if tell.send(result).is_err() {
            return;
        }
    }
}

/// Blocks until the condition is true. Panics if this takes too long.
fn wait_until(what: &str, mut is_true: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !is_true() {
        assert!(Instant::now() < deadline, "not true within {LONG:?}: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Reads until this text has arrived.
fn read_until(client: &mut TcpStream, end: &str) -> String {
    let mut all = Vec::new();
    while !all.ends_with(end.as_bytes()) {
        let mut byte = [0];
        assert_ne!(client.read(&mut byte).unwrap(), 0, "{}", String::from_utf8_lossy(&all));
        all.push(byte[0]);
    }
    String::from_utf8(all).unwrap()
}

fn read_all(client: &mut TcpStream) -> String {
    let mut all = String::new();
    client.read_to_string(&mut all).unwrap();
    all
}

/// Rule 1.
#[test]
fn a_stream_holds_a_pool_thread_and_an_action_thread() {
    let subject = Subject::start(|server| server.threads(8..=8));
    let open: Vec<_> = (0..3).map(|_| subject.open()).collect();
    assert_eq!(subject.stats(), ActionThreadStats { running: 3, attached: 3, orphaned: 0 });
    let stats = subject.server.glance();
    assert_eq!((stats.pool.busy_threads, stats.pool.pool_capacity), (3, 5));
    let threads = subject.server.action_threads();
    let names: Vec<_> = threads.iter().map(|thread| thread.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "action_controller.live-worker-1",
            "action_controller.live-worker-2",
            "action_controller.live-worker-3"
        ]
    );
    let mut pool: Vec<_> =
        threads.iter().map(|it| it.action.as_ref().unwrap().pool_thread.unwrap()).collect();
    pool.sort_unstable();
    pool.dedup();
    assert_eq!(pool.len(), 3, "two actions share a pool thread");
    for (_, action) in &open {
        action.orders.send(Order::Return).unwrap();
    }
    subject.await_end_of_actions();
    subject.await_idle_pool();
    // The threads are idle, and are kept for the next actions.
    assert_eq!(subject.server.action_threads().len(), 3);
}

#[test]
fn the_first_write_commits_the_response_and_the_connection_is_kept_alive() {
    let subject = Subject::start(|server| server);
    let (mut client, action) = subject.open();
    assert!(!subject.whats().iter().any(|what| matches!(what, What::ActionCommitted { .. })));
    action.does(Order::Write).unwrap();
    let head = read_until(&mut client, "data: x\n\n\r\n");
    assert!(head.contains("transfer-encoding: chunked") && head.contains("text/event-stream"), "{head}");
    action.orders.send(Order::Return).unwrap();
    assert_eq!(read_until(&mut client, "0\r\n\r\n"), "0\r\n\r\n");
    write!(client, "GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    read_until(&mut client, "a page");
    subject.await_end_of_actions();
    let whats = subject.whats();
    let kinds: Vec<_> = whats
        .iter()
        .filter(|what| {
            matches!(
                what,
                What::ActionBegan { .. }
                    | What::ActionCommitted { .. }
                    | What::ActionOrphaned { .. }
                    | What::ActionEnded { .. }
            )
        })
        .collect();
    assert!(
        matches!(
            kinds[..],
            [
                What::ActionBegan { worker: 1, .. },
                What::ActionCommitted { worker: 1 },
                What::ActionEnded { worker: 1 }
            ]
        ),
        "{kinds:?}"
    );
}

/// Rule 4.
#[test]
fn the_second_write_after_a_close_frees_the_pool_thread_and_the_third_fails_in_the_action() {
    let subject = Subject::start(|server| server);
    let (mut client, action) = subject.open();
    action.does(Order::Write).unwrap();
    read_until(&mut client, "data: x\n\n\r\n");
    drop(client);
    // The kernel accepts the first write after the close.
    action.does(Order::Write).unwrap();
    wait_until("the second write is finished", || {
        subject.whats().iter().filter(|what| matches!(what, What::Wrote { .. })).count() == 2
    });
    assert_eq!((subject.server.glance().pool.busy_threads, subject.stats().attached), (1, 1));
    // The second write fails on the pool thread, but the action does not get the error.
    action.does(Order::Write).unwrap();
    subject.await_idle_pool();
    assert_eq!(subject.stats(), ActionThreadStats { running: 1, attached: 0, orphaned: 1 });
    assert!(subject.whats().iter().any(|what| matches!(what, What::Disconnected { write: 3, .. })));
    let third = action.does(Order::Write).unwrap_err();
    assert!(matches!(&third, StreamError::ClientDisconnected(error) if error.number == 4), "{third:?}");
    assert!(matches!(action.does(Order::Write), Err(StreamError::ClientDisconnected(_))));
    assert_eq!(subject.server.streams().stats().disconnected, 1);
    action.orders.send(Order::Return).unwrap();
    subject.await_end_of_actions();
}

/// Rule 5, and the reaper as the remedy.
#[test]
fn an_action_that_does_not_write_holds_both_threads_after_the_close_until_it_is_reaped() {
    let subject = Subject::start(|server| server.threads(1..=1));
    let (mut client, action) = subject.open();
    action.does(Order::Write).unwrap();
    read_until(&mut client, "data: x\n\n\r\n");
    drop(client);
    action.orders.send(Order::SleepForever).unwrap();
    let mut page = subject.ask("/page", "HTTP/1.0");
    page.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(
        page.read(&mut [0]).is_err(),
        "the page was served although the stream holds the only pool thread"
    );
    assert_eq!(subject.stats(), ActionThreadStats { running: 1, attached: 1, orphaned: 0 });
    assert_eq!(subject.server.reap(Duration::ZERO), 1);
    let slept = action.results.recv_timeout(LONG).unwrap();
    assert!(matches!(slept, Err(StreamError::Reaped(StreamInterrupt::Asked))), "{slept:?}");
    action.orders.send(Order::Return).unwrap();
    page.set_read_timeout(Some(LONG)).unwrap();
    assert!(read_all(&mut page).ends_with("a page"));
    subject.await_end_of_actions();
}

/// Rule 6.
#[test]
fn an_http_1_0_client_gets_the_first_write_and_a_clean_end_and_the_action_continues() {
    let subject = Subject::start(|server| server.threads(1..=1));
    let mut orphans = Vec::new();
    for number in 1..=20 {
        let mut client = subject.ask("/events", "HTTP/1.0");
        let action = subject.actions.recv_timeout(LONG).unwrap();
        action.does(Order::Write).unwrap();
        let answer = read_all(&mut client);
        assert!(
            answer.starts_with("HTTP/1.0 200 OK\r\n") && answer.ends_with("\r\n\r\ndata: x\n\n"),
            "{answer}"
        );
        assert!(!answer.contains("chunked"), "{answer}");
        subject.await_idle_pool();
        assert_eq!(subject.stats(), ActionThreadStats { running: number, attached: 0, orphaned: number });
        orphans.push(action);
    }
    // The only pool thread serves pages, and 20 actions write without a client.
    assert!(read_all(&mut subject.ask("/page", "HTTP/1.0")).ends_with("a page"));
    for orphan in &orphans {
        (0..30).for_each(|_| orphan.does(Order::Write).unwrap());
    }
    let views = subject.server.action_threads();
    assert!(
        views
            .iter()
            .all(|it| it.action.as_ref().is_some_and(|it| it.writes == 31 && it.pool_thread.is_none()))
    );
    assert_eq!(subject.server.streams().stats().disconnected, 0);
    // The age of an orphan continues to count, so the reaper ends it as well, while it sleeps.
    for orphan in &orphans {
        orphan.orders.send(Order::SleepForever).unwrap();
    }
    assert_eq!(subject.server.reap(Duration::ZERO), 20);
    for orphan in &orphans {
        let slept = orphan.results.recv_timeout(LONG).unwrap();
        assert!(matches!(slept, Err(StreamError::Reaped(StreamInterrupt::Asked))), "{slept:?}");
        orphan.orders.send(Order::Return).unwrap();
    }
    subject.await_end_of_actions();
}

#[test]
fn an_http_1_0_client_gets_everything_if_the_action_ends_before_the_commit() {
    let subject = Subject::start(|server| server);
    let mut client = subject.ask("/events", "HTTP/1.0");
    let action = subject.actions.recv_timeout(LONG).unwrap();
    action.orders.send(Order::Return).unwrap();
    let answer = read_all(&mut client);
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
    subject.await_end_of_actions();
    assert!(!subject.whats().iter().any(|what| matches!(what, What::ActionOrphaned { .. })));
}

/// Rule 8, as far as a blocked reader is concerned.
#[test]
fn a_client_that_does_not_read_blocks_both_threads_until_it_closes() {
    let subject = Subject::start(|server| server.write_timeout(Duration::from_secs(600)));
    let (client, action) = subject.open();
    action.orders.send(Order::WriteLarge).unwrap();
    subject.await_blocked_write();
    assert!(action.results.is_empty(), "the action was not blocked");
    assert_eq!(subject.stats().attached, 1);
    // The client has unread bytes, so its kernel resets the connection.
    drop(client);
    let blocked = action.results.recv_timeout(LONG).unwrap();
    assert!(matches!(blocked, Err(StreamError::ClientDisconnected(_))), "{blocked:?}");
    subject.await_idle_pool();
    action.orders.send(Order::Return).unwrap();
    subject.await_end_of_actions();
}

/// Rule 8.
#[test]
fn after_a_close_with_unread_bytes_the_first_write_frees_the_pool_thread_and_the_second_fails() {
    let subject = Subject::start(|server| server);
    let (client, action) = subject.open();
    action.does(Order::Write).unwrap();
    // Blocks until the first bytes have arrived.
    assert!(client.peek(&mut [0; 4096]).unwrap() > 0);
    drop(client);
    action.does(Order::Write).unwrap();
    subject.await_idle_pool();
    assert!(subject.whats().iter().any(|what| matches!(what, What::Disconnected { write: 2, .. })));
    let second = action.does(Order::Write).unwrap_err();
    assert!(matches!(&second, StreamError::ClientDisconnected(error) if error.number == 3), "{second:?}");
    action.orders.send(Order::Return).unwrap();
    subject.await_end_of_actions();
}

#[test]
fn a_blocked_action_is_ended_by_the_reaper_and_by_the_write_timeout() {
    for write_timeout in [Duration::from_millis(200), Duration::from_secs(600)] {
        let subject = Subject::start(|server| server.write_timeout(write_timeout));
        let (client, action) = subject.open();
        action.orders.send(Order::WriteLarge).unwrap();
        if write_timeout > LONG {
            subject.await_blocked_write();
            assert_eq!(subject.server.reap(Duration::ZERO), 1);
        }
        assert!(action.results.recv_timeout(LONG).unwrap().is_err());
        subject.await_idle_pool();
        action.orders.send(Order::Return).unwrap();
        subject.await_end_of_actions();
        drop(client);
    }
}

#[test]
fn a_panic_before_the_first_write_is_answered_with_500_and_a_later_one_cuts_off_the_answer() {
    let subject = Subject::start(|server| server);
    for version in ["HTTP/1.0", "HTTP/1.1"] {
        let mut client = subject.ask("/events", version);
        let action = subject.actions.recv_timeout(LONG).unwrap();
        action.orders.send(Order::Panic).unwrap();
        read_until(&mut client, " 500 Internal Server Error\r\n");
    }
    let (mut client, action) = subject.open();
    action.does(Order::Write).unwrap();
    action.orders.send(Order::Panic).unwrap();
    let all = read_all(&mut client);
    assert!(all.ends_with("data: x\n\n\r\n"), "the body that was cut off is framed as complete: {all}");
    subject.await_end_of_actions();
    assert_eq!(subject.whats().iter().filter(|what| matches!(what, What::Panicked { .. })).count(), 3);
}

#[test]
fn a_panic_is_recorded_before_the_answer_that_it_ends() {
    let subject = Subject::start(|server| server);
    for _ in 0..200 {
        let mut client = subject.ask("/events", "HTTP/1.1");
        let action = subject.actions.recv_timeout(LONG).unwrap();
        action.orders.send(Order::Panic).unwrap();
        read_until(&mut client, " 500 Internal Server Error\r\n");
    }
    subject.await_idle_pool();
    // A client may read its answer, and the next client may send a request, before the answer is recorded.
    let mut panicked = BTreeSet::new();
    let mut answered = 0;
    for moment in subject.timeline.after(0).moments {
        let request = moment.subject.map(|subject| subject.request);
        match moment.what {
            What::Panicked { .. } => assert!(panicked.insert(request)),
            What::Answered { .. } => {
                assert!(panicked.contains(&request), "{request:?}");
                answered += 1;
            }
            _ => {}
        }
    }
    assert_eq!((panicked.len(), answered), (200, 200));
}

#[test]
fn a_shutdown_ends_attached_and_orphaned_actions_that_sleep() {
    let subject = Subject::start(|server| server);
    let (mut client, attached) = subject.open();
    let mut orphaned_by = subject.ask("/events", "HTTP/1.0");
    let orphan = subject.actions.recv_timeout(LONG).unwrap();
    for action in [&attached, &orphan] {
        action.does(Order::Write).unwrap();
        action.orders.send(Order::SleepForever).unwrap();
        action.orders.send(Order::Return).unwrap();
    }
    read_all(&mut orphaned_by);
    subject.server.shutdown(LONG);
    assert_eq!(subject.stats().running, 0);
    assert!(read_all(&mut client).ends_with("0\r\n\r\n"));
    for action in [attached, orphan] {
        let slept = action.results.recv_timeout(LONG).unwrap();
        assert!(matches!(slept, Err(StreamError::Reaped(StreamInterrupt::Stopping))), "{slept:?}");
    }
}

#[test]
fn a_shutdown_abandons_actions_that_do_not_end_and_still_counts_them() {
    let subject = Subject::start(|server| server);
    let mut client = subject.ask("/events", "HTTP/1.0");
    let orphan = subject.actions.recv_timeout(LONG).unwrap();
    orphan.does(Order::Write).unwrap();
    read_all(&mut client);
    subject.await_idle_pool();
    // The action waits for its next order. An interrupt does not end that wait.
    subject.server.shutdown(Duration::from_millis(100));
    assert_eq!(subject.stats(), ActionThreadStats { running: 1, attached: 0, orphaned: 1 });
    orphan.orders.send(Order::Return).unwrap();
    subject.await_end_of_actions();
}

#[test]
fn an_interrupt_of_an_orphan_does_not_affect_the_next_request_of_its_pool_thread() {
    let subject = Subject::start(|server| server.threads(1..=1));
    let mut client = subject.ask("/events", "HTTP/1.0");
    let orphan = subject.actions.recv_timeout(LONG).unwrap();
    orphan.does(Order::Write).unwrap();
    read_all(&mut client);
    orphan.orders.send(Order::SleepForever).unwrap();
    // The orphan is older by more than the time that the calls below take, so only the orphan is reaped.
    std::thread::sleep(OLDER);
    let (mut client, attached) = subject.open();
    attached.does(Order::Write).unwrap();
    assert_eq!(subject.server.reap(OLDER), 1);
    assert!(orphan.results.recv_timeout(LONG).unwrap().is_err());
    attached.does(Order::Write).unwrap();
    read_until(&mut client, "data: x\n\n\r\n");
    read_until(&mut client, "data: x\n\n\r\n");
    client.shutdown(Shutdown::Both).unwrap();
    let reaped = subject.timeline.after(0).moments.into_iter();
    let reaped = reaped.filter(|moment| matches!(moment.what, What::Reaped { .. }));
    assert_eq!(reaped.map(|moment| moment.thread).collect::<Vec<_>>(), [None]);
    for action in [orphan, attached] {
        action.orders.send(Order::Return).unwrap();
    }
}

#[test]
fn ten_chunks_wait_in_the_queue_and_the_eleventh_write_blocks() {
    let subject = Subject::start(|server| server.write_timeout(Duration::from_secs(600)));
    let (client, action) = subject.open();
    action.orders.send(Order::WriteLarge).unwrap();
    subject.await_blocked_write();
    let last = subject.server.action_threads()[0].action.as_ref().unwrap().writes;
    let sent = subject.server.threads().iter().find_map(|thread| thread.request.clone()).unwrap().bytes;
    let written = last - sent / (64 * 1024);
    // Ten pieces are in the queue, one is in the pool thread's write, and one is in the action's write.
    assert!((11..=13).contains(&written), "{written} pieces of 64 KiB have been written but not sent");
    drop(client);
    assert!(action.results.recv_timeout(LONG).unwrap().is_err());
    action.orders.send(Order::Return).unwrap();
}
