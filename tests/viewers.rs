//! A viewer that connects late shows the same state as one that was connected from the start, and both agree with the
//! server. The tests cut random records at random positions, and feed them to the pages' own reducer, which runs in
//! Node.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::common::{PATIENCE, Server, json, program, read_answer, read_head, send, wait_for};
use fastrand::Rng;
use ninetabs::lab::story::name_of;
use ninetabs::words;
use ninetabs_server::timeline::{CAPACITY, Subject, Timeline, TimelineNews, What};
use serde_json::{Value, json as object};

/// Feeds these lines to the pages' reducer and returns its answers, or `None` if Node is not installed.
fn reduce(lines: &[String]) -> Option<Vec<Value>> {
    let folder = env!("CARGO_MANIFEST_DIR");
    let mut node = Command::new(program("node")?)
        .arg(format!("{folder}/tests/common/reducer.js"))
        .args(["story", "record", "actions", "words"].map(|name| format!("{folder}/views/control/{name}.js")))
        .env("STATE_WORDS", words::json(words::STATES))
        .env("EVENT_WORDS", words::json(words::EVENTS))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stdin, stdout) = (node.stdin.take().unwrap(), node.stdout.take().unwrap());
    let answers = thread::scope(|scope| {
        let answers = scope.spawn(|| BufReader::new(stdout).lines().map(Result::unwrap).collect::<Vec<_>>());
        for line in lines {
            writeln!(stdin, "{line}").unwrap();
        }
        drop(stdin);
        answers.join().unwrap()
    });
    assert!(node.wait().unwrap().success());
    Some(answers.iter().map(|line| serde_json::from_str(line).unwrap()).collect())
}

/// The work of one thread of the model.
#[derive(Debug, Clone, Default)]
struct Working {
    subject: Subject,
    /// `None` while the thread is reading the request.
    target: Option<String>,
    is_stream: bool,
    writes: u64,
    /// The answer has ended, but the thread has not yet recorded `Finished`.
    is_answered: bool,
    /// The request was set aside and is in todo again, but the thread has not yet recorded `Finished`.
    is_aside: bool,
    /// When the client closed, if the close was recorded.
    closed_us: Option<u64>,
}

#[derive(Debug, Default)]
struct Thread {
    io_bound: bool,
    works: Option<Working>,
}

/// A model of a server that does everything that a server may do, in random order. The states of the viewers are
/// compared with it. It shares no code with their reducer.
struct Model {
    rng: Rng,
    timeline: Timeline,
    threads: BTreeMap<usize, Thread>,
    /// The requests in todo, each with its target if it was peeked at, and with the time when its client closed.
    todo: VecDeque<(Subject, Option<String>, Option<u64>)>,
    /// Connections that are idle or whose request is incomplete.
    reactor: Vec<Subject>,
    /// The actions that run on their own threads, by the number of the thread.
    actions: BTreeMap<usize, Acting>,
    connections: u64,
    requests: u64,
}

/// An action that runs on its own thread.
#[derive(Debug, Clone)]
struct Acting {
    subject: Subject,
    target: String,
    began_us: u64,
    committed_us: Option<u64>,
    orphaned_us: Option<u64>,
}

impl Model {
    fn new(seed: u64) -> Model {
        let mut model = Model {
            rng: Rng::with_seed(seed),
            timeline: Timeline::simulated(),
            threads: BTreeMap::new(),
            todo: VecDeque::new(),
            reactor: Vec::new(),
            actions: BTreeMap::new(),
            connections: 0,
            requests: 0,
        };
        (0..3).for_each(|_| model.spawn());
        model
    }

    fn say(&self, thread: Option<usize>, subject: Subject, what: What) {
        self.timeline.record(thread, Some(subject), what);
    }

    fn target(&mut self) -> String {
        match self.rng.u8(..4) {
            0 => format!("/models/live_stream?tab={}", self.rng.u8(1..10)),
            1 => format!("/?tab={}", self.rng.u8(1..10)),
            _ => "/up".to_owned(),
        }
    }

    fn next_request(&mut self) -> u64 {
        self.requests += 1;
        self.requests
    }

    fn spawn(&mut self) {
        let number = (1..).find(|number| !self.threads.contains_key(number)).unwrap();
        self.threads.insert(number, Thread::default());
        self.timeline.record(Some(number), None, What::Spawned);
    }

    fn step(&mut self) {
        let us = self.rng.u64(0..40_000);
        self.timeline.let_pass(Duration::from_micros(us));
        match self.rng.u32(..1000) {
            // Nothing happens for more than a minute.
            0 => self.timeline.let_pass(Duration::from_secs(65)),
            1..5 if self.threads.len() < 9 => self.spawn(),
            5..9 => self.exit(),
            9..60 if self.todo.len() < 40 => self.connect(),
            60..100 => self.wake(),
            100..106 => self.refuse(),
            106..110 => self.withdraw(),
            110..140 => self.peek(),
            140..300 => self.take(),
            300..305 => self.burst(),
            305..310 => self.timeline.record(None, None, What::Ordered { text: "max age 5 s".into() }),
            310..315 => self.close(),
            315..318 => self.act(),
            _ => self.work(),
        }
    }

