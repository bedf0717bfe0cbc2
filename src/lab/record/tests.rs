use std::time::Duration;

use super::*;
use ninetabs_server::timeline::{CAPACITY, Timeline};

/// A record of two threads: tab 1 streams and leaves, tab 2 streams, `/up` waits.
pub fn two_threads() -> Record {
    let timeline = Timeline::default();
    let tab = |request| Some(Subject { connection: request, port: 40_000 + request as u16, request });
    let say = |thread, subject, what| timeline.record(thread, subject, what);
    let accepted =
        |target: &str| What::Accepted { method: "GET".into(), target: target.into(), peeked: false };
    for thread in [1, 2] {
        say(Some(thread), None, What::Spawned);
    }
    for request in [1, 2] {
        say(None, tab(request), accepted(&format!("/models/live_stream?tab={request}")));
        say(None, tab(request), What::Queued);
        say(Some(request as usize), tab(request), What::Started);
        say(Some(request as usize), tab(request), What::Streaming);
        say(Some(request as usize), tab(request), What::Wrote { bytes: 9 });
    }
    say(Some(1), tab(1), What::Disconnected { write: 3, error: "EPIPE".into() });
    say(Some(1), tab(1), What::Finished);
    say(None, tab(3), accepted("/up"));
    say(None, tab(3), What::Queued);
    let mut record = Record::default();
    record.take(timeline.after(0));
    record
}

#[test]
fn a_request_that_was_set_aside_belongs_to_its_next_thread() {
    let timeline = Timeline::default();
    let subject = Some(Subject { connection: 1, port: 40_001, request: 1 });
    let mut record = Record::default();
    let mut say = |thread, what| {
        timeline.record(thread, subject, what);
        record.take(timeline.after(record.last_seq()));
        let story = record.of_port(40_001).unwrap();
        (story.is_running(), story.is_queued())
    };
    assert_eq!(say(None, What::Queued), (false, true));
    assert_eq!(say(Some(1), What::Started), (true, false));
    // The reactor reads the rest of the request before thread 1 has finished with it.
    assert_eq!(say(None, What::Queued), (false, true));
    assert_eq!(say(Some(2), What::Started), (true, false));
    assert_eq!(say(Some(1), What::Finished), (true, false));
    assert_eq!(say(Some(2), What::Finished), (false, false));
}

#[test]
fn a_request_that_was_set_aside_is_queued_again_behind_the_others() {
    let timeline = Timeline::default();
    let say = |thread, request, what| {
        timeline.record(
            thread,
            Some(Subject { connection: request, port: 40_000 + request as u16, request }),
            what,
        );
    };
    say(None, 1, What::Queued);
    say(Some(1), 1, What::Started);
    say(Some(1), 1, What::Finished);
    say(None, 2, What::Queued);
    say(None, 1, What::Queued);
    let mut excerpt = timeline.after(0);
    for moment in &mut excerpt.moments {
        moment.at_us = moment.seq * 1000;
    }
    let mut record = Record::default();
    record.take(excerpt);
    let todo: Vec<_> = record.todo().map(|story| (story.connection, story.queued_us)).collect();
    assert_eq!(todo, [(2, 4000), (1, 5000)]);
}

#[test]
fn a_request_that_is_refused_outside_the_pool_did_not_wait_and_holds_no_thread() {
    let timeline = Timeline::simulated();
    let say = |thread, request, what| {
        timeline.let_pass(Duration::from_millis(1));
        timeline.record(thread, Some(Subject { connection: request, port: 40_001, request }), what);
    };
    let refused = || What::Rejected { status: 408, why: "too slow".into() };
    // The rest of request 1 never arrives in the reactor.
    say(None, 1, What::Queued);
    say(Some(1), 1, What::Started);
    say(Some(1), 1, What::Finished);
    say(None, 1, refused());
    // The acceptor refuses request 2 immediately.
    say(None, 2, refused());
    let mut record = Record::default();
    record.take(timeline.after(0));
    let times = |request| {
        let story: &Story = &record.stories[&request];
        (story.queued_us, story.started.map(|(at_us, _)| at_us), story.finished_us)
    };
    assert_eq!(times(1), (1_000, Some(2_000), Some(3_000)));
    assert_eq!(times(2), (5_000, None, Some(5_000)));
}

#[test]
fn requests_of_a_keep_alive_connection_follow_each_other_on_one_thread() {
    let timeline = Timeline::default();
    let say = |request, what| {
        timeline.record(Some(1), Some(Subject { connection: 1, port: 40_001, request }), what);
    };
    let mut record = Record::default();
    let mut running = || {
        record.take(timeline.after(record.last_seq()));
        let running = record.stories.values().filter(|story| story.is_running());
        running.map(Story::name).collect::<Vec<_>>()
    };
    say(1, What::Started);
    for request in [1, 2, 3] {
        say(request, What::accepted("GET", format!("/{request}")));
        say(request, What::Wrote { bytes: 9 });
        assert_eq!(running(), [format!("/{request}")]);
        say(request, What::Answered { status: 200, bytes: 9, duration_us: 1 });
        assert_eq!(running(), [""; 0]);
    }
    say(3, What::Finished);
    assert_eq!(running(), [""; 0]);
    assert_eq!((record.stories.len(), record.todo().count()), (3, 0));
}

