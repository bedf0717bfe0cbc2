//! The measurement of one row on several servers, which is the same for all fixes.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::lab::compare::contenders::Contender;
use crate::lab::compare::figures::{millis, spread, worst};
use crate::lab::compare::listeners::{Listener, Notes, Seen};
use crate::lab::compare::models::{ANSWER_WITHIN, CreatedModel, MODELS, create, created, post};
use crate::lab::compare::window::{ListeningWindow, observe, scene, watch};
use crate::lab::compare::{CompareError, ComparePlan, Row};
use crate::lab::interrupt::Interrupt;

use super::servers::{SeveralServers, SharedDatabase};
use super::tally::Tally;
use super::{CrossDelay, Several, SeveralFigures};

/// The pause between opening two tabs. It is shorter with many tabs.
const OPEN_EVERY: Duration = Duration::from_millis(50);
const OPEN_WITHIN: Duration = Duration::from_secs(5);
/// How long the tabs may take to receive a model, also after the kill.
const ARRIVE_WITHIN: Duration = Duration::from_secs(20);
/// Around the kill, this many models are created in the time in which one is created otherwise.
const AROUND_KILL: u32 = 4;
/// A killed server whose tabs cannot reach another one stays down for this long.
const DOWN_FOR: Duration = Duration::from_secs(1);

/// What is measured around the kill.
struct Kill {
    server: usize,
    /// When the server had ended.
    at: SystemTime,
    /// Whether it was started again. Otherwise its tabs can only reconnect to other servers.
    is_started_again: bool,
    /// The models that were created. `None` if the answer did not arrive in time.
    created: Vec<Option<CreatedModel>>,
    /// The server of each tab before the kill.
    before: Vec<Option<usize>>,
}

/// Measures one row. `tell` is called with the name of each step.
pub fn measure(
    plan: &ComparePlan,
    several: Several,
    contender: &Contender,
    database: &SharedDatabase,
    interrupt: &Interrupt,
    mut tell: impl FnMut(&str),
) -> Result<Row, CompareError> {
    let mut row = Row { fix: contender.name, ..Row::default() };
    tell("the servers start");
    let mut servers = SeveralServers::start(plan, several, contender, database, interrupt)?;

    tell("tabs listen");
    let tabs = open(plan, contender, &servers, interrupt)?;
    let notes: Vec<Notes> = tabs.iter().map(|tab| tab.notes.clone()).collect();
    give_positions(plan, &servers, &notes, interrupt)?;
    let creator = with_fewest_tabs(several.servers, &notes);
    // Every tab has a position, and must receive this model and all later ones.
    let first = post(servers.server(creator), "first")?;
    let began = SystemTime::now();
    let window = ListeningWindow {
        page: format!("{}/up", servers.endpoint(1).url),
        models: servers.server(creator).url(MODELS),
        create_every: plan.pace.produce_every,
        measured: servers.all().iter().collect(),
        lasts: Several::window(&plan.pace),
    };
    let observed = observe(&window, interrupt, |_| ())?;
    let caption = format!("tabs of {} on server {creator} of {}", contender.name, several.servers);
    row.scene = Some(scene(servers.server(creator), caption));
    let steadily_created: Vec<CreatedModel> = observed.created.iter().flatten().copied().collect();
    observed.enter(&mut row);
    let live = notes.iter().filter(|notes| notes.last().is_some_and(|seen| seen.at > began)).count();
    row.tabs_live = Some(live);

    tell("a server is killed");
    let kill = kill_one(plan, &mut servers, creator, &notes, interrupt)?;
    let last = post(servers.server(creator), "last")?;
    wait_for_all(&notes, last, interrupt)?;

    tell("the tabs leave");
    let table = created(servers.server(creator))?;
    let got: Vec<Vec<Seen>> = notes.iter().map(Notes::all).collect();
    tabs.iter().for_each(Listener::end);
    // Otherwise a tab that waits for the next row would delay its end.
    drop(servers);
    let steady = || got.iter().flatten().filter(|seen| seen.at > began && seen.at < kill.at);
    row.event_ms = spread(steady().filter_map(|seen| Some(delay(*table.get(&seen.id)?, seen))).collect());
    // A model that was answered with 201 must arrive even if it is not in the table.
    let answered = steadily_created.iter().chain(kill.created.iter().flatten()).map(|model| model.id);
    let expected: BTreeSet<i64> = table.keys().copied().chain(answered).filter(|id| *id >= first).collect();
    let tallies = got.iter().map(|got| Tally::of(&expected, &ids(got)));
    let (lost, repeated) =
        tallies.fold((0, 0), |(lost, repeated), it| (lost + it.lost, repeated + it.repeated));
    row.repeated = Some(repeated);
    row.blind_s = blind(&kill, &got);
    let figures = over_the_kill(&kill, &got);
    row.several = Some(SeveralFigures {
        cross_server_ms: cross_delay(&steadily_created, creator, steady()),
        lost,
        ..figures
    });
    row.claims = contender.judge_several(plan, several, &row).into_vec();
    Ok(row)
}