    /// The port is one of only ten, so several clients have the same port.
    fn connect(&mut self) {
        self.connections += 1;
        let port = self.rng.u16(40_000..40_010);
        let subject = Subject { connection: self.connections, port, request: self.next_request() };
        self.queue(subject);
    }

    fn queue(&mut self, subject: Subject) {
        self.say(None, subject, What::Queued);
        self.todo.push_back((subject, None, None));
    }

    /// A client closes, and the owner of its connection records the close. The client's request may be queued, on a
    /// thread, or over.
    fn close(&mut self) {
        let request = self.rng.u64(..=self.requests);
        let queued = self.todo.iter().map(|(subject, ..)| *subject);
        let on_threads = self.threads.values().filter_map(|thread| Some(thread.works.as_ref()?.subject));
        let live: Vec<Subject> = queued.chain(on_threads).collect();
        let subject = match self.rng.usize(..=live.len()) {
            at if at < live.len() => live[at],
            _ => Subject { connection: 1, port: 1, request },
        };
        self.say(None, subject, What::ClientClosed);
        let now_us = self.timeline.now_us();
        let works = self.threads.values_mut().filter_map(|thread| thread.works.as_mut());
        let works = works.filter(|works| works.subject.request == subject.request);
        works.for_each(|works| _ = works.closed_us.get_or_insert(now_us));
        let todo = self.todo.iter_mut().filter(|(queued, ..)| queued.request == subject.request);
        todo.for_each(|(.., closed_us)| _ = closed_us.get_or_insert(now_us));
    }

    /// An action on its own thread begins, commits, is orphaned or ends, whatever has happened to its request.
    fn act(&mut self) {
        let now_us = self.timeline.now_us();
        let worker = self.rng.usize(1..8);
        let Some(acting) = self.actions.get_mut(&worker) else {
            let subject = Subject { connection: self.connections, port: 9, request: self.requests };
            let target = self.target();
            let began = What::ActionBegan { worker, target: target.as_str().into() };
            self.say(None, subject, began);
            let acting = Acting { subject, target, began_us: now_us, committed_us: None, orphaned_us: None };
            self.actions.insert(worker, acting);
            return;
        };
        let subject = acting.subject;
        let what = match self.rng.u8(..4) {
            0 => {
                acting.committed_us = Some(now_us);
                What::ActionCommitted { worker }
            }
            1 => {
                acting.orphaned_us = Some(now_us);
                What::ActionOrphaned { worker }
            }
            2 => {
                self.actions.remove(&worker);
                What::ActionEnded { worker }
            }
            _ => return,
        };
        self.say(None, subject, what);
    }

    /// The reactor has read the rest of a request, or gives up on it.
    fn wake(&mut self) {
        if self.reactor.is_empty() {
            return;
        }
        let subject = self.reactor.swap_remove(self.rng.usize(..self.reactor.len()));
        match self.rng.u8(..5) {
            0 => self.say(None, subject, What::Rejected { status: 408, why: "too slow".into() }),
            1 => {}
            _ => self.queue(subject),
        }
    }

    /// The front door evicts a connection. The client may have sent its request in the meantime.
    fn withdraw(&mut self) {
        if self.todo.is_empty() {
            return;
        }
        let at = self.rng.usize(..self.todo.len());
        let (subject, ..) = self.todo.remove(at).unwrap();
        self.say(None, subject, What::Withdrawn);
        match self.rng.u8(..3) {
            0 => self.queue(subject),
            1 => self.say(None, subject, What::Rejected { status: 503, why: "too many".into() }),
            _ => {}
        }
    }

    /// The acceptor refuses a connection, which therefore never enters todo.
    fn refuse(&mut self) {
        self.connections += 1;
        let subject = Subject { connection: self.connections, port: 1, request: self.next_request() };
        self.say(None, subject, What::Rejected { status: 503, why: "too many".into() });
    }

    fn peek(&mut self) {
        let target = self.target();
        if self.rng.u8(..4) == 0 {
            // The request has left todo since the peek, or its answer has ended.
            let subject = Subject { connection: 1, port: 1, request: self.rng.u64(..=self.requests) };
            if self.todo.iter().all(|(queued, ..)| queued.request != subject.request) {
                self.say(None, subject, What::peeked("GET", target));
            }
        } else if !self.todo.is_empty() {
            let at = self.rng.usize(..self.todo.len());
            let (subject, name, _) = &mut self.todo[at];
            if name.is_none() {
                *name = Some(target.clone());
                let subject = *subject;
                self.say(None, subject, What::peeked("GET", target));
            }
        }
    }

