use std::thread;

use super::*;

#[test]
fn a_snapshot_is_complete_even_if_the_requested_moment_is_forgotten() {
    let timeline = Timeline::simulated();
    timeline.record(Some(1), None, What::Spawned);
    let asked_for = timeline.last_seq();
    for _ in 0..2 * CAPACITY {
        timeline.record(Some(2), None, What::Spawned);
    }
    let snapshot = timeline.snapshot_up_to(asked_for);
    assert!(asked_for < snapshot.seq && snapshot.seq < timeline.last_seq());
    assert_eq!(snapshot.threads.keys().collect::<Vec<_>>(), [&1, &2]);
}

#[test]
fn sequence_numbers_are_contiguous_and_show_a_slow_reader_how_many_it_missed() {
    let timeline = Timeline::default();
    for _ in 0..CAPACITY + 10 {
        timeline.record(None, None, What::Spawned);
    }
    let all = timeline.after(0);
    assert_eq!(all.forgotten, 10);
    assert_eq!(all.moments.len(), CAPACITY);
    assert!(all.moments.windows(2).all(|w| w[0].seq + 1 == w[1].seq && w[0].at_us <= w[1].at_us));

    let newest = timeline.after(all.moments[CAPACITY - 3].seq);
    assert_eq!((newest.forgotten, newest.moments.len()), (0, 2));
    assert!(timeline.after(u64::MAX).moments.is_empty());

    let next = timeline.next_after(0, 3);
    assert_eq!((next.forgotten, next.moments.len(), next.moments[2].seq), (10, 3, 13));
    assert_eq!(timeline.last_seq(), CAPACITY as u64 + 10);
}

#[test]
fn recording_does_not_wait_for_a_reader_until_the_queue_is_full() {
    let timeline = Timeline::default();
    let record = |number| timeline.record(Some(number), None, What::Spawned);
    thread::scope(|scope| {
        let reading = timeline.ring();
        (0..QUEUED_AT_MOST).for_each(record);
        let last = scope.spawn(|| record(QUEUED_AT_MOST));
        thread::sleep(Duration::from_millis(20));
        assert!(!last.is_finished(), "the queue is full");
        drop(reading);
    });
    let numbers = timeline.after(0).moments.into_iter().map(|moment| moment.thread.unwrap());
    assert!(numbers.eq(0..=QUEUED_AT_MOST));
}

#[test]
fn moments_of_many_threads_are_complete_and_each_thread_records_in_order() {
    const EACH: u64 = 20_000;
    let timeline = Timeline::default();
    let record = |thread: usize| {
        let subject = |request| Subject { connection: thread as u64, port: 1, request };
        (1..=EACH).for_each(|n| timeline.record(Some(thread), Some(subject(n)), What::Started));
    };
    let mut seen: Vec<Moment> = Vec::new();
    thread::scope(|scope| {
        (0..4).for_each(|number| {
            scope.spawn(move || record(number));
        });
        let mut forgotten = 0;
        while timeline.last_seq() < 4 * EACH || seen.last().is_none_or(|last| last.seq < 4 * EACH) {
            let last = seen.last().map_or(0, |moment| moment.seq);
            let next = timeline.next_after(last, COPIED_AT_ONCE);
            forgotten += next.forgotten;
            seen.extend(next.moments);
        }
        assert_eq!(seen.len() as u64 + forgotten, 4 * EACH);
    });
    assert!(seen.windows(2).all(|two| two[0].seq < two[1].seq && two[0].at_us <= two[1].at_us));
    for number in 0..4 {
        let of_one = seen.iter().filter(|moment| moment.thread == Some(number));
        let requests: Vec<u64> = of_one.map(|moment| moment.subject.unwrap().request).collect();
        assert!(requests.is_sorted_by(|earlier, later| earlier < later), "thread {number}");
    }
}

#[test]
fn the_total_length_of_texts_is_bounded() {
    let timeline = Timeline::default();
    for n in 0..CAPACITY {
        let target = format!("/{n}?{}", "x".repeat(2 * LONGEST_TEXT));
        timeline.record(None, None, What::accepted("G".repeat(LONGEST_TEXT), target));
    }
    let all = timeline.after(0);
    assert_eq!(all.moments.len(), MAX_TEXT_BYTES / (2 * LONGEST_TEXT));
    assert_eq!(all.forgotten as usize + all.moments.len(), CAPACITY);
    timeline.record(None, None, What::Panicked { message: "é".repeat(MAX_TEXT_BYTES) });
    let What::Panicked { message } = &timeline.after(CAPACITY as u64).moments[0].what else {
        panic!("another moment")
    };
    assert_eq!(message.len(), LONGEST_TEXT);
    // With ordinary texts, the limit is the number of moments.
    for _ in 0..2 * CAPACITY {
        timeline.record(None, None, What::accepted("GET", "/models/live_stream?tab=1"));
    }
    assert_eq!(timeline.after(0).moments.len(), CAPACITY);
}

#[test]
fn a_long_target_is_truncated_between_characters() {
    let What::Accepted { method, target, .. } =
        What::accepted("GET", format!("/{}", "é".repeat(LONGEST_TEXT)))
    else {
        panic!("another moment")
    };
    assert_eq!((&*method, target.len()), ("GET", LONGEST_TEXT - 1));
}

#[cfg(feature = "serde")]
#[test]
fn a_moment_is_serialized_as_one_flat_object() {
    let timeline = Timeline::default();
    let subject = Subject { connection: 7, port: 40_007, request: 1 };
    timeline.record(Some(3), Some(subject), What::Wrote { bytes: 12 });
    let moment = &timeline.after(0).moments[0];
    let json = serde_json::to_value(moment).unwrap();
    assert_eq!(json["kind"], "wrote");
    assert_eq!((&json["bytes"], &json["request"], &json["thread"]), (&12.into(), &1.into(), &3.into()));
    assert_eq!(&serde_json::from_value::<Moment>(json).unwrap(), moment);
}

#[cfg(feature = "serde")]
#[test]
fn an_order_is_an_event_without_a_thread_or_a_request() {
    let timeline = Timeline::default();
    timeline.record(None, None, What::Ordered { text: "é".repeat(LONGEST_TEXT) });
    let moment = &timeline.after(0).moments[0];
    let json = serde_json::to_value(moment).unwrap();
    let keys: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["at_us", "kind", "seq", "text"]);
    assert_eq!((&json["kind"], json["text"].as_str().unwrap().len()), (&"ordered".into(), LONGEST_TEXT));
    assert_eq!(&serde_json::from_value::<Moment>(json).unwrap(), moment);
    // The event changes neither the threads nor `todo`.
    let snapshot = timeline.snapshot();
    assert!(snapshot.seq == 1 && snapshot.threads.is_empty() && snapshot.todo.is_empty());
}

#[cfg(feature = "serde")]
#[test]
fn an_event_from_a_newer_server_is_read_as_unknown() {
    let json = r#"{"seq":1,"at_us":2,"connection":3,"request":4,"kind":"teleported","to":"elsewhere"}"#;
    let moment: Moment = serde_json::from_str(json).unwrap();
    assert_eq!(moment.what, What::Unknown);
    assert_eq!(moment.subject, Some(Subject { connection: 3, port: 0, request: 4 }));
}
