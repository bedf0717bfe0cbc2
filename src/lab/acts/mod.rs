//! The acts of `reproduce`: the article's story, one file per act.
//!
//! Each act has the same parts:
//!
//! - the expectation, derived from the plan before anything runs
//! - the run, on its own server
//! - the claims, measured on the wire and in the server's record
//! - the cause, in two sentences
//!
//! The expected values are computed from the plan, not from the run, so a claim can fail.

mod browser_limit;
mod database_pool;
mod late_rows;
mod nine_tabs;
mod one_database;
mod orphans;
mod reaper;
mod second_write;
mod third_pool;
mod zombies;

use std::time::Duration;

use super::claim::{Claims, Verdict};
use super::interrupt::Interrupt;
use super::narrator::Narrator;
use super::stage::{ActError, Plan, Scene, Theater};
use super::wording::{capitalized, count, spelled};

/// One act.
pub struct Act {
    pub number: usize,
    /// The title in the JSON output.
    pub title: fn(&Plan) -> String,
    /// The title on screen.
    pub heading: fn(&Plan) -> String,
    pub expects: fn(&Plan) -> String,
    /// How many seconds the act takes with the default plan, at the normal pace and at the fast pace.
    pub took_s: [u64; 2],
    /// Whether the act is played only if it is named, because it needs a program that is often not installed.
    pub is_on_request: bool,
    play: fn(&mut Theater<'_>) -> Result<Played, ActError>,
}

/// The result of a run.
struct Played {
    claims: Claims,
    /// Two sentences that name the cause.
    why: String,
    /// One line with the key number.
    conclusion: String,
    /// The index in [`Outcome::scenes`] of the picture that represents the act.
    main: usize,
}

/// All acts, in order.
pub const ACTS: &[Act] = &[
    Act {
        number: 1,
        title: nine_tabs::title,
        heading: nine_tabs::heading,
        expects: nine_tabs::expects,
        took_s: [6, 1],
        is_on_request: false,
        play: nine_tabs::play,
    },
    Act {
        number: 2,
        title: second_write::title,
        heading: second_write::heading,
        expects: second_write::expects,
        took_s: [15, 2],
        is_on_request: false,
        play: second_write::play,
    },
    Act {
        number: 3,
        title: browser_limit::title,
        heading: browser_limit::heading,
        expects: browser_limit::expects,
        took_s: [11, 10],
        is_on_request: false,
        play: browser_limit::play,
    },
    Act {
        number: 4,
        title: zombies::title,
        heading: zombies::heading,
        expects: zombies::expects,
        took_s: [18, 3],
        is_on_request: false,
        play: zombies::play,
    },
    Act {
        number: 5,
        title: reaper::title,
        heading: reaper::heading,
        expects: reaper::expects,
        took_s: [18, 3],
        is_on_request: false,
        play: reaper::play,
    },
    Act {
        number: 6,
        title: database_pool::title,
        heading: database_pool::heading,
        expects: database_pool::expects,
        took_s: [11, 2],
        is_on_request: false,
        play: database_pool::play,
    },
    Act {
        number: 7,
        title: orphans::title,
        heading: orphans::heading,
        expects: orphans::expects,
        took_s: [27, 5],
        is_on_request: false,
        play: orphans::play,
    },
    Act {
        number: 8,
        title: one_database::title,
        heading: one_database::heading,
        expects: one_database::expects,
        took_s: [13, 10],
        is_on_request: true,
        play: one_database::play,
    },
    Act {
        number: 9,
        title: late_rows::title,
        heading: late_rows::heading,
        expects: late_rows::expects,
        took_s: [7, 6],
        is_on_request: true,
        play: late_rows::play,
    },
    Act {
        number: 10,
        title: third_pool::title,
        heading: third_pool::heading,
        expects: third_pool::expects,
        took_s: [12, 12],
        is_on_request: true,
        play: third_pool::play,
    },
];

/// The result of an act: its verdict, its texts, and its pictures.
pub struct Outcome {
    pub verdict: Verdict,
    pub heading: String,
    /// The expectation, as printed before the run.
    pub expects: String,
    pub why: String,
    /// One line with the key number.
    pub conclusion: String,
    pub scenes: Vec<Scene>,
    /// The index of the picture that represents the act.
    pub main: usize,
    /// The parts that were not played, each with the reason.
    pub skipped: Vec<String>,
}

impl Outcome {
    /// The picture that represents the act.
    pub fn main_scene(&self) -> Option<&Scene> {
        self.scenes.get(self.main).or(self.scenes.first())
    }
}

impl Act {
    /// `act 1 of 7`, or `act 8` for an act that is played only on request.
    pub fn name(&self) -> String {
        let story = ACTS.iter().filter(|act| !act.is_on_request).count();
        if self.is_on_request {
            format!("act {}", self.number)
        } else {
            format!("act {} of {story}", self.number)
        }
    }

    /// Performs the act: prints its expectation, runs it, and prints its claims and the cause. `pause` is called
    /// before the run and before the verdict, with the name of the next step.
    pub fn perform(
        &self,
        plan: &Plan,
        narrator: &mut Narrator,
        interrupt: &Interrupt,
        mut pause: impl FnMut(&mut Narrator, &str) -> Result<(), ActError>,
    ) -> Result<Outcome, ActError> {
        let heading = (self.heading)(plan);
        narrator.title(&capitalized(&format!("{}: {heading}", self.name())));
        let expects = (self.expects)(plan);
        narrator.entry("Expected", &expects);
        pause(narrator, &format!("run act {}", self.number))?;
        let mut theater = Theater { plan, narrator, interrupt, scenes: Vec::new(), skipped: Vec::new() };
        let Played { claims, why, conclusion, main } = (self.play)(&mut theater)?;
        let Theater { scenes, skipped, .. } = theater;
        pause(narrator, "show the verdict")?;
        let verdict = Verdict { act: self.number, title: (self.title)(plan), claims: claims.into_vec() };
        narrator.verdict(&verdict.claims, &why);
        Ok(Outcome { verdict, heading, expects, why, conclusion, scenes, main, skipped })
    }
}

/// The status of a page's response, or `no response` if nothing arrived.
fn answered(page: Option<(u16, Duration)>) -> String {
    page.map_or_else(|| "no response".to_owned(), |(status, _)| status.to_string())
}