    fn take(&mut self) {
        let Some((number, thread)) = self.threads.iter_mut().find(|(_, thread)| thread.works.is_none())
        else {
            return;
        };
        let Some((subject, target, closed_us)) = self.todo.pop_front() else { return };
        thread.works = Some(Working { subject, target, closed_us, ..Working::default() });
        let number = *number;
        self.say(Some(number), subject, What::Started);
        // The thread reads the request, which may differ from the one that was peeked at in todo.
        match self.rng.u8(..12) {
            0 => self.put_aside(number),
            1 => {
                let target = self.target();
                self.accept(number, target);
                self.say(Some(number), subject, What::Left);
                self.answered(number);
            }
            2 => {
                self.say(Some(number), subject, What::Rejected { status: 400, why: "no HTTP".into() });
                self.answered(number);
            }
            _ => {
                let target = self.target();
                self.accept(number, target);
            }
        }
    }

    fn accept(&mut self, number: usize, target: String) {
        let works = self.threads.get_mut(&number).unwrap().works.as_mut().unwrap();
        works.target = Some(target.clone());
        let subject = works.subject;
        self.say(Some(number), subject, What::accepted("GET", target));
    }

    fn answered(&mut self, number: usize) {
        self.threads.get_mut(&number).unwrap().works.as_mut().unwrap().is_answered = true;
    }

    fn put_aside(&mut self, number: usize) {
        let works = self.threads.get_mut(&number).unwrap().works.as_mut().unwrap();
        let subject = works.subject;
        if self.rng.bool() {
            // The reactor has read the whole request before the thread has recorded `Finished`.
            works.is_aside = true;
            self.queue(subject);
        } else {
            self.finish(number);
            self.reactor.push(subject);
        }
    }

    fn finish(&mut self, number: usize) {
        let thread = self.threads.get_mut(&number).unwrap();
        let subject = thread.works.take().unwrap().subject;
        thread.io_bound = false;
        self.say(Some(number), subject, What::Finished);
    }

    fn exit(&mut self) {
        let idle = self.threads.iter().find(|(_, thread)| thread.works.is_none()).map(|(number, _)| *number);
        if let Some(number) = idle.filter(|_| self.threads.len() > 1) {
            self.threads.remove(&number);
            self.timeline.record(Some(number), None, What::Exited);
        }
    }

    /// Records many moments in a row, so that a slow viewer falls behind the ring.
    fn burst(&mut self) {
        if self.rng.u8(..10) == 0 {
            (0..CAPACITY / 2).for_each(|_| self.work());
        }
    }

    /// One of the busy threads continues.
    fn work(&mut self) {
        let busy: Vec<usize> = self
            .threads
            .iter()
            .filter(|(_, thread)| thread.works.is_some())
            .map(|(number, _)| *number)
            .collect();
        if busy.is_empty() {
            return;
        }
        let number = busy[self.rng.usize(..busy.len())];
        let thread = self.threads.get_mut(&number).unwrap();
        let io_bound = thread.io_bound;
        let works = thread.works.as_mut().unwrap();
        let subject = works.subject;
        if works.is_aside {
            return self.finish(number);
        }
        if works.is_answered {
            return self.go_on(number);
        }
        let (is_stream, writes) = (works.is_stream, works.writes);
        let wants_stream = works.target.as_ref().is_some_and(|target| target.contains("live_stream"));
        let what = match self.rng.u32(..1000) {
            _ if wants_stream && !is_stream => {
                works.is_stream = true;
                What::Streaming
            }
            0..5 if is_stream && !io_bound => {
                thread.io_bound = true;
                What::MarkedIoBound
            }
            5..10 if is_stream => What::Reaped { age_ms: self.rng.u64(..9_999), why: "it is old".into() },
            10..20 if is_stream => What::Blocked { us: self.rng.u64(..9_999) },
            20..25 => What::Disconnected { write: writes + 1, error: "EPIPE".into() },
            25..27 => {
                self.say(Some(number), subject, What::Panicked { message: "out of cheese".into() });
                return self.finish(number);
            }
            27..35 => return self.end_answer(number),
            35..500 if !is_stream => return self.end_answer(number),
            _ => {
                works.writes += 1;
                What::Wrote { bytes: 9 }
            }
        };
        self.say(Some(number), subject, what);
    }

    fn end_answer(&mut self, number: usize) {
        let subject = self.threads[&number].works.as_ref().unwrap().subject;
        // The duration may be longer than the time that the ring covers.
        let duration_us = self.rng.u64(..self.timeline.now_us().max(1));
        self.say(Some(number), subject, What::Answered { status: 200, bytes: 9, duration_us });
        self.answered(number);
    }

    /// The next request on a keep-alive connection has arrived or will arrive, or the connection ends.
    fn go_on(&mut self, number: usize) {
        let request = self.next_request();
        let subject = self.threads[&number].works.as_ref().unwrap().subject;
        let next = Subject { request, ..subject };
        match self.rng.u8(..4) {
            0 => {
                let target = self.target();
                let works = Working { subject: next, ..Working::default() };
                self.threads.get_mut(&number).unwrap().works = Some(works);
                self.accept(number, target);
            }
            1 => {
                self.queue(next);
                self.finish(number);
            }
            2 => {
                self.finish(number);
                self.reactor.push(next);
            }
            _ => self.finish(number),
        }
    }

