//! The legend of one or several pictures: the signs that they show, and the word for each sign.

use minijinja::{Environment, Value, context};

use super::actions::ActionLanes;
use super::paths::round;
use super::scale::PictureScale;
use super::{
    LEFT, LEGEND_ROW, PictureError, RIGHT, SPAN, TEMPLATE, is_answered_page, is_spare, text_width, unknown,
    waiters,
};
use crate::lab::record::Record;
use crate::lab::stage::Scene;
use crate::lab::story::Story;
use crate::words;

/// What a sign means, and its position in the legend.
#[derive(Debug)]
pub(super) struct LegendEntry {
    /// The name of its shape in the template.
    kind: &'static str,
    word: &'static str,
    x: f64,
    row: usize,
}

impl LegendEntry {
    pub(super) fn value(&self) -> Value {
        context! { kind => self.kind, word => self.word, x => self.x, row => self.row }
    }
}

/// Draws one legend for several scenes, with the signs that any of them shows. `until_us` returns the end of a scene's
/// picture.
pub fn legend<'a>(
    scenes: impl Iterator<Item = &'a Scene>,
    until_us: impl Fn(&Scene) -> Option<u64>,
) -> Result<String, PictureError> {
    let shown: Vec<_> =
        scenes.flat_map(|scene| signs(&scene.record, &PictureScale::of(scene, until_us(scene)))).collect();
    let legend = in_rows(ALL_SIGNS.iter().copied().filter(|sign| shown.contains(sign)).collect());
    let mut environment = Environment::new();
    environment.add_template("lanes.svg", TEMPLATE)?;
    Ok(environment.get_template("lanes.svg")?.render(context! {
        label => "Legend",
        from_y => 0,
        height => LEGEND_ROW + legend_height(&legend),
        width => (LEFT + SPAN + RIGHT) as usize,
        legend => legend.iter().map(LegendEntry::value).collect::<Vec<_>>(),
        legend_y => 2,
        legend_row => LEGEND_ROW,
    })?)
}

/// The height of each row of a legend after the first one.
pub(super) fn legend_height(legend: &[LegendEntry]) -> usize {
    legend.last().map_or(0, |entry| entry.row) * LEGEND_ROW
}

/// A shape in the template, and the word for it.
pub(super) type Sign = (&'static str, &'static str);

const ALL_SIGNS: [Sign; 12] = [
    ("held", words::HELD),
    ("write", words::WRITE),
    ("blocked", words::WRITE_BLOCKED),
    ("gone", words::CLIENT_GONE),
    ("orphaned", words::ORPHANED),
    ("failed", words::WRITE_FAILED),
    ("reaped", words::REAPED),
    ("answered", words::ANSWERED),
    ("idle", words::IDLE),
    ("waiting", words::WAITING),
    ("spare", words::SPARE_CONNECTION),
    ("unrecorded", words::NOT_RECORDED),
];

/// The signs that a picture shows.
pub(super) fn signs(record: &Record, scale: &PictureScale) -> Vec<Sign> {
    let shown: Vec<&Story> = record.stories.values().filter(|story| scale.shows(story)).collect();
    let is_shown = |at_us: &u64| (scale.from_us..=scale.to_us).contains(at_us);
    let any = |has: &dyn Fn(&Story) -> bool| shown.iter().any(|story| has(story));
    let waiters = waiters(record, scale);
    let actions = ActionLanes::of(record, scale);
    let is_there = |(kind, _): &Sign| match *kind {
        "held" => any(&|story| !is_answered_page(story)) || actions.has_attached(scale),
        "orphaned" => actions.has_orphaned(scale),
        "write" => any(&|story| story.writes_us.iter().any(is_shown)),
        "blocked" => any(&|story| story.blocked_us.iter().any(|(_, until_us)| is_shown(until_us))),
        "gone" => any(&|story| story.closed_us.as_ref().is_some_and(is_shown)),
        "failed" => any(&|story| story.gone.as_ref().is_some_and(|gone| is_shown(&gone.at_us))),
        "reaped" => any(&|story| story.reaped_us.as_ref().is_some_and(is_shown)),
        "answered" => any(&is_answered_page),
        "waiting" => waiters.iter().any(|(_, story)| !is_spare(story)),
        "spare" => waiters.iter().any(|(_, story)| is_spare(story)),
        "unrecorded" => !unknown(record, scale).is_empty(),
        _ => true,
    };
    ALL_SIGNS.into_iter().filter(is_there).collect()
}

/// Places signs one after the other, in as many rows as they need.
pub(super) fn in_rows(signs: Vec<Sign>) -> Vec<LegendEntry> {
    let (mut x, mut row) = (LEFT, 0);
    let mut legend = Vec::new();
    for (kind, word) in signs {
        let width = text_width(word) + 40.0;
        if x + width > LEFT + SPAN {
            (x, row) = (LEFT, row + 1);
        }
        legend.push(LegendEntry { kind, word, x: round(x), row });
        x += width;
    }
    legend
}
