//! The acts of `reproduce`: the seed's story, one file a scene.
//!
//! Each has the same parts in the same order: what it expects, derived from the
//! plan before anything runs; how it is played, on a server of its own; what it
//! claims, measured on the wire and in the server's record; and, in two sentences,
//! why it came so. An act claims what follows from the plan, so that it can fail.

mod browser_limit;
mod database_pool;
mod nine_tabs;
mod reaper;
mod second_write;
mod zombies;

use super::claim::{Claims, Verdict};
use super::interrupt::Interrupt;
use super::narrator::Narrator;
use super::record::Record;
use super::stage::{ActError, Plan, Stage};

/// One scene.
pub struct Act {
    pub number: usize,
    pub title: fn(&Plan) -> String,
    pub expects: fn(&Plan) -> String,
    play: fn(&mut Theatre<'_>) -> Result<Played, ActError>,
}

/// What an act is played with.
struct Theatre<'a> {
    plan: &'a Plan,
    narrator: &'a mut Narrator,
    interrupt: &'a Interrupt,
}

/// What came of it.
struct Played {
    claims: Claims,
    /// Two sentences that name the cause.
    why: String,
    /// What its server recorded, and since when on its clock lanes are to be drawn.
    record: (Record, u64),
}

/// All acts, in order.
pub const ACTS: &[Act] = &[
    Act { number: 1, title: nine_tabs::title, expects: nine_tabs::expects, play: nine_tabs::play },
    Act { number: 2, title: second_write::title, expects: second_write::expects, play: second_write::play },
    Act {
        number: 3,
        title: browser_limit::title,
        expects: browser_limit::expects,
        play: browser_limit::play,
    },
    Act { number: 4, title: zombies::title, expects: zombies::expects, play: zombies::play },
    Act { number: 5, title: reaper::title, expects: reaper::expects, play: reaper::play },
    Act {
        number: 6,
        title: database_pool::title,
        expects: database_pool::expects,
        play: database_pool::play,
    },
];

/// What a played act leaves: its verdict, and the record to draw it from.
pub struct Outcome {
    pub verdict: Verdict,
    /// What was said before it ran.
    pub expects: String,
    pub why: String,
    pub record: Record,
    pub began_us: u64,
}

impl Act {
    /// Plays the act: says what it expects, runs it, says what was seen, and why.
    /// `pause` is called between the three, with what comes next.
    pub fn perform(
        &self,
        plan: &Plan,
        narrator: &mut Narrator,
        interrupt: &Interrupt,
        mut pause: impl FnMut(&mut Narrator, &str) -> Result<(), ActError>,
    ) -> Result<Outcome, ActError> {
        let title = (self.title)(plan);
        narrator.title(&format!("Act {}. {title}", self.number));
        let expects = (self.expects)(plan);
        narrator.entry("expects", &expects);
        pause(narrator, "runs it")?;
        let Played { claims, why, record: (record, began_us) } =
            (self.play)(&mut Theatre { plan, narrator, interrupt })?;
        pause(narrator, "shows the verdict")?;
        let claims = claims.into_vec();
        narrator.claims(&claims);
        narrator.entry("why", &why);
        let verdict = Verdict { act: self.number, title, claims };
        Ok(Outcome { verdict, expects, why, record, began_us })
    }
}

impl Theatre<'_> {
    fn serve(&mut self, caption: &str, flags: &[(&str, String)]) -> Result<Stage<'_>, ActError> {
        Stage::serve(self.plan, self.narrator, self.interrupt, caption, flags)
    }
}

/// `1 tab`, `3 tabs`.
fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// The status of a page, or that no byte of it came.
fn answered(page: Option<(u16, std::time::Duration)>) -> String {
    page.map_or_else(|| "no byte".to_owned(), |(status, _)| status.to_string())
}
