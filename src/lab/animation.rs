//! A scene as one animated SVG file, without a script: the lanes are uncovered from left to right as time passes, and
//! a line of text describes what happens.
//!
//! Everything is drawn as in [`super::picture`]. The style moves a cover over it. With reduced motion, or in a viewer
//! without CSS animations, the last frame is shown.

use std::collections::BTreeSet;

use super::picture::{self, PictureError, PictureLook};
use super::record::Record;
use super::stage::Scene;
use super::story::Story;
use super::wording::{capitalized, count, spelled};

/// Seconds until the lanes are uncovered, and seconds of one loop. The uncovered lanes stay until the loop ends.
const UNCOVERED_AFTER: f64 = 9.0;
const LOOP: f64 = 11.5;
/// A request that waits for longer than this gets a line of text.
const LONG_WAIT_US: u64 = 100_000;

/// Draws the scene. `title` is used unless the scene is about one tab that waits for another tab's thread.
pub fn svg(title: &str, scene: &Scene) -> Result<String, PictureError> {
    let course = Course::of(&scene.record);
    let title = course.title(&scene.record).unwrap_or_else(|| capitalized(title));
    let until_us = course.end_us(&scene.record);
    let lines = course.lines(&scene.record, scene.from_us);
    let look = PictureLook {
        title: Some(&title),
        label: &title,
        until_us: Some(until_us),
        animation: style(&lines, scene.from_us, until_us),
        lines: lines.into_iter().map(|(_, line)| line).collect(),
        ..PictureLook::default()
    };
    picture::draw(scene, &look)
}

/// The requests that the animation is about, if the record has them.
struct Course<'a> {
    /// The first request that waited in the queue.
    waits: Option<&'a Story>,
    /// The first client that closed while it streamed.
    closed: Option<&'a Story>,
}

