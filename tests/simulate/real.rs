//! Real runs: tabs on a real server, and its record. They take minutes and a quiet machine, so they are ignored.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use ninetabs::lab::acts::ACTS;
use ninetabs::lab::interrupt::Interrupt;
use ninetabs::lab::narrator::Narrator;
use ninetabs::lab::simulate::Scenario;
use ninetabs::lab::simulate::costs::{Deciles, StepCosts};
use ninetabs::lab::stage::{Pace, Plan};
use ninetabs::lab::subject::TestedServer;
use ninetabs::lab::tab::{Settings, Tab};
use ninetabs_server::thread_pool::PoolSize;
use ninetabs_server::timeline::{Moment, What};

use super::figures::{Comparison, runs, simulated};
use super::record_file::{QueueRecord, folder};

/// The flags of the real servers, and the same in a scenario. With a large jitter and a short interval of the reaper,
/// the waits are spread widely. Otherwise they are near a few multiples of that interval, and a difference of a
/// millisecond moves many of them past each other.
pub const FLAGS: &str = "--threads 8:8 --max-stream-age 0.5 --max-stream-age-jitter 50% --reap-every 5ms --retry 0.01 \
                         --update-rate 0.2 --produce-every 1";

/// A scenario with these flags.
pub fn scenario(tabs: u32, length: Duration) -> Scenario {
    Scenario {
        tabs,
        max_stream_age: Some(Duration::from_millis(500)),
        max_stream_age_jitter: 0.5,
        reap_every: Duration::from_millis(5),
        retry: Duration::from_millis(10),
        update_rate: Duration::from_millis(200),
        pages_per_second: 0.0,
        open_within: Duration::from_micros(150) * tabs,
        length,
        ..Scenario::default()
    }
}

fn program() -> PathBuf {
    std::env::var_os("NINETABS").map_or_else(|| env!("CARGO_BIN_EXE_ninetabs").into(), PathBuf::from)
}

/// Opens tabs on a real server for this time, and returns its record. Times count from the first arrival.
fn observe(tabs: u32, length: Duration) -> Vec<Moment> {
    let flags: Vec<String> = FLAGS.split(' ').map(str::to_owned).collect();
    let server = TestedServer::start(&program(), &flags, &Interrupt::never()).unwrap();
    let open = |number| {
        let url = server.url(&format!("/models/live_stream?tab={number}"));
        let reconnect_after = Duration::from_millis(10);
        Tab::open(&url, Settings { name: format!("tab {number}"), reconnect_after, ..Settings::default() })
            .unwrap()
    };
    let all: Vec<Tab> = (1..=tabs).map(open).collect();
    sleep(length);
    let moments = server.follower().record(|record| {
        assert_eq!(record.forgotten, 0);
        record.moments.clone()
    });
    // Closing them one after the other would give each of the rest a turn.
    drop(server);
    drop(all);
    let first_us = moments.iter().find(|moment| moment.what == What::Queued).map_or(0, |first| first.at_us);
    let later = moments.into_iter().filter(|moment| moment.at_us >= first_us);
    later.map(|moment| Moment { at_us: moment.at_us - first_us, ..moment }).collect()
}

/// The length of the records of tabs.
pub const RECORDED: Duration = Duration::from_secs(40);

/// Writes the records of tabs that the other tests read.
#[test]
#[ignore = "writes tests/data/simulate"]
fn records_of_tabs() {
    for tabs in [9, 64] {
        let moments = observe(tabs, RECORDED);
        eprintln!("{tabs} tabs: {}", MeasuredSteps::of(&moments).text());
        let record = QueueRecord::of(&moments);
        let how = format!("{tabs} tabs on ninetabs serve {FLAGS}, {} s", RECORDED.as_secs());
        record.write(&folder().join(format!("{tabs}.txt")), &how);
    }
}

/// Writes the records of acts.
#[test]
#[ignore = "writes tests/data/simulate"]
fn records_of_acts() {
    let plan = Plan { program: program(), threads: 8..=8, tabs: 9, front: "puma".into(), pace: Pace::FAST };
    for act in ACTS.iter().filter(|act| act.number <= 6) {
        let played = act.perform(&plan, &mut Narrator::silent(), &Interrupt::never(), |_, _| Ok(()));
        match played {
            Ok(outcome) => {
                let Some(scene) = outcome.main_scene() else { continue };
                let path: &Path = &folder().join(format!("act-{}.txt", act.number));
                let how = format!("the main server of ninetabs reproduce --fast {}", act.number);
                QueueRecord::of(&scene.record.moments).write(path, &how);
            }
            Err(error) => eprintln!("act {}: {error}", act.number),
        }
    }
}

