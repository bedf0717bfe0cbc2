//! Replays real records on the simulated pool.

use ninetabs::lab::simulate::replay::{QueueEventKind, compare, replay};
use ninetabs_server::thread_pool::PoolSize;

use super::record_file::QueueRecord;

const RECORDS: [&str; 8] =
    ["9.txt", "64.txt", "act-1.txt", "act-2.txt", "act-3.txt", "act-4.txt", "act-5.txt", "act-6.txt"];

#[test]
fn a_replay_reproduces_a_real_record_line_by_line() {
    for name in RECORDS {
        let QueueRecord { events, .. } = QueueRecord::read(name);
        let replayed = replay(PoolSize::new(8, 8).unwrap(), &events);
        let likeness = compare(&events, &replayed);
        println!("{name}: {likeness:?}");
        assert!(likeness.compared > 12, "{name}: {likeness:?}");
        assert_eq!(likeness.differences, [""; 0], "{name}: {likeness:?}");
        // Only a few events are ties, so the comparison is meaningful.
        assert!(likeness.ties * 4 < likeness.compared, "{name}: {likeness:?}");
    }
}

#[test]
fn a_record_in_which_a_request_overtook_another_one_is_not_reproduced() {
    let QueueRecord { mut events, .. } = QueueRecord::read("64.txt");
    let started: Vec<usize> = (0..events.len())
        .filter(|index| events[*index].kind == QueueEventKind::Started)
        .skip(100)
        .take(12)
        .collect();
    let (first, last) = (started[0], started[11]);
    let requests = (events[first].request, events[last].request);
    (events[first].request, events[last].request) = (requests.1, requests.0);
    let replayed = replay(PoolSize::new(8, 8).unwrap(), &events);
    assert!(!compare(&events, &replayed).differences.is_empty());
}
