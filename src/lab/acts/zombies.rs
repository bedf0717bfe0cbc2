//! Act 4: zombies, clients that stay connected and never read. They hold all threads, and no write to them fails.
//! Then the two clients that the article names: curl and ab.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::{Played, answered, count, spelled};
use crate::lab::claim::Claims;
use crate::lab::stage::{ATTEMPTS, ActError, JUDGED_AT, Plan, Stage, Theater, UNREAD_AFTER, spoken};
use crate::lab::story::Story;
use crate::lab::visitors::{self, VisitError, Visitor};
use crate::lab::zombies::Zombie;

pub(super) fn title(plan: &Plan) -> String {
    format!("Zombies: {} held by clients that never read", count(plan.most_threads(), "thread"))
}

pub(super) fn heading(plan: &Plan) -> String {
    let threads = plan.most_threads();
    let verb = if threads == 1 { "holds" } else { "hold" };
    format!("{} {verb} {}", spelled(threads, "zombie"), spelled(threads, "thread"))
}

pub(super) fn expects(plan: &Plan) -> String {
    let threads = plan.most_threads();
    format!(
        "{} (connected clients that never read) hold all {}. No write to them fails, and a page gets no response. \
         After curl or ab has closed, the second write fails.",
        count(threads, "zombie"),
        count(threads, "thread"),
    )
}

pub(super) fn play(theater: &mut Theater<'_>) -> Result<Played, ActError> {
    let plan = theater.plan;
    let threads = plan.most_threads();
    let mut claims = Claims::default();
    let caption = format!("{}, then GET /up", count(threads, "zombie"));
    let mut stage = Stage::serve(theater, &caption, &[])?;
    let limit = stage.two_writes() * JUDGED_AT;

    let zombies = raise(&mut stage, threads)?;
    let held = stage.record(|record| record.open_streams());
    claims
        .equal("threads that the zombies hold", threads, held)
        .says(format!("zombies hold {held} of {}", count(threads, "thread")));
    let patience = stage.a_while();
    let page = stage.page("/up", patience)?;
    let what = format!("GET /up, watched for {}", spoken(patience));
    claims.push(what, "no response", answered(page), page.is_none()).says(match page {
        None => format!("GET /up: no response within {}", spoken(patience)),
        Some((status, _)) => format!("GET /up: {status}"),
    });
    let (writes, failed) = stage.record(|record| {
        let streams = || record.stories.values().filter(|story| story.is_stream);
        (
            streams().map(|story| story.writes_us.len()).sum::<usize>(),
            streams().filter(|it| it.gone.is_some()).count(),
        )
    });
    claims
        .push(
            "failed writes to the zombies",
            "0",
            format!("{failed} of {}", writes + failed),
            failed == 0 && writes > threads,
        )
        .says(format!("{failed} of {} to them failed", count(writes + failed, "write")));
    let held = stage.record(|record| record.open_streams());
    claims
        .equal("threads that the zombies hold after these writes", threads, held)
        .says(format!("after that they hold {held} of {}", count(threads, "thread")));
    stage.finish_picture(3);
    stage.next_picture("the zombies are killed, then curl and ab connect");
    let ports: Vec<u16> = zombies.iter().map(Zombie::local_port).collect();
    drop(zombies);
    ports.into_iter().for_each(|port| stage.client_closed(Some(port)));
    let capacity = stage.wait_for_stat("/pool_capacity", threads as u64, limit)?;
    claims
        .equal("pool_capacity after the zombies are killed", threads as u64, capacity)
        .says(format!("pool_capacity {capacity} after they are killed"));

    let met = stage.record(|record| {
        let gone = record.stories.values().filter_map(|story| story.gone.as_ref());
        gone.map(|gone| gone.error.clone()).collect::<BTreeSet<_>>()
    });
    let met = met.into_iter().collect::<Vec<_>>().join(" or ");

    curl(&mut stage, &mut claims, limit)?;
    ab(&mut stage, &mut claims, limit)?;
    stage.finish_picture(5);

    let why = format!(
        "All {} to unread sockets succeeded, because the kernels on both sides buffer megabytes. After the zombies \
         were killed with unread data, the next write to each failed with {met}.",
        count(writes, "write"),
    );
    let conclusion = format!(
        "{} held {}, and {failed} of {writes} writes failed",
        spelled(threads, "zombie"),
        count(held, "thread")
    );
    Ok(Played { claims, why, conclusion, main: 0 })
}

/// Opens this many zombies, each once the previous one holds a thread.
pub(super) fn raise(stage: &mut Stage<'_>, count: usize) -> Result<Vec<Zombie>, ActError> {
    let mut zombies = Vec::new();
    for number in 1..=count {
        let url = stage.url(&format!("/models/live_stream?tab=zombie-{number}"));
        for _ in 0..ATTEMPTS {
            let zombie = Zombie::open(&url)?;
            let port = Some(zombie.local_port());
            zombies.push(zombie);
            let held = stage
                .wait_until(UNREAD_AFTER, |stage| stage.story_of(port).filter(|story| story.is_stream))?;
            if held.is_some() {
                break;
            }
            // tiny_http sometimes never reads a connection. This zombie stays open without a thread.
        }
    }
    Ok(zombies)
}