/// The figures of docs/measurements.md: real and simulated, side by side. The second table is simulated with the
/// durations of the real run, so that it also holds on a busy machine, where everything takes longer.
#[test]
#[ignore = "takes ten minutes"]
fn side_by_side() {
    let (mut table, mut own) = (Comparison::heading(), Comparison::heading());
    let mut failed = Vec::new();
    // In the first round of turns the waits grow from zero, and in every later one 500 tabs wait for the sum of almost
    // the same turns. A run would have to have many rounds to show how that sum is spread, so the long ones end with the
    // first round, as soon as some tabs have had a second turn.
    for (tabs, seconds) in [(9, 150), (64, 300), (500, 25), (2_000, 97)] {
        let length = Duration::from_secs(seconds);
        let moments = observe(tabs, length);
        let measured = MeasuredSteps::of(&moments);
        eprintln!("{tabs} tabs: {}", measured.text());
        let real = QueueRecord::of(&moments);
        let as_measured = Scenario { costs: measured.costs(), ..scenario(tabs, length) };
        let comparison = Comparison::of(tabs, &real, &runs(&as_measured));
        write!(own, "{}", comparison.rows()).unwrap();
        // With another maximum age, or with one thread less, the figures differ from those of the run.
        let older = Scenario { max_stream_age: Some(Duration::from_millis(600)), ..as_measured.clone() };
        let smaller = Scenario { threads: PoolSize::new(7, 7).unwrap(), ..as_measured };
        let others = [older, smaller].map(|other| Comparison::of(tabs, &real, &runs(&other)).is_close());
        if !comparison.is_close() || others.contains(&true) {
            failed.push((tabs, others));
        }
        write!(table, "{}", Comparison::of(tabs, &real, &simulated(tabs, length)).rows()).unwrap();
        eprintln!("{table}\nwith the durations of the run:\n{own}");
    }
    println!("{table}\nWith the durations of the run:\n\n{own}");
    assert_eq!(failed, [], "tabs whose figures differ, and whether those of other rules do not");
}

/// The durations of a real run that a simulation draws from, in microseconds.
#[derive(Debug, Default)]
struct MeasuredSteps {
    open: Vec<u64>,
    update: Vec<u64>,
    reaped: Vec<u64>,
    connect: Vec<u64>,
}

impl MeasuredSteps {
    fn of(moments: &[Moment]) -> MeasuredSteps {
        let mut steps = MeasuredSteps::default();
        let mut threads = std::collections::BTreeMap::new();
        let mut queued = std::collections::BTreeMap::new();
        let (mut tab_of, mut finished) =
            (std::collections::BTreeMap::new(), std::collections::BTreeMap::new());
        for moment in moments {
            let Some(subject) = moment.subject else { continue };
            match (&moment.what, moment.thread) {
                (What::Queued, _) => drop(queued.insert(subject.request, moment.at_us)),
                (What::Started, Some(thread)) => {
                    threads.insert(thread, (moment.at_us, None, None));
                }
                (What::Accepted { target, .. }, _) => {
                    tab_of.insert(subject.request, target.to_string());
                    let since = finished.get(&**target).zip(queued.get(&subject.request));
                    steps.connect.extend(
                        since.map(|(end_us, at_us): (&u64, &u64)| at_us.saturating_sub(end_us + 10_000)),
                    );
                }
                (What::Wrote { .. }, Some(thread)) => {
                    let Some((started_us, wrote_us, reaped_us)) = threads.get_mut(&thread) else { continue };
                    if reaped_us.is_none() {
                        match *wrote_us {
                            None => steps.open.push(moment.at_us - *started_us),
                            Some(last_us) => {
                                let last_us: u64 = last_us;
                                steps.update.push((moment.at_us - last_us).saturating_sub(200_000))
                            }
                        }
                        *wrote_us = Some(moment.at_us);
                    }
                }
                (What::Reaped { .. }, Some(thread)) => {
                    if let Some((_, _, reaped_us)) = threads.get_mut(&thread) {
                        *reaped_us = Some(moment.at_us);
                    }
                }
                (What::Finished, Some(thread)) => {
                    if let Some((_, _, Some(reaped_us))) = threads.get(&thread) {
                        steps.reaped.push(moment.at_us - reaped_us);
                    }
                    if let Some(tab) = tab_of.get(&subject.request) {
                        finished.insert(tab.clone(), moment.at_us);
                    }
                }
                _ => {}
            }
        }
        for values in [&mut steps.open, &mut steps.update, &mut steps.reaped, &mut steps.connect] {
            values.sort_unstable();
        }
        steps
    }

    fn named(&self) -> [(&'static str, &[u64]); 4] {
        [("open", &self.open), ("update", &self.update), ("reaped", &self.reaped), ("connect", &self.connect)]
    }

    /// The costs of a simulation, with these durations in place of the usual ones.
    fn costs(&self) -> StepCosts {
        let [open, update, reaped, connect] = self.named().map(|(name, values)| {
            let us: Vec<u32> = deciles(values).map(|us| u32::try_from(us).unwrap()).collect();
            Deciles(us.try_into().unwrap_or_else(|_| panic!("no {name} in the run")))
        });
        StepCosts { open, update, reaped, connect, ..StepCosts::default() }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for (name, values) in self.named() {
            write!(text, "\n  {name} {:?}", deciles(values).collect::<Vec<_>>()).unwrap();
        }
        text
    }
}

/// The deciles of sorted values, or nothing if there are no values.
fn deciles(values: &[u64]) -> impl Iterator<Item = u64> {
    (0..=10).filter_map(|tenth| values.get((values.len().max(1) - 1) * tenth / 10).copied())
}