#[test]
fn a_record_without_answers_ends_a_request_with_the_next_one_or_its_thread() {
    // An older server: `answered` is missing, and the port is the connection's number.
    let json = |seq: u64, request: u64, rest: &str| {
        let json = format!(
            r#"{{"seq":{seq},"at_us":{seq}000,"thread":1,"connection":40001,"request":{request},{rest}}}"#
        );
        serde_json::from_str::<Moment>(&json).unwrap()
    };
    let reads = r#""kind":"accepted","method":"GET","target":"/up""#;
    let moments = vec![
        json(1, 1, r#""kind":"started""#),
        json(2, 1, reads),
        json(3, 1, r#""kind":"wrote","bytes":9"#),
        json(4, 2, reads),
        json(5, 2, r#""kind":"wrote","bytes":9"#),
        json(6, 1, r#""kind":"finished""#),
    ];
    let mut record = Record::default();
    record.take(Excerpt { now_us: 7000, forgotten: 0, moments, snapshot: None });
    let ends = record.stories.values().map(|story| (story.started, story.finished_us));
    assert_eq!(ends.collect::<Vec<_>>(), [(Some((1000, 1)), Some(4000)), (Some((4000, 1)), Some(6000))]);
}

/// One record contains all moments, the other only the newest ones.
#[test]
fn a_late_reader_gets_the_requests_in_flight() {
    let timeline = Timeline::simulated();
    let say = |thread, request: u64, what| {
        let subject = Subject { connection: request, port: 40_000 + request as u16, request };
        timeline.record(thread, Some(subject), what);
    };
    let mut early = Record::default();
    for thread in [1, 2, 3] {
        timeline.record(Some(thread), None, What::Spawned);
    }
    for (thread, request) in [(1, 5), (2, 7)] {
        say(None, request, What::Queued);
        timeline.let_pass(Duration::from_millis(2));
        say(Some(thread), request, What::Started);
        say(Some(thread), request, What::accepted("GET", format!("/models/live_stream?tab={request}")));
        say(Some(thread), request, What::Streaming);
    }
    say(None, 9, What::Queued);
    say(None, 10, What::Queued);
    early.take(timeline.after(0));
    timeline.let_pass(Duration::from_secs(100));
    say(Some(2), 7, What::Answered { status: 200, bytes: 9, duration_us: 1 });
    say(Some(2), 7, What::Finished);
    say(Some(2), 9, What::Started);
    say(None, 10, What::peeked("GET", "/up"));
    for _ in 0..CAPACITY {
        timeline.let_pass(Duration::from_millis(1));
        say(Some(1), 5, What::Wrote { bytes: 1 });
    }
    let excerpt = timeline.after(early.last_seq());
    assert!(excerpt.forgotten > 0);
    early.take(excerpt);
    let mut late = Record::default();
    late.take(timeline.after(0));
    for record in [&early, &late] {
        let running: Vec<_> = record
            .stories
            .values()
            .filter(|story| story.is_running())
            .map(|story| (story.name(), story.started.unwrap(), story.is_stream, story.queued_us))
            .collect();
        assert_eq!(
            running,
            [
                ("tab 5".to_owned(), (2_000, 1), true, 0),
                ("spare connection".to_owned(), (100_004_000, 2), false, 4_000)
            ]
        );
        let todo: Vec<_> = record.todo().map(|story| (story.name(), story.queued_us)).collect();
        assert_eq!(todo, [("/up".to_owned(), 4_000)]);
        assert_eq!(record.threads().collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(record.stories[&5].writes_us.len(), CAPACITY);
    }
    // The early record contains the start of request 7, so it knows that the request ended in the gap.
    let ended = early.stories[&7].finished_us;
    assert_eq!((ended, early.unknown_us.len()), (Some(100_005_000), 1));
    // These requests end like any others.
    say(Some(1), 5, What::Answered { status: 200, bytes: 9, duration_us: 1 });
    for record in [&mut early, &mut late] {
        record.take(timeline.after(record.last_seq()));
        assert!(!record.stories[&5].is_running());
    }
}

#[test]
fn an_ended_story_is_dropped_and_a_running_one_is_kept() {
    let mut record = two_threads();
    let now_us = record.now_us + 1;
    record.forget_before(now_us, 10);
    assert_eq!(record.stories.values().map(Story::name).collect::<Vec<_>>(), ["tab 2", "/up"]);
    assert!(record.stories.values().all(|story| story.writes_us.is_empty()));
}

#[test]
fn only_the_newest_of_many_ended_stories_are_kept() {
    let mut record = two_threads();
    for (request, story) in &mut record.stories {
        (story.queued_us, story.finished_us) = (0, (*request < 3).then_some(request * 1000));
    }
    record.forget_before(0, 1);
    assert_eq!(record.stories.keys().copied().collect::<Vec<_>>(), [2, 3]);
    assert_eq!(record.unknown_us, [(0, 1001)]);
    record.forget_before(2001, 1);
    assert_eq!((record.stories.len(), record.unknown_us), (1, vec![(0, 2001)]));
}

#[test]
fn dropped_moments_leave_a_gap() {
    let mut record = Record { now_us: 1000, ..Record::default() };
    let moment = Moment { seq: 9, at_us: 3000, thread: Some(1), subject: None, what: What::Spawned };
    record.take(Excerpt { now_us: 4000, forgotten: 8, moments: vec![moment], snapshot: None });
    record.take(Excerpt { now_us: 5000, forgotten: 0, moments: vec![], snapshot: None });
    assert_eq!((record.unknown_us, record.forgotten), (vec![(1000, 3000)], 8));
}

#[test]
fn moments_become_stories() {
    let record = two_threads();
    assert_eq!(record.threads().collect::<Vec<_>>(), [1, 2]);
    assert_eq!(record.open_streams(), 1);
    assert_eq!(record.todo().map(Story::name).collect::<Vec<_>>(), ["/up"]);
    let first = record.of_port(40_001).unwrap();
    assert_eq!((first.name(), first.writes_us.len()), ("tab 1".to_owned(), 1));
    assert!(!first.is_running() && first.gone.as_ref().is_some_and(|gone| gone.error == "EPIPE"));
}
