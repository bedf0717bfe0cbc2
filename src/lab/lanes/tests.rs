use super::super::record::tests::two_threads;
use super::*;

#[test]
fn each_thread_has_a_row_and_the_queue_is_last() {
    let mut record = two_threads();
    let spread = |at_us: u64| at_us * 1000;
    for (number, story) in record.stories.values_mut().enumerate() {
        story.queued_us = spread(10 * number as u64);
        story.started = story.started.map(|(_, thread)| (spread(10 * number as u64), thread));
        story.writes_us = vec![spread(10 * number as u64)];
        story.finished_us = story.finished_us.map(|_| spread(30));
        if let Some(gone) = &mut story.gone {
            gone.at_us = spread(30);
        }
    }
    let lanes = draw(&record, 0, spread(40), 8);
    let text = |lane: &Lane| lane.cells.iter().map(|cell| cell.glyph()).collect::<String>();
    assert_eq!(lanes.iter().map(text).collect::<Vec<_>>(), ["●─────×·", "··●─────", "    ░░░░"]);
    let named = |lane: &Lane| (lane.label.clone(), lane.holder.clone());
    let names: Vec<_> = lanes.iter().map(named).collect();
    let expected = [("tp 001", ""), ("tp 002", "tab 2"), ("queue", "/up")];
    assert_eq!(names, expected.map(|(label, holder)| (label.to_owned(), holder.to_owned())));
}

#[test]
fn unrecorded_time_is_empty_and_an_end_before_its_start_does_not_panic() {
    let mut record = two_threads();
    (record.unknown_us, record.now_us) = (vec![(0, 10_000), (15_000, 30_000)], 40_000);
    record.stories.retain(|request, _| *request == 1);
    for story in record.stories.values_mut() {
        (story.started, story.finished_us) = (Some((35_000, 1)), Some(10_000));
        (story.writes_us, story.gone) = (Vec::new(), None);
    }
    let cells = &draw(&record, 0, 40_000, 4)[0].cells;
    assert_eq!(*cells, [Cell::Empty, Cell::Idle, Cell::Empty, Cell::Idle]);
}

#[test]
fn a_name_is_placed_at_the_start_of_its_band() {
    let lane = |cells: &str, bands: &[(usize, usize, &str)]| {
        let cell = |glyph| match glyph {
            '●' => Cell::Wrote,
            '─' => Cell::Held,
            '×' => Cell::Failed,
            '╌' => Cell::ClientGone,
            _ => Cell::Idle,
        };
        let bands = bands.iter().map(|(from, to, name)| Band { from: *from, to: *to, name: (*name).into() });
        let cells = cells.chars().map(cell).collect();
        Lane { label: String::new(), cells, holder: String::new(), bands: bands.collect() }
    };
    let names =
        |lane: &Lane| lane.names().iter().map(|it| (it.column, it.name.to_owned())).collect::<Vec<_>>();
    let two = lane("●───────●──×·●──────", &[(0, 11, "tab 3"), (13, 19, "tab 9")]);
    assert_eq!(names(&two), [(1, "tab 3".into()), (14, "tab 9".into())]);
    // A name covers writes that are close together.
    let busy = lane("·●─●─●─●─●", &[(1, 9, "tab 3")]);
    assert_eq!(names(&busy), [(2, "tab 3".into())]);
    assert_eq!(names(&lane("·●──×·····", &[(1, 4, "tab 3")])), []);
    // Requests that wait at the same time share a lane.
    let todo = lane("──────────────────", &[(0, 17, "tab 9"), (1, 17, "/up"), (2, 17, "tab 10 and more")]);
    assert_eq!(names(&todo), [(1, "tab 9".into()), (9, "/up".into())]);
    // A double-width character takes two columns.
    assert_eq!(names(&lane("──────", &[(0, 5, "模型")])), [(1, "模型".into())]);
    assert_eq!(names(&lane("─────", &[(0, 4, "模型")])), []);
}

#[test]
fn folded_lanes_leave_one_of_each_course() {
    let lane = |label: &str, cells: Vec<Cell>| Lane {
        label: label.into(),
        cells,
        holder: String::new(),
        bands: Vec::new(),
    };
    let held = || vec![Cell::Idle, Cell::Wrote, Cell::Held, Cell::Wrote];
    let failed = vec![Cell::Held, Cell::ClientGone, Cell::Failed, Cell::Idle];
    let lanes = [lane("1", held()), lane("2", held()), lane("3", held()), lane("4", failed)];
    let labels = |lanes: Vec<&Lane>| lanes.iter().map(|it| it.label.clone()).collect::<Vec<_>>();
    let folded = |most| {
        let (shown, folded) = fold(&lanes, most);
        (labels(shown).concat(), labels(folded).concat())
    };
    assert_eq!(folded(4), ("1234".into(), String::new()));
    assert_eq!(folded(3), ("124".into(), "3".into()));
    assert_eq!(folded(2), ("14".into(), "23".into()));
    assert_eq!(folded(1), ("1".into(), "234".into()));
    let idle = [lane("1", vec![Cell::Idle; 4]), lane("2", held())];
    assert_eq!(labels(fold(&idle, 1).0), ["2"]);
}

#[test]
fn the_band_of_a_closed_client_is_hollow_until_its_thread_is_freed() {
    let mut record = two_threads();
    let story = record.stories.get_mut(&1).unwrap();
    (story.queued_us, story.started, story.writes_us) = (0, Some((0, 1)), vec![0, 30_000]);
    (story.closed_us, story.finished_us) = (Some(20_000), Some(50_000));
    story.gone.as_mut().unwrap().at_us = 50_000;
    let cells = &draw(&record, 0, 80_000, 8)[0].cells;
    assert_eq!(cells.iter().map(|cell| cell.glyph()).collect::<String>(), "●─╌●╌×··");
}

#[test]
fn lanes_without_columns_do_not_panic() {
    for columns in [0, 1] {
        assert_eq!(draw(&two_threads(), 5, 5, columns).len(), 3);
    }
}