/// Runs curl, and kills it during its stream.
fn curl(stage: &mut Stage<'_>, claims: &mut Claims, limit: Duration) -> Result<(), ActError> {
    let url = stage.url("/models/live_stream?tab=curl");
    let Some(visitor) = sent(stage, visitors::curl(&url, limit * 2)) else { return Ok(()) };
    let story = |stage: &mut Stage<'_>| {
        stage.record(|record| record.stories.values().find(|story| story.name() == "curl").cloned())
    };
    // Right after its second write, the thread has its whole sleep before it. If curl were killed with an event unread,
    // the kernel would send a reset, and the first write would fail.
    stage.wait_until(limit, |stage| {
        let writes = story(stage)?.writes_us.len();
        (writes >= 2 && visitor.events() >= writes).then_some(())
    })?;
    let port = story(stage).map(|story| story.port);
    let from_us = stage.clock_us();
    let killed = visitor.leave();
    // The estimate of the server's clock may jump back when a new answer arrives.
    let until_us = stage.clock_us().max(from_us);
    stage.client_closed(port);
    if let Err(error) = killed {
        stage.say(&format!("({error})"));
    }
    let ended = stage.wait_until(limit, |stage| story(stage).filter(|story| story.gone.is_some()))?;
    let write = ended.as_ref().map_or(0, |story| failed_write(story, from_us, until_us));
    claims.push("a killed curl: writes until one failed", "2", write.to_string(), write == 2).says(
        if write == 0 {
            "killed curl: no write failed".into()
        } else {
            format!("killed curl: write {write} failed")
        },
    );
    Ok(())
}

/// The number of the failed write, counted from a close that happened between these two times. A write between them
/// may have come before or after the close. If 2 is one of the possible numbers, returns 2.
fn failed_write(story: &Story, from_us: u64, until_us: u64) -> u64 {
    let failed = story.gone.as_ref().map_or(0, |gone| gone.write);
    let since =
        |us: u64| failed.saturating_sub(story.writes_us.iter().filter(|at_us| **at_us <= us).count() as u64);
    2.clamp(since(until_us), since(from_us))
}

/// Runs ab, which speaks HTTP/1.0 and waits for the end of an endless answer, and stops it.
fn ab(stage: &mut Stage<'_>, claims: &mut Claims, limit: Duration) -> Result<(), ActError> {
    let threads = stage.plan.most_threads();
    let url = stage.url("/models/live_stream?tab=ab");
    let Some(visitor) = sent(stage, visitors::ab(&url, threads, threads.min(4), limit)) else {
        return Ok(());
    };
    let streams = |record: &crate::lab::record::Record| {
        record.stories.values().filter(|story: &&Story| story.is_stream && story.name() == "ab").count()
    };
    stage.wait_until(limit, |stage| (stage.record(streams) > 0).then_some(()))?;
    let opened = stage.record(streams);
    let ports: Vec<u16> = stage.record(|record| {
        let running = record.stories.values().filter(|story| story.is_running() && story.name() == "ab");
        running.map(|story| story.port).collect()
    });
    if let Err(error) = visitor.leave() {
        stage.say(&format!("({error})"));
    }
    ports.into_iter().for_each(|port| stage.client_closed(Some(port)));
    let began = Instant::now();
    let capacity = stage.wait_for_stat("/pool_capacity", threads as u64, limit)?;
    let after = spoken(began.elapsed());
    claims
        .push(
            format!("ab, stopped with {}: pool_capacity afterwards", count(opened, "stream")),
            threads.to_string(),
            format!("{capacity}, after {after}"),
            capacity == threads as u64,
        )
        .says(format!(
            "ab, stopped with {}: pool_capacity {capacity} after {after}",
            count(opened, "stream")
        ));
    Ok(())
}

fn sent(stage: &mut Stage<'_>, visitor: Result<Visitor, VisitError>) -> Option<Visitor> {
    visitor.inspect_err(|error| stage.say(&format!("({error})"))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ninetabs_server::timeline::FailedWrite;

    #[test]
    fn a_write_during_the_close_is_counted_before_it_or_after_it() {
        let failed = |write: u64, from_us, until_us| {
            let gone = FailedWrite { at_us: 900, write, error: "EPIPE".to_owned() };
            let writes_us = (1..write).map(|number| number * 100).collect();
            failed_write(&Story { writes_us, gone: Some(gone), ..Story::default() }, from_us, until_us)
        };
        // Two writes before the close, then one that succeeds and one that fails.
        assert_eq!(failed(4, 210, 220), 2);
        // The third write happened during the close.
        assert_eq!(failed(4, 210, 320), 2);
        assert_eq!(failed(5, 210, 320), 2);
        assert_eq!(failed(5, 210, 220), 3);
        assert_eq!(failed(3, 210, 220), 1);
    }
}