    /// What `/threads` and `/stats` would show.
    fn truth(&self) -> Value {
        let works = |works: &Working| {
            let target = works.target.as_deref();
            object!({
                "request": works.subject.request, "connection": works.subject.connection, "port": works.subject.port,
                "target": target, "is_stream": works.is_stream, "writes": works.writes, "closed_us": works.closed_us,
            })
        };
        let thread = |(number, thread): (&usize, &Thread)| {
            let holds = thread.works.as_ref().filter(|works| !works.is_answered).map(works);
            (number.to_string(), object!({ "io_bound": thread.io_bound, "holds": holds }))
        };
        let todo = self.todo.iter().map(|(subject, target, closed_us)| {
            object!({
                "request": subject.request, "connection": subject.connection, "port": subject.port,
                "target": target, "is_stream": false, "writes": 0, "closed_us": closed_us,
            })
        });
        let action = |(worker, it): (&usize, &Acting)| {
            let Subject { connection, port, request } = it.subject;
            let action = object!({
                "connection": connection, "port": port, "request": request, "target": it.target,
                "began_us": it.began_us, "committed_us": it.committed_us, "orphaned_us": it.orphaned_us,
            });
            (worker.to_string(), action)
        };
        object!({
            "threads": self.threads.iter().map(thread).collect::<BTreeMap<_, _>>(),
            "todo": todo.collect::<Vec<_>>(),
            "actions": self.actions.iter().map(action).collect::<BTreeMap<_, _>>(),
        })
    }
}

/// The part of a snapshot that can be compared with the model.
fn in_short(snapshot: &Value) -> Value {
    let held = |held: &Value| match held {
        Value::Null => Value::Null,
        held => {
            let keys = ["request", "connection", "port", "target", "is_stream", "writes", "closed_us"];
            keys.iter().map(|key| ((*key).to_owned(), held[key].clone())).collect()
        }
    };
    let threads = snapshot["threads"].as_object().unwrap().iter().map(|(number, thread)| {
        (number.clone(), object!({ "io_bound": thread["io_bound"], "holds": held(&thread["holds"]) }))
    });
    let todo = snapshot["todo"].as_array().unwrap().iter().map(held);
    let actions = snapshot.get("actions").cloned().unwrap_or_else(|| object!({}));
    object!({
        "threads": threads.collect::<BTreeMap<_, _>>(), "todo": todo.collect::<Vec<_>>(), "actions": actions,
    })
}

/// A page: the last moment that it has received, and the mean interval of its requests in steps of the model.
struct Viewer {
    name: String,
    seq: Option<u64>,
    every: u32,
    /// How often it had to start over.
    anew: usize,
}

impl Viewer {
    fn hear(&mut self, timeline: &Timeline, lines: &mut Vec<String>) -> bool {
        let Some(news) = timeline.follow(self.seq) else { return false };
        self.seq = Some(news.last_seq());
        self.anew += usize::from(matches!(news, TimelineNews::Anew(_)));
        lines.push(object!({ "viewer": self.name, "news": news }).to_string());
        true
    }
}

#[test]
fn a_viewer_that_joins_late_or_is_slow_sees_the_true_state() {
    let mut seen = (0, 0);
    for seed in 1..=3 {
        let mut model = Model::new(seed);
        let mut rng = Rng::with_seed(seed + 1_000);
        let mut viewers: Vec<Viewer> = Vec::new();
        let (mut lines, mut expected) = (Vec::new(), Vec::new());
        for step in 0..30_000 {
            model.step();
            if step == 0 || rng.u32(..2_500) == 0 {
                // Some viewers send a request every few steps, and some so rarely that the ring has dropped moments
                // between two requests.
                let every = [10, 100, 20_000][rng.usize(..3)];
                let name = format!("seed {seed}, viewer {} from step {step}, every {every}", viewers.len());
                let mut viewer = Viewer { name, seq: None, every, anew: 0 };
                viewer.hear(&model.timeline, &mut lines);
                viewers.push(viewer);
            }
            for viewer in &mut viewers {
                if rng.u32(..viewer.every) == 0 {
                    viewer.hear(&model.timeline, &mut lines);
                }
            }
            if rng.u32(..500) == 0 || step == 29_999 {
                let snapshot = serde_json::to_value(model.timeline.snapshot()).unwrap();
                assert_eq!(in_short(&snapshot), model.truth(), "seed {seed}, step {step}");
                for viewer in viewers.iter_mut().filter(|viewer| viewer.every < 1_000 || step == 29_999) {
                    while viewer.hear(&model.timeline, &mut lines) {}
                    lines.push(object!({ "viewer": viewer.name, "show": true }).to_string());
                    expected.push((viewer.name.clone(), viewer.anew, snapshot.clone()));
                }
            }
        }
        assert!(model.timeline.last_seq() > CAPACITY as u64);
        seen.0 += expected.len();
        seen.1 += viewers.iter().filter(|viewer| viewer.anew > 1).count();
        let Some(answers) = reduce(&lines) else { return };
        assert_eq!(answers.len(), expected.len());
        for (answer, (viewer, anew, snapshot)) in answers.iter().zip(&expected) {
            assert_eq!(answer["snapshot"], *snapshot, "{viewer}");
            assert_eq!(answer["wrong"], object!([]), "{viewer}");
            assert!(answer["gaps"].as_u64() < Some(*anew as u64), "{viewer}: {answer}");
            let kept: Vec<u64> = serde_json::from_value(answer["kept"].clone()).unwrap();
            assert!(kept[0] < 700 && kept[1] <= 120 && kept[2] <= 512, "{viewer} keeps {kept:?}");
        }
    }
    assert!(seen.0 > 250 && seen.1 > 2, "{seen:?}");
}

