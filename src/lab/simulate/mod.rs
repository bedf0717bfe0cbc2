//! A discrete-event simulation of many tabs on many servers, on one thread, with a seed.
//!
//! It computes what happens to N tabs on S servers with T threads and a maximum age, for more tabs than a test machine
//! can open. The rules of the pool and of the streams are those of the server crate ([`ninetabs_server::rules`]).
//! Around them are tabs that behave like an EventSource, a balancer, the reaper, and faults. Durations that the rules
//! do not decide are drawn from measured ones ([`costs`]).
//!
//! A [`Scenario`] describes what to simulate, [`run`] simulates it, and [`Simulated`] contains the [`figures`] and the
//! results of the [`laws`]. A law must hold in every run; one example is L = λW. A [`Flaw`] breaks a rule on purpose,
//! so that a law fails. [`replay`] feeds the arrivals and durations of a real record to the same pool.
//!
//! The rest of the lab uses little more than the record from the server crate. This module also uses the rules, because
//! it simulates the server.

mod agenda;
mod balancer;
pub mod costs;
mod demand;
mod event;
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
    /// The recorded events of the first server.
    pub moments: Vec<Moment>,
    /// When the recording ended, in microseconds, if it ended before the run did.
    pub kept_until_us: Option<u64>,
}

/// Simulates a scenario. The result depends only on the scenario and its seed. Blocks until the simulated time has
/// passed, which takes about a microsecond per event, or until the interrupt comes.
pub fn run(scenario: &Scenario, watched: Kept, interrupt: &Interrupt) -> Result<Simulated, Interrupted> {
    let mut world = World::new(scenario, watched);
    world.run(interrupt)?;
    let (moments, kept_until_us) = world.servers[0].pool.moments();
    let figures = world.figures;
    let laws = laws::judge(scenario, &figures);
    Ok(Simulated { figures, laws, moments, kept_until_us })
}
