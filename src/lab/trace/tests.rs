use super::tracks::{FRONT_DOOR, POOL, STREAM_REAPER};
use super::*;

const NINTH: Subject = Subject { connection: 40_009, port: 0, request: 9 };

fn asks(target: &str) -> What {
    What::accepted("GET", target)
}

fn peeked(target: &str) -> What {
    What::peeked("GET", target)
}

/// The events of these moments, which are at least a microsecond apart, without names of processes and threads.
fn events(moments: &[(Option<usize>, Option<Subject>, What)]) -> Vec<TraceEvent> {
    let mut process = TraceProcess::new(1, "a server");
    for (seq, (thread, subject, what)) in (1..).zip(moments.iter().cloned()) {
        process.take(&Moment { seq, at_us: seq * 10, thread, subject, what });
    }
    process.end(1_000);
    process.drain().into_iter().filter(|event| event.phase != Phase::Metadata).collect()
}

/// The events as text: `phase name at`.
fn seen(moments: &[(Option<usize>, Option<Subject>, What)]) -> Vec<String> {
    let line = |event: TraceEvent| {
        let json = serde_json::to_value(&event).unwrap();
        format!("{} {} {}", json["ph"].as_str().unwrap(), event.name, event.ts)
    };
    events(moments).into_iter().map(line).collect()
}

#[test]
fn a_request_waits_in_todo_and_is_then_on_its_thread() {
    let (on, of) = (Some(3), Some(NINTH));
    let rest = [
        (on, of, What::Streaming),
        (on, of, What::Wrote { bytes: 5 }),
        (on, of, What::Disconnected { write: 2, error: "EPIPE".into() }),
        (on, of, What::Finished),
    ];
    let lines = ["B tab 9 30", "i streaming 50", "i write 60", "i write fails 70", "E tab 9 80"];
    // With Puma's front, a request is seen in todo, and read by the thread.
    let puma = [
        (None, of, What::Queued),
        (None, of, peeked("/?tab=9")),
        (on, of, What::Started),
        (on, of, asks("/?tab=9")),
    ];
    let wait = ["b todo: tab 9 10", "e todo: tab 9 30"];
    assert_eq!(seen(&[&puma[..], &rest].concat()), [&wait[..], &lines].concat());
    // With tiny-http, it is read before it is queued.
    let tiny = [
        (None, of, asks("/?tab=9")),
        (None, of, What::Queued),
        (on, of, What::Started),
        (on, of, What::MarkedIoBound),
    ];
    let lines =
        [&["b todo: tab 9 20", "e todo: tab 9 30", "B tab 9 30", "i marked as IO-bound 40"], &lines[1..]];
    assert_eq!(seen(&[&tiny[..], &rest].concat()), lines.concat());
}

#[test]
fn a_refused_request_ends_where_it_is_refused() {
    let refused = |thread| {
        let rejected = What::Rejected { status: 400, why: "not HTTP".into() };
        (thread, Some(NINTH), rejected)
    };
    let (on, of) = (Some(1), Some(NINTH));
    let queued = (None, of, What::Queued);
    let finished = (on, of, What::Finished);
    let lines = |moments: &[_]| {
        let line = |event: &TraceEvent| {
            let json = serde_json::to_value(event).unwrap();
            let dur = json["dur"].as_u64().map_or(String::new(), |dur| format!(" for {dur}"));
            let ended = json["args"]["ended"].as_str().unwrap_or_default();
            format!("{} {}{dur} {ended}", event.name, event.ts).trim_end().to_owned()
        };
        events(moments).iter().map(line).collect::<Vec<_>>()
    };
    let in_todo = lines(&[queued.clone(), refused(None)]);
    assert_eq!(in_todo, ["todo: request 9 10", "todo: request 9 20 not HTTP", "refused 20"]);
    let unread = lines(&[queued.clone(), (on, of, What::Started), refused(on), finished.clone()]);
    let reads = "reads an incomplete request 20 for 10 not HTTP";
    let waits = ["todo: request 9 10", "todo: request 9 20 a thread took it"];
    assert_eq!(unread, [&waits[..], &[reads, "refused 30"]].concat());
    // The thread reads the next request of a connection, which does not pass through the queue.
    assert_eq!(lines(&[(on, None, What::Spawned), refused(on)]), ["spawned 10", "refused 20"]);
    let left = lines(&[(on, of, What::Started), (on, of, asks("/up")), (on, of, What::Left), finished]);
    assert_eq!(left, ["/up 10", "/up 30 its client had closed", "left 30"]);
}

#[test]
fn a_connection_that_was_set_aside_has_not_started_its_request() {
    let of = Some(NINTH);
    let moments = [
        (None, of, What::Queued),
        (Some(1), of, What::Started),
        (None, of, What::Queued),
        (Some(2), of, What::Started),
        // After the next one has begun.
        (Some(1), of, What::Finished),
        (Some(2), of, asks("/up")),
        (Some(2), of, What::Finished),
    ];
    let lines = [
        "b todo: request 9 10",
        "e todo: request 9 20",
        "X reads an incomplete request 20",
        "b todo: /up 30",
        "e todo: /up 40",
        "B /up 40",
        "E /up 70",
    ];
    assert_eq!(seen(&moments), lines);
}