#[test]
fn a_request_that_is_on_another_thread_after_a_gap_has_not_ended() {
    let timeline = Timeline::simulated();
    let subject = Subject { connection: 3, port: 1, request: 7 };
    let say = |thread, what| timeline.record(thread, Some(subject), what);
    (1..=2).for_each(|thread| timeline.record(Some(thread), None, What::Spawned));
    say(None, What::Queued);
    say(Some(2), What::Started);
    let mut lines = Vec::new();
    let mut viewer = Viewer { name: "v".into(), seq: None, every: 1, anew: 0 };
    viewer.hear(&timeline, &mut lines);
    // The request is set aside and taken by the other thread. Then more is recorded than the ring keeps.
    say(Some(2), What::Finished);
    say(None, What::Queued);
    say(Some(1), What::Started);
    say(Some(1), What::accepted("GET", "/models/live_stream?tab=3"));
    say(Some(1), What::Streaming);
    timeline.let_pass(Duration::from_secs(9));
    (0..CAPACITY + 300).for_each(|_| say(Some(1), What::Wrote { bytes: 9 }));
    viewer.hear(&timeline, &mut lines);
    assert_eq!(viewer.anew, 2);
    lines.push(object!({ "viewer": "v", "show": true }).to_string());
    let Some(answers) = reduce(&lines) else { return };
    assert_eq!(answers[0]["wrong"], object!([]));
}

#[test]
fn a_request_that_ended_in_a_gap_is_drawn_up_to_the_gap() {
    let timeline = Timeline::simulated();
    let first = Subject { connection: 3, port: 1, request: 7 };
    let say = |subject, what| timeline.record(Some(1), subject, what);
    say(None, What::Spawned);
    timeline.record(None, Some(first), What::Queued);
    say(Some(first), What::Started);
    let mut lines = Vec::new();
    let mut viewer = Viewer { name: "v".into(), seq: None, every: 1, anew: 0 };
    viewer.hear(&timeline, &mut lines);
    // The ends of the request and of its thread are lost, because another thread fills the record. Then the first
    // thread is started again.
    say(Some(first), What::Finished);
    say(None, What::Exited);
    let other = Some(Subject { connection: 4, port: 2, request: 8 });
    timeline.record(Some(2), None, What::Spawned);
    timeline.let_pass(Duration::from_secs(9));
    (0..CAPACITY + 300).for_each(|_| timeline.record(Some(2), other, What::Wrote { bytes: 9 }));
    timeline.let_pass(Duration::from_secs(9));
    say(None, What::Spawned);
    say(Some(Subject { connection: 5, port: 3, request: 9 }), What::Started);
    viewer.hear(&timeline, &mut lines);
    assert_eq!(viewer.anew, 2);
    lines.push(object!({ "viewer": "v", "show": true }).to_string());
    let Some(answers) = reduce(&lines) else { return };
    assert_eq!(answers[0]["wrong"], object!([]));
    let spans = answers[0]["spans"]["1"].as_array().unwrap();
    assert_eq!(spans.len(), 1, "{spans:?}");
    assert!(spans[0]["to"].as_u64().is_some_and(|to| to < 10_000_000), "{spans:?}");
}

#[test]
fn the_log_has_the_reap_and_the_panic_of_an_action_without_a_pool_thread() {
    let timeline = Timeline::simulated();
    let mut lines = Vec::new();
    let mut viewer = Viewer { name: "v".into(), seq: None, every: 1, anew: 0 };
    let mut say = |request, thread, what| {
        timeline.record(thread, Some(Subject { connection: request, port: 1, request }), what);
        viewer.hear(&timeline, &mut lines);
        lines.push(object!({ "viewer": "v", "show": true }).to_string());
    };
    for (request, last) in [
        (1, What::Reaped { age_ms: 9_000, why: "max age".into() }),
        (2, What::Panicked { message: "for a test".into() }),
    ] {
        let worker = request as usize;
        say(request, None, What::ActionBegan { worker, target: "/models/live_stream?tab=1".into() });
        say(request, None, What::ActionOrphaned { worker });
        say(request, None, last);
    }
    let Some(answers) = reduce(&lines) else { return };
    assert!(answers.iter().all(|answer| answer["wrong"] == object!([])), "{answers:?}");
    let logged: Vec<_> = answers.iter().map(|answer| answer["kept"][1].as_u64().unwrap()).collect();
    assert_eq!(logged, [1, 2, 3, 4, 5, 6]);
}

