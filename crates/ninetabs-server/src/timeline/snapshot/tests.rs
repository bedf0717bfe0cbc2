use std::time::Duration;

use super::super::Timeline;
use super::*;

#[test]
fn a_request_that_is_queued_again_stays_in_todo_when_its_first_thread_finishes() {
    let timeline = Timeline::simulated();
    let subject = Subject { connection: 1, port: 9, request: 1 };
    let say = |thread, what| timeline.record(thread, Some(subject), what);
    timeline.record(Some(1), None, What::Spawned);
    say(None, What::Queued);
    say(Some(1), What::Started);
    // The reactor has already read the rest of the request.
    say(None, What::Queued);
    assert_eq!(timeline.snapshot().todo.len(), 1);
    say(Some(1), What::Finished);
    let snapshot = timeline.snapshot();
    assert_eq!((snapshot.todo.len(), &snapshot.threads[&1].holds), (1, &None));
}

#[test]
fn a_commit_that_is_recorded_late_is_not_attributed_to_the_next_action_on_the_thread() {
    let timeline = Timeline::simulated();
    let say = |request, what| {
        timeline.record(None, Some(Subject { connection: 1, port: 9, request }), what);
    };
    let began = || What::ActionBegan { worker: 1, target: "/".into() };
    say(1, began());
    say(1, What::ActionEnded { worker: 1 });
    say(2, began());
    // The pool thread of the first action records its commit late.
    say(1, What::ActionCommitted { worker: 1 });
    assert_eq!(timeline.snapshot().actions[&1].committed_us, None);
    say(2, What::ActionCommitted { worker: 1 });
    assert_eq!(timeline.snapshot().actions[&1].committed_us, Some(0));
}

#[test]
fn a_request_that_was_peeked_at_too_late_is_not_added_to_todo() {
    let timeline = Timeline::simulated();
    let subject = Subject { connection: 1, port: 9, request: 1 };
    timeline.record(None, Some(subject), What::peeked("GET", "/"));
    assert_eq!(timeline.snapshot(), Snapshot { seq: 1, ..Snapshot::default() });
}

#[test]
fn a_request_remembers_that_its_client_has_closed_until_it_ends() {
    let timeline = Timeline::simulated();
    let subject = Subject { connection: 1, port: 9, request: 1 };
    let say = |thread, what| {
        timeline.let_pass(Duration::from_micros(10));
        timeline.record(thread, Some(subject), what);
        let Snapshot { threads, todo, .. } = timeline.snapshot();
        let held = threads.values().filter_map(|thread| thread.holds.as_ref()).chain(&todo);
        held.map(|held| held.closed_us).collect::<Vec<_>>()
    };
    timeline.record(Some(1), None, What::Spawned);
    assert_eq!(say(None, What::ClientClosed), [], "the request is not known yet");
    assert_eq!(say(None, What::Queued), [None]);
    assert_eq!(say(None, What::ClientClosed), [Some(30)]);
    assert_eq!(say(Some(1), What::Started), [Some(30)]);
    assert_eq!(say(None, What::ClientClosed), [Some(30)], "only the first close of a client counts");
    assert_eq!(say(Some(1), What::Finished), []);
}

/// A pool of three threads that records what a real one would. Impossible choices are ignored.
#[derive(Default)]
struct Pool {
    moments: Vec<Moment>,
    todo: VecDeque<Subject>,
    /// The request that each thread holds, and whether that request has already been queued again.
    threads: BTreeMap<usize, Option<(Subject, bool)>>,
    requests: u64,
}

impl Pool {
    fn say(&mut self, thread: Option<usize>, subject: Option<Subject>, what: What) {
        let seq = self.moments.len() as u64 + 1;
        self.moments.push(Moment { seq, at_us: 10 * seq, thread, subject, what });
    }

    fn next(&mut self) -> Subject {
        self.requests += 1;
        Subject { connection: self.requests, port: 1, request: self.requests }
    }

    fn step(&mut self, choice: u8, number: usize) {
        let holds = self.threads.get(&number).copied();
        match (choice, holds) {
            (0..3, _) => {
                let subject = self.next();
                if choice == 0 {
                    self.say(None, Some(subject), What::accepted("GET", "/by/tiny/http"));
                }
                self.say(None, Some(subject), What::Queued);
                self.todo.push_back(subject);
            }
            (3, _) => {
                if let Some(subject) = self.todo.get(number).copied() {
                    self.say(None, Some(subject), What::peeked("GET", "/peeked"));
                }
            }
            (4, _) => {
                if let Some(subject) = self.todo.remove(number) {
                    self.say(None, Some(subject), What::Withdrawn);
                }
            }
            (18, _) => self.say(None, None, What::Ordered { text: "reap".into() }),
            (19, Some(Some((subject, _)))) => self.say(None, Some(subject), What::ClientClosed),
            (19, _) => {
                if let Some(subject) = self.todo.get(number).copied() {
                    self.say(None, Some(subject), What::ClientClosed);
                }
            }
            (_, None) => {
                self.threads.insert(number, None);
                self.say(Some(number), None, What::Spawned);
            }
            (5, Some(None)) => {
                self.threads.remove(&number);
                self.say(Some(number), None, What::Exited);
            }
            (_, Some(None)) => {
                if let Some(subject) = self.todo.pop_front() {
                    self.threads.insert(number, Some((subject, false)));
                    self.say(Some(number), Some(subject), What::Started);
                }
            }
            (5, Some(Some((subject, false)))) => {
                // The request is incomplete, and the reactor queues it again before the thread has finished.
                self.threads.insert(number, Some((subject, true)));
                self.say(None, Some(subject), What::Queued);
                self.todo.push_back(subject);
            }
            (6, Some(Some((_, false)))) => {
                let next = self.next();
                self.threads.insert(number, Some((next, false)));
                self.say(Some(number), Some(next), What::accepted("GET", "/next/on/its/connection"));
            }
            (7..10, Some(Some((subject, _)))) => {
                self.threads.insert(number, None);
                self.say(Some(number), Some(subject), What::Finished);
            }
            (_, Some(Some((subject, _)))) => {
                let what = match choice {
                    10 => What::accepted("GET", "/read"),
                    11 => What::MarkedIoBound,
                    12 => What::Streaming,
                    13 => What::Disconnected { write: 1, error: "EPIPE".into() },
                    14 => What::Reaped { age_ms: 1, why: "age".into() },
                    15 => What::Answered { status: 200, bytes: 1, duration_us: 1 },
                    _ => What::Wrote { bytes: 1 },
                };
                self.say(Some(number), Some(subject), what);
            }
        }
    }
}

proptest::proptest! {
    #[test]
    fn a_batch_of_moments_yields_the_same_state_as_single_moments(
        steps in proptest::collection::vec((0_u8..20, 0_usize..3), 1..400),
        pieces in proptest::collection::vec(1_usize..100, 1..20),
    ) {
        let mut pool = Pool::default();
        steps.into_iter().for_each(|(choice, number)| pool.step(choice, number));
        let (mut at_once, mut one_by_one) = (Snapshot::default(), Snapshot::default());
        let mut left = &pool.moments[..];
        for size in pieces.into_iter().chain([usize::MAX]) {
            let (piece, rest) = left.split_at(size.min(left.len()));
            at_once.take_all(piece.iter());
            piece.iter().for_each(|moment| one_by_one.take(moment));
            proptest::prop_assert_eq!(&at_once, &one_by_one);
            left = rest;
        }
    }
}
