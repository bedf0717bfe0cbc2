//! The lanes of action threads (`serve --live rails`), between the lanes of the pool and the queue.

use std::collections::BTreeMap;

use super::paths::{Label, Shapes, across, label, rect, round, stripes};
use super::scale::PictureScale;
use super::{LEFT, MARGIN, NAMES, SPAN, text_width, unknown, y};
use crate::lab::actions::{ActionStory, action_name};
use crate::lab::record::Record;
use crate::words;

/// Maximum number of lanes, as on the dashboard. Further threads are counted.
const MOST_ACTIONS: usize = 8;

/// The lanes of one picture, by the numbers of their threads.
pub(super) struct ActionLanes<'a> {
    drawn: Vec<(usize, Vec<&'a ActionStory>)>,
    counted: Vec<(usize, Vec<&'a ActionStory>)>,
}

impl<'a> ActionLanes<'a> {
    /// A lane for each thread that ran an action during the time of the picture.
    pub fn of(record: &'a Record, scale: &PictureScale) -> ActionLanes<'a> {
        let mut lanes: BTreeMap<usize, Vec<&ActionStory>> = BTreeMap::new();
        for story in record.actions.all().filter(|story| bar(story, scale).is_some()) {
            lanes.entry(story.worker).or_default().push(story);
        }
        let mut drawn: Vec<_> = lanes.into_iter().collect();
        let counted = drawn.split_off(drawn.len().min(MOST_ACTIONS));
        ActionLanes { drawn, counted }
    }

    /// The number of rows, including the row of the count.
    pub fn rows(&self) -> usize {
        self.drawn.len() + usize::from(!self.counted.is_empty())
    }

    /// The name of each lane, starting at this row. A long number begins further to the left.
    pub fn names(&self, first_row: usize) -> impl Iterator<Item = Label> {
        self.drawn.iter().enumerate().map(move |(row, (worker, _))| {
            let text = action_name(*worker);
            let x = NAMES.min(LEFT - 2.0 - text_width(&text)).max(0.0);
            Label { x: round(x), y: y(first_row + row) + 16, text }
        })
    }

    /// A text with the number of threads without a lane, and how many of them have an orphaned action when the picture
    /// ends. `None` if every thread has a lane.
    pub fn count(&self, scale: &PictureScale) -> Option<String> {
        let orphaned = self.counted.iter().flat_map(|(_, stories)| stories).filter(|story| {
            // A thread runs at most one action at a time.
            story.orphaned_us.is_some_and(|at_us| at_us <= scale.to_us)
                && story.ended_us.is_none_or(|at_us| at_us > scale.to_us)
        });
        let threads = match self.counted.len() {
            0 => return None,
            1 => "1 more action thread".to_owned(),
            count => format!("{count} more action threads"),
        };
        Some(format!("{threads}, {} {} at the end", orphaned.count(), words::ORPHANED))
    }

    /// Draws the lanes, starting at this row.
    pub fn draw(&self, shapes: &mut Shapes, record: &Record, first_row: usize, scale: &PictureScale) {
        for (row, (_, stories)) in self.drawn.iter().enumerate() {
            let top = y(first_row + row);
            shapes.idle += &across(LEFT, top as f64 + 12.0, SPAN);
            for (x, width) in unknown(record, scale) {
                shapes.unknown += &stripes(x, width, top);
            }
            stories.iter().for_each(|story| action(shapes, story, top, scale));
        }
    }

    /// Whether a part of an action with a client is drawn.
    pub fn has_attached(&self, scale: &PictureScale) -> bool {
        self.any(|story| story.orphaned_us.is_none_or(|at_us| at_us > scale.from_us))
    }

    /// Whether a part of an action without a client is drawn.
    pub fn has_orphaned(&self, scale: &PictureScale) -> bool {
        self.any(|story| story.orphaned_us.is_some_and(|at_us| at_us <= scale.to_us))
    }

    fn any(&self, has: impl Fn(&ActionStory) -> bool) -> bool {
        self.drawn.iter().flat_map(|(_, stories)| stories).any(|story| has(story))
    }
}

/// The left edge and the width of an action.
fn bar(story: &ActionStory, scale: &PictureScale) -> Option<(f64, f64)> {
    scale.bar(story.began_us, story.ended_us.unwrap_or(scale.to_us))
}

/// One action: filled while a client is attached, hollow once it is orphaned.
fn action(shapes: &mut Shapes, story: &ActionStory, top: usize, scale: &PictureScale) {
    let Some((x, width)) = bar(story, scale) else { return };
    let until_us = story.ended_us.unwrap_or(scale.to_us).min(scale.to_us);
    let orphaned_us = story.orphaned_us.filter(|at_us| *at_us < until_us);
    // The filled bar is drawn in full length, because the hollow part has the same edge.
    shapes.held += &rect(x, top as f64 + 2.0, width, 20.0);
    let hollow = orphaned_us.and_then(|at_us| scale.bar(at_us.max(story.began_us), until_us));
    let filled = hollow.map_or(width, |(from, _)| from - x);
    let is_named = text_width(&story.name) + 3.0 * MARGIN <= filled;
    if is_named {
        shapes.names.push(Label { x: round(x + 11.0), y: top + 16, text: story.name.clone() });
    }
    let Some((x, width)) = hollow else { return };
    shapes.gone += &rect(x + 1.5, top as f64 + 3.5, (width - 3.0).max(1.0), 17.0);
    let orphaned = words::ORPHANED.to_owned();
    let named = (!is_named).then(|| format!("{} {orphaned}", story.name));
    let fits = |text: &String| text_width(text) + 3.0 * MARGIN <= width;
    if let Some(text) = named.into_iter().chain([orphaned]).find(fits) {
        let plate = text_width(&text) + 6.0;
        label(&mut shapes.plates, &mut shapes.labels, x + MARGIN + 3.0, top + 16, plate, text);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{PictureLook, draw, legend, svg};
    use super::*;
    use crate::lab::stage::Scene;
    use ninetabs_server::timeline::{Subject, Timeline, What};

    /// Ten seconds in which this many actions begin, one after the other, and those with an odd number are orphaned.
    fn scene(count: usize) -> Scene {
        let timeline = Timeline::simulated();
        timeline.let_pass(Duration::from_secs(1));
        for worker in 1..=count {
            let request = worker as u64;
            let say = |what| {
                timeline.record(None, Some(Subject { connection: request, port: 1, request }), what);
            };
            say(What::ActionBegan { worker, target: format!("/models/live_stream?tab={worker}").into() });
            if worker % 2 == 1 {
                timeline.let_pass(Duration::from_millis(1));
                say(What::ActionOrphaned { worker });
            }
        }
        let mut record = Record::default();
        record.take(timeline.after(0));
        record.now_us = 10_000_000;
        Scene { caption: String::new(), record, from_us: 0 }
    }

    #[test]
    fn each_action_has_a_lane_and_an_orphaned_one_says_so() {
        let scene = scene(2);
        let picture = svg("", &scene).unwrap();
        for seen in [">action 1<", ">action 2<", ">tab 1 orphaned<", ">tab 2<", ">orphaned</text>"] {
            assert!(picture.contains(seen), "{seen} in {picture}");
        }
        assert_eq!(
            picture.matches("class=\"client-gone\"").count(),
            2,
            "one in the lane and one in the legend: {picture}"
        );
        assert!(!picture.contains("tab 2 orphaned") && !picture.contains("client gone"), "{picture}");
    }

    #[test]
    fn more_than_eight_threads_are_counted_with_their_orphans() {
        let picture = svg("", &scene(100)).unwrap();
        assert!(picture.contains(">92 more action threads, 46 orphaned at the end</text>"), "{picture}");
        assert!(picture.contains(">action 8<") && !picture.contains(">action 9<"), "{picture}");
    }

    #[test]
    fn orphans_are_counted_as_they_are_when_the_picture_ends() {
        let mut scene = scene(12);
        let end = |scene: &Scene, until_us| {
            let look = PictureLook { until_us: Some(until_us), ..PictureLook::default() };
            let picture = draw(scene, &look).unwrap();
            let (before, _) = picture.split_once(" at the end</text>").unwrap();
            before.rsplit_once('>').unwrap().1.to_owned()
        };
        assert_eq!(end(&scene, 9_000_000), "4 more action threads, 2 orphaned");
        let last_us = scene.record.actions.all().filter_map(|story| story.orphaned_us).max().unwrap();
        assert_eq!(end(&scene, last_us - 1), "3 more action threads, 1 orphaned");
        scene.record.actions.settle(std::iter::empty(), 9_500_000);
        assert_eq!(end(&scene, 9_000_000), "4 more action threads, 2 orphaned");
        assert_eq!(end(&scene, 9_500_000), "4 more action threads, 0 orphaned");
    }

    #[test]
    fn the_queue_is_below_the_lanes_of_actions() {
        let mut scene = scene(2);
        let waiting = crate::lab::record::tests::two_threads().stories[&3].clone();
        scene.record.stories.insert(3, waiting);
        let picture = svg("", &scene).unwrap();
        let row = |text: &str| -> usize {
            let (before, _) = picture.split_once(&format!(">{text}<")).unwrap();
            before.rsplit_once("y=\"").unwrap().1.trim_end_matches('"').parse().unwrap()
        };
        assert!(row("action 1") < row("action 2") && row("action 2") < row("queue"), "{picture}");
    }

    #[test]
    fn a_picture_without_actions_omits_their_sign() {
        let scene = scene(0);
        assert!(!svg("", &scene).unwrap().contains(words::ORPHANED));
        assert!(!legend([&scene].into_iter(), |_| None).unwrap().contains(words::ORPHANED));
    }
}