#[test]
fn a_panic_of_an_action_on_its_own_thread_marks_the_lane_of_the_pool_thread() {
    let timeline = Timeline::simulated();
    let mut lines = Vec::new();
    let mut viewer = Viewer { name: "v".into(), seq: None, every: 1, anew: 0 };
    timeline.record(Some(1), None, What::Spawned);
    let target = || "/models/live_stream?tab=1".into();
    for (thread, what) in [
        (None, What::Queued),
        (Some(1), What::Started),
        (Some(1), What::Accepted { method: "GET".into(), target: target(), peeked: false }),
        (None, What::ActionBegan { worker: 1, target: target() }),
        (None, What::Panicked { message: "for a test".into() }),
        (None, What::ActionEnded { worker: 1 }),
        (Some(1), What::Answered { status: 500, bytes: 9, duration_us: 9 }),
    ] {
        timeline.record(thread, Some(Subject { connection: 1, port: 1, request: 1 }), what);
    }
    viewer.hear(&timeline, &mut lines);
    lines.push(object!({ "viewer": "v", "show": true }).to_string());
    let Some(answers) = reduce(&lines) else { return };
    assert_eq!(answers[0]["wrong"], object!([]));
    assert_eq!(answers[0]["spans"]["1"][0]["end"], "panicked", "{answers:?}");
}

#[test]
fn the_pages_and_the_lab_give_a_request_the_same_name() {
    let targets = [
        "/up",
        "/?tab=3",
        "/models/live_stream?tab=3&tab=4",
        "/models/live_stream?tab=%33&tab=a+b%20c",
        "/x?tab=3&tab=",
        "/x?tab=3?tab=4",
        "/x?a=b?c&tab=7",
    ];
    let timeline = Timeline::simulated();
    for (request, target) in (1..).zip(targets) {
        let subject = Subject { connection: request, port: 1, request };
        timeline.record(Some(1), Some(subject), What::Started);
        timeline.record(Some(1), Some(subject), What::accepted("GET", target));
        timeline.record(Some(1), Some(subject), What::Finished);
    }
    let news = timeline.follow(None).unwrap();
    let lines = [object!({ "viewer": "v", "news": news }), object!({ "viewer": "v", "show": true })];
    let Some(answers) = reduce(&lines.map(|line| line.to_string())) else { return };
    let named = targets.map(|target| {
        let name = name_of(target);
        // The pages distinguish a tab's page from its stream.
        if target.starts_with("/?") { format!("{name}’s page") } else { name }
    });
    assert_eq!(answers[0]["names"], object!(named));
}

#[test]
fn a_client_of_the_lab_keeps_its_request_while_others_use_its_port() {
    let timeline = Timeline::simulated();
    let say = |thread, request, what| {
        let subject = Subject { connection: request, port: 40_000, request };
        timeline.record(thread, Some(subject), what);
    };
    let (zombie, page) = ("/models/live_stream?tab=zombie-1", "/?tab=page-2");
    let clients = |port: u16| object!([{ "target": zombie, "local_port": port }, { "target": page, "local_port": port }]);
    let mut lines = Vec::new();
    let mut seq = None;
    let mut hear = |lines: &mut Vec<String>| {
        let news = timeline.follow(seq).unwrap();
        seq = Some(news.last_seq());
        lines.push(object!({ "viewer": "v", "news": news }).to_string());
        lines.push(object!({ "viewer": "v", "clients": clients(40_000) }).to_string());
    };
    // An earlier request from the same port has ended.
    say(Some(1), 1, What::Started);
    say(Some(1), 1, What::accepted("GET", "/up"));
    say(Some(1), 1, What::Finished);
    hear(&mut lines);
    say(None, 2, What::Queued);
    say(None, 2, What::peeked("GET", zombie));
    hear(&mut lines);
    // A client at another address uses the same port while the zombie is queued.
    say(Some(2), 3, What::Started);
    say(Some(2), 3, What::accepted("GET", "/up"));
    hear(&mut lines);
    // The zombie's request is set aside, and queued again.
    say(Some(1), 2, What::Started);
    say(None, 2, What::Queued);
    say(Some(1), 2, What::Finished);
    hear(&mut lines);
    say(Some(2), 4, What::Started);
    say(Some(2), 4, What::accepted("GET", page));
    say(Some(2), 4, What::Finished);
    hear(&mut lines);
    // A later client with the same target is a different client.
    say(Some(2), 5, What::Started);
    say(Some(2), 5, What::accepted("GET", page));
    hear(&mut lines);
    // A tab that reconnects has another port.
    lines.push(object!({ "viewer": "v", "clients": clients(40_001) }).to_string());
    let Some(answers) = reduce(&lines) else { return };
    let none = Value::Null;
    let wanted = object!([[none, none], [2, none], [2, none], [2, none], [2, 4], [2, 4], [none, none]]);
    assert_eq!(object!(answers), wanted);
}