fn open(
    plan: &ComparePlan,
    contender: &Contender,
    servers: &SeveralServers<'_>,
    interrupt: &Interrupt,
) -> Result<Vec<Listener>, CompareError> {
    let pause = OPEN_EVERY.min(OPEN_WITHIN / plan.tabs as u32);
    let mut tabs = Vec::new();
    for number in 1..=plan.tabs {
        tabs.push(Listener::open(contender.way, &servers.endpoint(number), number, plan.pace.update_rate)?);
        interrupt.sleep(pause)?;
    }
    Ok(tabs)
}

/// Creates models until every tab has received one. A tab without a position would begin at the newest model when it
/// reconnects.
fn give_positions(
    plan: &ComparePlan,
    servers: &SeveralServers<'_>,
    notes: &[Notes],
    interrupt: &Interrupt,
) -> Result<(), CompareError> {
    let deadline = Instant::now() + ARRIVE_WITHIN;
    while notes.iter().any(|notes| notes.last().is_none()) && Instant::now() < deadline {
        post(servers.server(1), "position")?;
        interrupt.sleep(plan.pace.produce_every)?;
    }
    Ok(())
}

/// The server from which each tab has received its last model.
fn servers_of(notes: &[Notes]) -> Vec<Option<usize>> {
    notes.iter().map(|notes| notes.last().and_then(|seen| seen.server)).collect()
}

/// How many of these tabs have this server.
fn tabs_on(server: usize, servers: &[Option<usize>]) -> usize {
    servers.iter().filter(|it| **it == Some(server)).count()
}

/// The server through which models are created. The others then have most tabs, even if there are only few tabs.
fn with_fewest_tabs(servers: usize, notes: &[Notes]) -> usize {
    let of_tabs = servers_of(notes);
    (1..=servers).min_by_key(|server| tabs_on(*server, &of_tabs)).unwrap_or(1)
}

/// Kills the server that has most tabs, except the one through which models are created. Blocks until every tab has
/// received a model that was created after the kill, or for at most 20 s.
fn kill_one(
    plan: &ComparePlan,
    servers: &mut SeveralServers<'_>,
    creator: usize,
    notes: &[Notes],
    interrupt: &Interrupt,
) -> Result<Kill, CompareError> {
    let url = servers.server(creator).url(MODELS);
    let create_every = plan.pace.produce_every / AROUND_KILL;
    let (created, is_over) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    let all = || created.lock().unwrap_or_else(PoisonError::into_inner);
    let kill = thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Acquire) {
                let model = create(&url, ANSWER_WITHIN);
                all().push(model);
                thread::sleep(create_every);
            }
        });
        let mut kill_and_wait = || -> Result<_, CompareError> {
            interrupt.sleep(plan.pace.produce_every)?;
            let (server, before) = watch(ARRIVE_WITHIN, interrupt, || victim(servers, creator, notes))?
                .unwrap_or_else(|| (creator % servers.all().len() + 1, servers_of(notes)));
            servers.kill(server)?;
            let at = SystemTime::now();
            if !servers.has_balancer() {
                interrupt.sleep(DOWN_FOR)?;
                servers.start_again(server)?;
            }
            watch(ARRIVE_WITHIN, interrupt, || {
                let later = all().iter().flatten().find(|model| model.answered > at).map(|model| model.id)?;
                notes.iter().all(|notes| notes.last().is_some_and(|seen| seen.id >= later)).then_some(())
            })?;
            Ok((server, at, before))
        };
        let killed = kill_and_wait();
        is_over.store(true, Ordering::Release);
        killed
    });
    let (server, at, before) = kill?;
    let created = created.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Kill { server, at, is_started_again: !servers.has_balancer(), created, before })
}

/// The server that has most tabs, except the one through which models are created, and the servers of all tabs. `None`
/// if it has no tab at the moment.
fn victim(
    servers: &SeveralServers<'_>,
    creator: usize,
    notes: &[Notes],
) -> Option<(usize, Vec<Option<usize>>)> {
    let of_tabs = servers_of(notes);
    let others = (1..=servers.all().len()).filter(|server| *server != creator);
    let server = others.max_by_key(|server| tabs_on(*server, &of_tabs))?;
    (tabs_on(server, &of_tabs) > 0).then_some((server, of_tabs))
}

fn wait_for_all(notes: &[Notes], id: i64, interrupt: &Interrupt) -> Result<(), CompareError> {
    let all_have = || notes.iter().all(|notes| notes.last().is_some_and(|seen| seen.id >= id));
    watch(ARRIVE_WITHIN, interrupt, || all_have().then_some(())).map(drop)
}

fn ids(seen: &[Seen]) -> Vec<i64> {
    seen.iter().map(|seen| seen.id).collect()
}

/// Milliseconds from this moment to the arrival.
fn delay(from: SystemTime, seen: &Seen) -> Option<f64> {
    Some(millis(seen.at.duration_since(from).unwrap_or_default()))
}