impl<'a> Course<'a> {
    fn of(record: &'a Record) -> Course<'a> {
        let waited = |story: &&Story| {
            !story.target.is_empty()
                && story.left_todo_us().unwrap_or(record.now_us).saturating_sub(story.queued_us)
                    > LONG_WAIT_US
        };
        let streams = record.stories.values().filter(|story| story.is_stream && story.closed_us.is_some());
        Course {
            waits: record.stories.values().find(waited),
            closed: streams.min_by_key(|story| story.closed_us),
        }
    }

    /// The request that waited, and the closed request whose thread it took.
    fn successor(&self) -> Option<(&'a Story, &'a Story)> {
        let (waits, closed) = (self.waits?, self.closed?);
        (waits.started?.1 == closed.started?.1 && waits.started?.0 > closed.started?.0)
            .then_some((waits, closed))
    }

    fn title(&self, record: &Record) -> Option<String> {
        let (waits, closed) = self.successor()?;
        let (tabs, threads) = (clients(record, "tab "), record.threads().len());
        let numbers = format!("{}, {}", spelled(tabs, "tab"), spelled(threads, "thread"));
        Some(format!("{}: {} waits for {}'s thread", capitalized(&numbers), waits.name(), closed.name()))
    }

    /// The end of the picture, before the other clients close.
    fn end_us(&self, record: &Record) -> u64 {
        let taken_us =
            self.successor().and_then(|(waits, _)| waits.started).map_or(u64::MAX, |(at_us, _)| at_us);
        let closed = record.stories.values().filter_map(|story| story.closed_us);
        closed.filter(|at_us| *at_us > taken_us).min().unwrap_or(record.now_us)
    }

    /// The lines of text with their times, in order.
    fn lines(&self, record: &Record, from_us: u64) -> Vec<(u64, String)> {
        let threads = record.threads().len();
        let mut lines: Vec<_> = opening(record).into_iter().map(|line| (from_us, line)).collect();
        if let Some(waits) = self.waits {
            let held = if threads == 1 {
                "The thread is held.".into()
            } else {
                format!("All {threads} threads are held.")
            };
            lines.push((
                waits.queued_us,
                format!("{held} {} waits in the queue.", capitalized(&waits.name())),
            ));
        }
        if let Some((closed, closed_us)) = self.closed.and_then(|story| Some((story, story.closed_us?))) {
            let name = closed.name();
            lines.push((
                closed_us,
                format!("{} closed. The server has not noticed: its thread stays held.", capitalized(&name)),
            ));
            if let Some(gone) = &closed.gone {
                let writes = closed.writes_us.iter().filter(|at_us| **at_us > closed_us).count();
                let line = match writes {
                    0 => format!("The next write fails with {}: the thread is freed.", gone.error),
                    1 => format!(
                        "One write succeeded. The second fails with {}: the thread is freed.",
                        gone.error
                    ),
                    _ => format!(
                        "{} succeeded, one fails with {}: the thread is freed.",
                        count(writes, "write"),
                        gone.error
                    ),
                };
                // The next line may follow within a millisecond, so this one appears earlier: halfway between the
                // previous write and the failed one.
                let before_us = closed.writes_us.iter().rev().find(|at_us| **at_us > closed_us);
                let at_us =
                    before_us.map_or(closed_us, |at_us| at_us + (gone.at_us.saturating_sub(*at_us)) / 2);
                lines.push((at_us, line));
            }
        }
        if let Some((waits, closed)) = self.successor() {
            let taken_us = waits.started.map_or(record.now_us, |(at_us, _)| at_us);
            let line =
                format!("{} takes the thread of {}, and streams.", capitalized(&waits.name()), closed.name());
            lines.push((taken_us, line));
        }
        lines.sort_by_key(|(at_us, _)| *at_us);
        lines
    }
}

/// The number of clients whose name has this prefix. A client that reconnects has several requests and counts once.
fn clients(record: &Record, prefix: &str) -> usize {
    let names = record.stories.values().map(Story::name).filter(|name| name.starts_with(prefix));
    names.collect::<BTreeSet<_>>().len()
}

/// The line for the clients of the scene. `None` if there are none.
fn opening(record: &Record) -> Option<String> {
    let (tabs, zombies) = (clients(record, "tab "), clients(record, "zombie-"));
    Some(match (tabs, zombies) {
        (0, 0) => return None,
        (1, 0) => "One tab opens, with an event stream.".to_owned(),
        (_, 0) => format!("{} open, each with an event stream.", capitalized(&spelled(tabs, "tab"))),
        (0, 1) => "One zombie connects: a client that never reads.".to_owned(),
        (0, _) => format!("{} connect: clients that never read.", capitalized(&spelled(zombies, "zombie"))),
        _ => format!(
            "{} and {} open, each with an event stream.",
            capitalized(&spelled(tabs, "tab")),
            spelled(zombies, "zombie")
        ),
    })
}

/// The style that uncovers the lanes and shows each line at its time.
fn style(lines: &[(u64, String)], from_us: u64, until_us: u64) -> String {
    let span = until_us.saturating_sub(from_us).max(1) as f64;
    let percent = |at_us: u64| {
        let part = (at_us.saturating_sub(from_us) as f64 / span).min(1.0);
        (part * UNCOVERED_AFTER / LOOP * 1000.0).round() / 10.0
    };
    let last = lines.len().saturating_sub(1);
    let uncovered = percent(until_us);
    let mut style = format!(
        ".lanes .says {{ font-size: 16px; fill: var(--ink); opacity: 0; }}\n.lanes #says-{last} {{ opacity: 1; }}\n\
         .cover {{ transform-box: fill-box; transform-origin: right; transform: scaleX(0); }}\n\
         @media (prefers-reduced-motion: no-preference) {{\n\
         .cover {{ animation: uncover {LOOP}s linear infinite; }}\n\
         @keyframes uncover {{ 0% {{ transform: scaleX(1); }} {uncovered}%, 100% {{ transform: scaleX(0); }} }}\n"
    );
    for (number, (at_us, _)) in lines.iter().enumerate() {
        let begin = if number == 0 { 0.0 } else { percent(*at_us) };
        let hidden = if begin > 0.0 { "0% { opacity: 0; } " } else { "" };
        let end = match lines.get(number + 1) {
            Some((next_us, _)) => format!("{}%, 100% {{ opacity: 0; }}", percent(*next_us)),
            None => "100% { opacity: 1; }".to_owned(),
        };
        style.push_str(&format!(
            ".lanes #says-{number} {{ animation: says-{number} {LOOP}s step-end infinite; }}\n\
             @keyframes says-{number} {{ {hidden}{begin}% {{ opacity: 1; }} {end} }}\n"
        ));
    }
    style + "}\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::record::tests::two_threads;

    /// Tab 1 closes after 2 s, its second write fails after 6 s, and `tab 3` takes its thread.
    fn scene() -> Scene {
        let mut record = two_threads();
        for (request, story) in &mut record.stories {
            story.queued_us = request * 1000;
            story.started = story.started.map(|(_, thread)| (request * 1000, thread));
            story.writes_us = vec![request * 1000, 2_000_000 + request * 1000, 4_000_000 + request * 1000];
        }
        let first = record.stories.get_mut(&1).unwrap();
        (first.closed_us, first.finished_us) = (Some(2_100_000), Some(6_000_000));
        first.gone.as_mut().unwrap().at_us = 6_000_000;
        let third = record.stories.get_mut(&3).unwrap();
        third.target = "/models/live_stream?tab=3".into();
        (third.started, third.is_stream, third.writes_us) = (Some((6_001_000, 1)), true, vec![6_002_000]);
        third.closed_us = Some(8_000_000);
        record.now_us = 12_000_000;
        Scene { caption: "tab 1 closes".into(), record, from_us: 0 }
    }

    #[test]
    fn the_lines_describe_what_happens_in_order() {
        let Scene { record, .. } = scene();
        let course = Course::of(&record);
        let lines: Vec<String> = course.lines(&record, 0).into_iter().map(|(_, line)| line).collect();
        assert_eq!(
            lines,
            [
                "Three tabs open, each with an event stream.",
                "All 2 threads are held. Tab 3 waits in the queue.",
                "Tab 1 closed. The server has not noticed: its thread stays held.",
                "One write succeeded. The second fails with EPIPE: the thread is freed.",
                "Tab 3 takes the thread of tab 1, and streams.",
            ]
        );
        assert_eq!(course.title(&record).unwrap(), "Three tabs, two threads: tab 3 waits for tab 1's thread");
        assert_eq!(course.end_us(&record), 8_000_000);
    }

    #[test]
    fn one_loop_takes_ten_to_twelve_seconds_and_respects_reduced_motion() {
        let picture = svg("one tab closes", &scene()).unwrap();
        assert!((10.0..=12.0).contains(&LOOP) && UNCOVERED_AFTER < LOOP);
        let (still, moving) = picture.split_once("@media (prefers-reduced-motion: no-preference)").unwrap();
        assert!(!still.contains("animation:") && still.contains("transform: scaleX(0)"), "{still}");
        assert!(still.contains("#says-4 { opacity: 1; }"), "{still}");
        assert_eq!(moving.matches("@keyframes").count(), 6);
        assert!(moving.contains("animation: uncover 11.5s linear infinite"), "{moving}");
        assert!(!picture.contains("<script") && !picture.contains("<animate"));
    }

    #[test]
    fn clients_are_counted_once_however_often_they_reconnect() {
        let record = |names: &[&str]| {
            let mut record = Record::default();
            for (request, name) in (1..).zip(names) {
                let target = format!("/models/live_stream?tab={name}");
                record
                    .stories
                    .insert(request, Story { request, target, is_stream: true, ..Story::default() });
            }
            record
        };
        for (names, line) in [
            (&["1", "2", "1", "2", "1"][..], Some("Two tabs open, each with an event stream.")),
            (&["1", "1"], Some("One tab opens, with an event stream.")),
            (&["zombie-1", "zombie-2"], Some("Two zombies connect: clients that never read.")),
            (&["zombie-1"], Some("One zombie connects: a client that never reads.")),
            (&["1", "2", "zombie-1"], Some("Two tabs and one zombie open, each with an event stream.")),
            (&[], None),
        ] {
            assert_eq!(opening(&record(names)).as_deref(), line);
        }
    }

    #[test]
    fn a_scene_without_requests_can_be_drawn() {
        let scene = Scene { caption: String::new(), record: Record::default(), from_us: 0 };
        assert!(svg("nothing", &scene).unwrap().contains(">Nothing</text>"));
    }
}