/// With `--notice-close poll`, a stream notices on its socket that its client has closed.
#[test]
fn the_log_names_a_failed_write_or_a_noticed_close() {
    let timeline = Timeline::simulated();
    for (request, error) in [(1, "EPIPE"), (2, "POLLRDHUP")] {
        let say = |what| {
            timeline.record(Some(7), Some(Subject { connection: request, port: 40_000, request }), what);
        };
        let target = format!("/models/live_stream?tab={request}");
        [What::Started, What::accepted("GET", &*target), What::Streaming].into_iter().for_each(&say);
        [What::Disconnected { write: 4, error: error.into() }, What::Finished].into_iter().for_each(&say);
    }
    let news = object!({ "viewer": "v", "news": timeline.follow(None).unwrap() }).to_string();
    let Some(answers) = reduce(&[news, object!({ "viewer": "v", "log": true }).to_string()]) else { return };
    let has = |line: &str| answers[0].as_array().unwrap().contains(&line.into());
    assert!(has("write 4 to tab 1 failed (EPIPE) on thread 7"), "{answers:?}");
    assert!(has("thread 7 saw that the client of tab 2 closed (POLLRDHUP)"), "{answers:?}");
}

/// Reads `/events` and adds the data of every `moments` event to `news`.
fn watch(server: &Server, news: &Mutex<Vec<Value>>, is_over: &AtomicBool) {
    let mut stream = send(server.control, b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(read_head(&mut stream).starts_with("HTTP/1.1 200"));
    let (mut lines, mut name) = (BufReader::new(stream).lines(), String::new());
    while !is_over.load(Ordering::Relaxed) {
        let line = lines.next().unwrap().unwrap();
        if let Some(event) = line.strip_prefix("event: ") {
            event.clone_into(&mut name);
        } else if let Some(data) = line.strip_prefix("data: ").filter(|_| name == "moments") {
            let data = serde_json::from_str(data).unwrap();
            news.lock().unwrap_or_else(PoisonError::into_inner).push(data);
        }
    }
}

/// Runs one random client. Returns its connection if the client stays.
fn visit(server: &Server, rng: &mut Rng) -> Option<TcpStream> {
    let page = "GET /up HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let stream = format!("GET /models/live_stream?tab={} HTTP/1.1\r\nHost: localhost\r\n\r\n", rng.u8(1..10));
    let mut client = send(server.app, b"");
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    match rng.u8(..10) {
        // Requests pages one after another, or several in one piece.
        0..3 => {
            for _ in 0..rng.usize(1..5) {
                let count = rng.usize(1..4);
                client.write_all(page.repeat(count).as_bytes()).unwrap();
                (0..count).for_each(|_| assert_eq!(read_answer(&mut client).status, 200));
            }
            rng.bool().then_some(client)
        }
        // Does not read the answers.
        3 => {
            client.write_all(page.repeat(3).as_bytes()).unwrap();
            None
        }
        // Requests a stream after a page, and closes or stays.
        4 => {
            client.write_all((page.to_owned() + &stream).as_bytes()).unwrap();
            assert_eq!(read_answer(&mut client).status, 200);
            rng.bool().then_some(client)
        }
        5 => {
            client.write_all(stream.as_bytes()).unwrap();
            rng.bool().then_some(client)
        }
        6 => {
            client.write_all(&page.as_bytes()[..rng.usize(..page.len())]).unwrap();
            rng.bool().then_some(client)
        }
        7 => {
            client.write_all(b"no HTTP at all\r\n\r\n").unwrap();
            assert_eq!(read_answer(&mut client).status, 400);
            None
        }
        8 => {
            client.write_all(page.as_bytes()).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            None
        }
        // With `--live rails`, leaves an orphaned action behind.
        _ => {
            client.write_all(stream.replace("HTTP/1.1", "HTTP/1.0").as_bytes()).unwrap();
            rng.bool().then_some(client)
        }
    }
}

#[test]
fn viewers_of_a_real_server_have_the_state_that_it_reports() {
    viewers_agree_with("pool");
}

#[test]
fn viewers_of_a_real_server_have_the_state_of_its_actions() {
    viewers_agree_with("rails");
}

/// Follows a server with this `--live` while random clients come and go. Then compares the final state of each viewer
/// with what the server reports.
fn viewers_agree_with(live: &str) {
    if program("node").is_none() {
        return;
    }
    let flags = ["--threads", "2:6", "--max-io-threads", "4", "--update-rate", "30ms", "--retry", "60"];
    let server = Server::on("puma", &[&flags[..], &["--live", live]].concat());
    let mut rng = Rng::with_seed(7);
    let news: Vec<Mutex<Vec<Value>>> = (0..8).map(|_| Mutex::default()).collect();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let (server, is_over) = (&server, &is_over);
        let mut kept = Vec::new();
        for told in &news {
            scope.spawn(move || watch(server, told, is_over));
            for _ in 0..20 {
                // Without the reaper, the streams that stay would soon hold every thread.
                kept.extend(visit(server, &mut rng));
                if kept.len() > 12 {
                    json(server.control, "POST", "/reap");
                    kept.drain(..6);
                }
            }
        }
        // Ensures that a stream is open at the end. With `--live rails`, the HTTP/1.0 request also leaves an orphaned
        // action behind.
        for version in ["HTTP/1.1", "HTTP/1.0"] {
            let stream = format!("GET /models/live_stream?tab=9 {version}\r\nHost: localhost\r\n\r\n");
            kept.push(send(server.app, stream.as_bytes()));
        }
        // From here on, no request begins or ends. There are only writes.
        let of = |stats: &Value| {
            ["backlog", "busy_threads", "requests_count", "running", "io_threads", "live_threads"]
                .map(|key| stats[key].clone())
        };
        let mut before = (of(&server.stats()), 0);
        let stats = wait_for("a quiet server", || {
            thread::sleep(Duration::from_millis(50));
            let stats = server.stats();
            before = if before.0 == of(&stats) { (before.0.clone(), before.1 + 1) } else { (of(&stats), 0) };
            (before.1 == 10).then_some(stats)
        });
        let threads = json(server.control, "GET", "/threads").1;
        let last = json(server.control, "GET", "/timeline").1["moments"].as_array().unwrap().last().unwrap()
            ["seq"]
            .as_u64();
        let last_of = |told: &Value| {
            let last = told["moments"].as_array().unwrap().last().map(|moment| &moment["seq"]);
            last.unwrap_or(&told["snapshot"]["seq"]).as_u64()
        };
        wait_for("the arrival of the last moment at every viewer", || {
            let told = news.iter().map(|told| told.lock().unwrap_or_else(PoisonError::into_inner));
            told.map(|told| told.last().and_then(last_of)).all(|seq| seq >= last).then_some(())
        });
        is_over.store(true, Ordering::Relaxed);

        let mut lines = Vec::new();
        for (viewer, told) in news.iter().enumerate() {
            let told = told.lock().unwrap_or_else(PoisonError::into_inner);
            lines.extend(told.iter().map(|news| object!({ "viewer": viewer, "news": news }).to_string()));
            lines.push(object!({ "viewer": viewer, "show": true }).to_string());
        }
        let answers = reduce(&lines).unwrap();
        let (actions, threads): (Vec<_>, Vec<_>) =
            threads.as_array().unwrap().iter().partition(|thread| thread["kind"] == "action");
        let actions: BTreeMap<_, _> = actions
            .into_iter()
            .filter(|thread| thread["state"] != "waiting")
            .map(|thread| {
                let keys = ["request", "connection", "port", "path", "state"];
                (thread["number"].to_string(), keys.map(|key| thread[key].clone()))
            })
            .collect();
        let states: BTreeSet<_> = actions.values().filter_map(|[.., state]| state.as_str()).collect();
        let all = if live == "rails" { &["attached", "orphaned"][..] } else { &[] };
        assert!(states.into_iter().eq(all.iter().copied()), "{actions:?}");
        let wanted: BTreeMap<_, _> = threads
            .into_iter()
            .map(|thread| {
                let keys = ["request", "connection", "port", "path", "io_bound"];
                (thread["number"].to_string(), keys.map(|key| thread[key].clone()))
            })
            .collect();
        for (viewer, answer) in answers.iter().enumerate() {
            let shown = answer["snapshot"]["threads"].as_object().unwrap();
            let shown: BTreeMap<_, _> = shown
                .iter()
                .map(|(number, thread)| {
                    let of = |key: &str| thread["holds"].get(key).cloned().unwrap_or_default();
                    let held = ["request", "connection", "port", "target"].map(of);
                    let [request, connection, port, path] = held;
                    (number.clone(), [request, connection, port, path, thread["io_bound"].clone()])
                })
                .collect();
            assert_eq!(shown, wanted, "viewer {viewer}");
            let todo = answer["snapshot"]["todo"].as_array().unwrap();
            assert_eq!(todo.len() as u64, stats["backlog"].as_u64().unwrap(), "viewer {viewer}");
            let streams = answer["snapshot"]["threads"].as_object().unwrap().values();
            let streams = streams.filter(|thread| thread["holds"]["is_stream"] == true).count();
            let orphaned = stats["live_threads"]["orphaned"].as_u64().unwrap_or_default();
            assert_eq!(
                streams as u64 + orphaned,
                stats["streams"]["open"].as_u64().unwrap(),
                "viewer {viewer}"
            );
            let none = object!({});
            let shown = answer["snapshot"].get("actions").unwrap_or(&none).as_object().unwrap();
            let shown: BTreeMap<_, _> = shown
                .iter()
                .map(|(number, action)| {
                    let [request, connection, port, path] =
                        ["request", "connection", "port", "target"].map(|key| action[key].clone());
                    let state = if action["orphaned_us"].is_null() { "attached" } else { "orphaned" };
                    (number.clone(), [request, connection, port, path, state.into()])
                })
                .collect();
            assert_eq!(shown, actions, "viewer {viewer}");
            assert_eq!(answer["wrong"], object!([]), "viewer {viewer}");
        }
        drop(kept);
    });
}