/// From the answer to a create to the arrivals at tabs of other servers.
fn cross_delay<'a>(
    created: &[CreatedModel],
    creator: usize,
    arrivals: impl Iterator<Item = &'a Seen>,
) -> CrossDelay {
    let answered: HashMap<i64, SystemTime> = created.iter().map(|it| (it.id, it.answered)).collect();
    let of_others = arrivals.filter(|seen| seen.server.is_some_and(|server| server != creator));
    let delays: Vec<Option<f64>> =
        of_others.filter_map(|seen| Some(delay(*answered.get(&seen.id)?, seen))).collect();
    CrossDelay { max: worst(&delays), p50: spread(delays).p50 }
}

/// The first model that a tab of the killed server received again. Models that the server had sent before it was killed
/// may arrive afterwards.
fn first_again<'a>(kill: &Kill, got: &'a [Seen]) -> Option<&'a Seen> {
    let is_of_another = |seen: &Seen| kill.is_started_again || seen.server != Some(kill.server);
    got.iter().find(|seen| seen.at > kill.at && is_of_another(seen))
}

/// Which tabs moved, and which were undisturbed.
fn over_the_kill(kill: &Kill, got: &[Vec<Seen>]) -> SeveralFigures {
    let created_after = kill.created.iter().flatten().find(|model| model.answered > kill.at);
    let mut figures =
        SeveralFigures { moved_tabs: (!kill.is_started_again).then_some(0), ..SeveralFigures::default() };
    for (before, got) in kill.before.iter().zip(got) {
        if *before == Some(kill.server) {
            figures.tabs_of_killed_server += 1;
            if first_again(kill, got).is_some() {
                figures.returned_tabs += 1;
                // Without a restart, the model came from another server.
                figures.moved_tabs = figures.moved_tabs.map(|tabs| tabs + 1);
            }
        } else {
            let is_later = |seen: &Seen| created_after.is_some_and(|model| seen.id >= model.id);
            figures.tabs_of_other_servers += 1;
            figures.undisturbed_tabs += usize::from(got.iter().any(is_later));
        }
    }
    figures
}

/// Seconds until every tab of the killed server has received a model again.
fn blind(kill: &Kill, got: &[Vec<Seen>]) -> Option<f64> {
    let of_killed = kill.before.iter().zip(got).filter(|(before, _)| **before == Some(kill.server));
    let times: Vec<Option<f64>> =
        of_killed.map(|(_, got)| first_again(kill, got).and_then(|seen| delay(kill.at, seen))).collect();
    worst(&times).map(|ms| ms.round() / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(second)
    }

    fn seen(id: i64, second: u64, server: usize) -> Seen {
        Seen { id, at: at(second), server: Some(server) }
    }

    fn created(id: i64, second: u64) -> CreatedModel {
        CreatedModel { id, answered: at(second), after_commit_ms: 1.0 }
    }

    /// Server 2 is killed in second 10. Row 8 is the first that is created after that.
    fn kill(is_started_again: bool) -> Kill {
        let created = vec![Some(created(7, 9)), None, Some(created(8, 11)), Some(created(9, 12))];
        Kill {
            server: 2,
            at: at(10),
            is_started_again,
            created,
            before: vec![Some(2), Some(2), Some(1), Some(3)],
        }
    }

    #[test]
    fn only_a_row_from_another_server_shows_that_a_tab_has_moved() {
        let got = [
            // The killed server had sent row 7 before it was killed.
            vec![seen(6, 8, 2), seen(7, 11, 2), seen(8, 13, 1)],
            vec![seen(6, 8, 2), seen(7, 11, 2)],
            vec![seen(7, 9, 1), seen(8, 11, 1)],
            vec![seen(7, 9, 3)],
        ];
        let figures = over_the_kill(&kill(false), &got);
        assert_eq!(
            (figures.tabs_of_killed_server, figures.returned_tabs, figures.moved_tabs),
            (2, 1, Some(1))
        );
        assert_eq!((figures.tabs_of_other_servers, figures.undisturbed_tabs), (2, 1));
        assert_eq!((blind(&kill(false), &got), blind(&kill(false), &got[..1])), (None, Some(3.0)));
    }

    #[test]
    fn without_a_balancer_tabs_return_to_the_restarted_server() {
        let got = [
            vec![seen(7, 9, 2), seen(8, 14, 2)],
            vec![seen(7, 9, 2), seen(8, 12, 2)],
            Vec::new(),
            Vec::new(),
        ];
        let figures = over_the_kill(&kill(true), &got);
        assert_eq!((figures.tabs_of_killed_server, figures.returned_tabs, figures.moved_tabs), (2, 2, None));
        assert_eq!(blind(&kill(true), &got), Some(4.0));
    }

    #[test]
    fn only_arrivals_at_tabs_of_other_servers_count_as_cross_delays() {
        let created = [created(1, 10), created(2, 20)];
        let arrivals = [seen(1, 19, 1), seen(1, 12, 2), seen(2, 19, 3), seen(2, 23, 2), seen(5, 30, 2)];
        let delay = cross_delay(&created, 1, arrivals.iter());
        assert_eq!(delay, CrossDelay { p50: Some(2000.0), max: Some(3000.0) });
        assert_eq!(cross_delay(&created, 1, arrivals[..1].iter()), CrossDelay::default());
    }
}