#[test]
fn the_next_request_of_a_connection_ends_the_one_before() {
    let (on, second) = (Some(1), Subject { request: 10, ..NINTH });
    let moments = [
        (on, Some(NINTH), What::Started),
        (on, Some(NINTH), asks("/up")),
        (on, Some(NINTH), What::Wrote { bytes: 1 }),
        (on, Some(second), asks("/")),
        (on, Some(second), What::Wrote { bytes: 1 }),
        // The pool identifies the work by its first request.
        (on, Some(NINTH), What::Finished),
    ];
    assert_eq!(seen(&moments), ["B /up 10", "i write 30", "E /up 30", "B / 40", "i write 50", "E / 60"]);
}

#[test]
fn an_interval_that_is_still_open_gets_an_end_that_says_so() {
    let waits = Subject { connection: 1, port: 0, request: 10 };
    let moments = [
        (Some(1), Some(NINTH), What::Started),
        (Some(1), Some(NINTH), asks("/?tab=9")),
        (Some(1), Some(NINTH), What::Reaped { age_ms: 5, why: "max age".into() }),
        (Some(1), Some(NINTH), What::Blocked { us: 15 }),
        (None, Some(waits), What::Queued),
    ];
    let events = events(&moments);
    let last: Vec<_> = events.iter().rev().take(3).map(|event| (event.name.as_str(), event.ts)).collect();
    assert_eq!(last, [("todo: request 10", 1_000), ("todo: request 10", 50), ("tab 9", 1_000)]);
    assert_eq!((&events[3].args["ended"], &events[5].args["ended"]), (&OPEN.into(), &OPEN.into()));
    assert_eq!((events[1].tid, events[2].tid), (STREAM_REAPER, POOL + 1));
    assert_eq!((events[2].ts, &events[2].phase), (25, &Phase::Complete { dur: 15 }));
}

#[test]
fn an_orphaned_action_that_is_interrupted_is_on_the_track_of_the_reaper() {
    let moments = [(None, Some(NINTH), What::Reaped { age_ms: 5, why: "max age".into() })];
    let events = events(&moments);
    let seen: Vec<_> = events.iter().map(|event| (event.name.as_str(), event.tid)).collect();
    assert_eq!(seen, [("interrupted", STREAM_REAPER)]);
}

#[test]
fn a_panic_on_a_thread_of_its_own_is_on_the_pool_thread_that_has_the_request() {
    let (on, of) = (Some(1), Some(NINTH));
    let panic = || (None, of, What::Panicked { message: "for a test".into() });
    let moments = [
        (on, of, What::Started),
        (on, of, asks("/?tab=9")),
        panic(),
        (on, of, What::Answered { status: 500, bytes: 9, duration_us: 20 }),
        panic(),
    ];
    let events = events(&moments);
    let seen: Vec<_> = events.iter().map(|event| (event.name.as_str(), event.tid)).collect();
    let pool = POOL + 1;
    assert_eq!(seen, [("tab 9", pool), ("panicked", pool), ("tab 9", pool), ("panicked", FRONT_DOOR)]);
    assert_eq!(events[2].args["ended"], "panicked");
}

#[test]
fn dropped_moments_leave_starts_and_ends_in_pairs() {
    let mut process = TraceProcess::new(1, "a server");
    let tenth = Subject { request: 10, ..NINTH };
    for (seq, thread, of, what) in [
        (1, Some(1), NINTH, What::Started),
        (2, Some(1), NINTH, asks("/?tab=9")),
        (3, None, tenth, What::Queued),
        (4, None, tenth, peeked("/up")),
        (10, Some(1), tenth, What::Wrote { bytes: 1 }),
        (11, Some(1), tenth, What::Finished),
    ] {
        process.take(&Moment { seq, at_us: seq * 10, thread, subject: Some(of), what });
    }
    assert_eq!(process.state.todo().count(), 0);
    let events = process.drain();
    let said = events.iter().find(|event| event.name == "forgotten").unwrap();
    assert_eq!(said.args["moments"], 5);
    let seen: Vec<_> = events
        .iter()
        .filter(|event| event.phase != Phase::Metadata)
        .map(|event| (event.name.as_str(), event.ts))
        .collect();
    let lines = [
        ("tab 9", 10),
        ("todo: /up", 30),
        ("5 moments were dropped before they could be written", 100),
        ("todo: /up", 100),
        ("tab 9", 20),
        ("request 10", 100),
        ("write", 100),
        ("request 10", 110),
    ];
    assert_eq!(seen, lines);
    assert_eq!((&events.last().unwrap().args["ended"]), "finished");
}
