use super::*;
use crate::lab::record::tests::two_threads;
use ninetabs_server::timeline::{Subject, Timeline, What};

/// The record of two threads over ten seconds, as a scene.
fn spread() -> Scene {
    let mut record = two_threads();
    for story in record.stories.values_mut() {
        story.queued_us = story.request * 1_000_000;
        story.started = story.started.map(|(_, thread)| (story.request * 1_000_000, thread));
        story.finished_us = story.finished_us.map(|_| 5_000_000);
        story.writes_us = vec![story.request * 1_000_000];
        if let Some(gone) = &mut story.gone {
            gone.at_us = 5_000_000;
        }
    }
    record.now_us = 10_000_000;
    Scene { caption: "two tabs".into(), record, from_us: 0 }
}

#[test]
fn every_lane_is_in_the_picture_and_names_are_escaped() {
    let mut scene = spread();
    for story in scene.record.stories.values_mut().filter(|story| story.target == "/up") {
        story.target = "/models/live_stream?tab=<b>".into();
    }
    let picture = svg("nine & eight", &scene).unwrap();
    for seen in ["tp 001", "tp 002", "queue", "tab 1", "tab 2", "&lt;b&gt;", "nine &amp; eight", ">10 s<"] {
        assert!(picture.contains(seen), "{seen} in {picture}");
    }
    assert!(!picture.contains("<b>"));
}

#[test]
fn the_legend_lists_only_what_the_picture_shows() {
    let mut scene = spread();
    let has = |scene: &Scene, kind: &str| svg("", scene).unwrap().contains(&format!(">{kind}</text>"));
    for (kind, is_there) in [
        ("held", true),
        ("write", true),
        ("write failed", true),
        ("waiting", true),
        ("idle", true),
        ("client gone", false),
        ("reaped", false),
        ("write blocked", false),
        ("answered", false),
        ("spare connection", false),
    ] {
        assert_eq!(has(&scene, kind), is_there, "{kind}");
    }
    scene.record.client_closed(40_002, 6_000_000);
    let picture = svg("", &scene).unwrap();
    assert!(picture.contains("tab 2 closed, client gone") && has(&scene, "client gone"), "{picture}");
}

#[test]
fn a_stream_whose_client_closes_after_the_picture_keeps_its_name() {
    let mut scene = spread();
    scene.record.client_closed(40_002, 6_000_000);
    scene.record.stories.get_mut(&2).unwrap().finished_us = Some(8_000_000);
    let look = PictureLook { until_us: Some(5_000_000), ..PictureLook::default() };
    let picture = draw(&scene, &look).unwrap();
    assert!(picture.contains(">tab 2</text>") && !picture.contains("client gone"), "{picture}");
}

#[test]
fn idle_threads_are_counted_if_they_are_folded() {
    let mut scene = spread();
    scene.record.stories.remove(&2);
    let look = PictureLook { folds_idle: true, ..PictureLook::default() };
    let picture = draw(&scene, &look).unwrap();
    assert!(picture.contains("1 more thread, idle") && !picture.contains("tp 002"), "{picture}");
}

#[test]
fn many_threads_that_only_answered_short_pages_are_counted() {
    let timeline = Timeline::default();
    for thread in 1..=40 {
        let subject = Some(Subject { connection: thread, port: 1, request: thread });
        let (number, target) =
            (Some(thread as usize), if thread == 1 { "/models/live_stream" } else { "/up" });
        timeline.record(number, None, What::Spawned);
        timeline.record(number, subject, What::Started);
        timeline.record(number, subject, What::accepted("GET", target));
        timeline.record(number, subject, if thread == 1 { What::Streaming } else { What::Finished });
    }
    let mut record = Record::default();
    record.take(timeline.after(0));
    for story in record.stories.values_mut() {
        story.started = story.started.map(|(_, thread)| (2_000_000, thread));
        story.finished_us = story.finished_us.map(|_| 2_000_100);
    }
    record.now_us = 10_000_000;
    let scene = Scene { caption: String::new(), record, from_us: 0 };
    let look = PictureLook { folds_idle: true, ..PictureLook::default() };
    let picture = draw(&scene, &look).unwrap();
    assert!(picture.contains("39 more threads, idle or with short pages only<"), "{picture}");
    assert!(picture.contains("tp 001") && !picture.contains("tp 002"), "{picture}");
}

#[test]
fn requests_that_wait_at_the_same_time_have_separate_rows() {
    let mut record = spread().record;
    let mut fourth = record.stories[&3].clone();
    fourth.request = 4;
    record.stories.insert(4, fourth);
    let scale = PictureScale { from_us: 0, to_us: record.now_us };
    let rows: Vec<_> = waiters(&record, &scale).iter().map(|(row, story)| (*row, story.request)).collect();
    assert_eq!(rows, [(0, 3), (1, 4)]);

    // A request that left the queue before the picture begins is omitted.
    for story in record.stories.values_mut().filter(|story| story.started.is_none()) {
        story.started = Some((5_000_000, 1));
    }
    let scale = PictureScale { from_us: 6_000_000, to_us: record.now_us };
    assert!(waiters(&record, &scale).is_empty());
}

#[test]
fn a_long_queue_is_drawn_in_part_and_counted() {
    let mut scene = spread();
    let waits = scene.record.stories[&3].clone();
    for request in 4..1_004 {
        scene.record.stories.insert(request, Story { request, ..waits.clone() });
    }
    let picture = svg("", &scene).unwrap();
    assert!(picture.contains(">985 more, waiting</text>"), "{picture}");
    assert!(picture.len() < 60_000, "{}", picture.len());
}

#[test]
fn an_empty_record_can_be_drawn() {
    let scene = Scene { caption: String::new(), record: Record::default(), from_us: 0 };
    assert!(svg("nothing", &scene).unwrap().ends_with("</svg>"));
}
