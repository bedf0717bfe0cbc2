//! A discrete-event simulation of many tabs on many servers, on one thread, with a seed.
//!
//! It answers what happens to N tabs on S servers with T threads and a maximum age, for more tabs than a test machine
//! can open. The rules of the pool and of the streams are those of the server crate ([`ninetabs_server::rules`]). Around
//! them are tabs that behave as an EventSource, a balancer, the reaper, and faults. Durations that the rules do not
//! decide are drawn from measured ones ([`costs`]).
//!
//! A [`Scenario`] is what to simulate, [`run`] does it, and [`Simulated`] has the [`figures`] and whether the [`laws`]
//! held. A law is something that must be true of every run, such as L = λW. With a [`Flaw`] a rule is broken on
//! purpose, and a law must notice. [`replay`] feeds the same pool the arrivals and durations of a real record.
//!
//! The lab uses of the server crate only its record; this module is the exception, because it simulates the server.

mod agenda;
mod balancer;
pub mod costs;
mod demand;
mod faults;
pub mod figures;
pub mod laws;
pub mod picture;
pub mod pool;
pub mod replay;
pub mod report;
pub mod scenario;
mod server;
pub mod spread;
mod streaming;
mod tabs;
mod turns;
mod words;
mod world;

pub use pool::{Flaw, Kept};
pub use scenario::{Balance, HeldBy, Noticed, Outage, Scenario};

use ninetabs_server::timeline::Moment;

use super::claim::Claim;
use super::interrupt::{Interrupt, Interrupted};
use figures::Figures;
use world::World;

/// The result of a run.
#[derive(Debug)]
pub struct Simulated {
    pub figures: Figures,
    pub laws: Vec<Claim>,
    /// The events of the first server that were kept.
    pub moments: Vec<Moment>,
    /// When keeping them ended, in microseconds, if it ended before the run did.
    pub kept_until_us: Option<u64>,
}

/// Simulates a scenario. The result depends on the scenario and its seed alone. Blocks until the simulated time has
/// passed, which takes about a microsecond per event, or until the interrupt comes.
pub fn run(scenario: &Scenario, watched: Kept, interrupt: &Interrupt) -> Result<Simulated, Interrupted> {
    let mut world = World::new(scenario, watched);
    world.run(interrupt)?;
    let (moments, kept_until_us) = world.servers[0].pool.moments();
    let figures = world.figures;
    let laws = laws::judge(scenario, &figures);
    Ok(Simulated { figures, laws, moments, kept_until_us })
}
