//! Act 4: clients that stay and never read. All threads are held by nobody, and
//! no write ever fails. Then the two that the seed names: curl and ab.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::{Played, Theatre, answered, count};
use crate::lab::claim::Claims;
use crate::lab::stage::{ATTEMPTS, ActError, JUDGED_AT, Plan, Stage, UNREAD_AFTER, spoken};
use crate::lab::story::Story;
use crate::lab::visitors::{self, VisitError, Visitor};
use crate::lab::zombies::Zombie;

pub(super) fn title(plan: &Plan) -> String {
    format!("Zombies: {} held by nobody", count(plan.most_threads(), "thread"))
}

pub(super) fn expects(plan: &Plan) -> String {
    format!(
        "{} that never read hold all {}: every write into their buffers succeeds, none is noticed, a page gets no byte. \
         A killed curl is noticed at the second write, and ab leaves nothing behind either.",
        count(plan.most_threads(), "client"),
        count(plan.most_threads(), "thread"),
    )
}

pub(super) fn play(theatre: &mut Theatre<'_>) -> Result<Played, ActError> {
    let plan = theatre.plan;
    let threads = plan.most_threads();
    let mut claims = Claims::default();
    let caption = format!("{} that never read:", count(threads, "client"));
    let mut stage = theatre.serve(&caption, &[])?;
    let limit = stage.two_writes() * JUDGED_AT;

    let zombies = raise(&mut stage, threads)?;
    claims.equal("threads that they hold", threads, stage.record(|record| record.open_streams()));
    let patience = stage.a_while();
    let page = stage.page("/up", patience)?;
    let what = format!("GET /up, for the {} that we watched", spoken(patience));
    claims.push(what, "no byte", answered(page), page.is_none());
    let (writes, failed) = stage.record(|record| {
        let streams = || record.stories.values().filter(|story| story.is_stream);
        (
            streams().map(|story| story.writes_us.len()).sum::<usize>(),
            streams().filter(|it| it.gone.is_some()).count(),
        )
    });
    claims.push(
        "writes to them that failed",
        "0",
        format!("{failed} of {}", writes + failed),
        failed == 0 && writes > threads,
    );
    claims.equal("threads that they hold after that", threads, stage.record(|record| record.open_streams()));
    stage.settle_lanes();
    let record = stage.recorded();
    stage.caption("The same server: they are killed, then curl and ab come:");
    drop(zombies);
    let capacity = stage.wait_for_stat("/pool_capacity", threads as u64, limit)?;
    claims.equal("pool_capacity once they are killed", threads as u64, capacity);

    let met = stage.record(|record| {
        let gone = record.stories.values().filter_map(|story| story.gone.as_ref());
        gone.map(|gone| gone.error.clone()).collect::<BTreeSet<_>>()
    });
    let met = met.into_iter().collect::<Vec<_>>().join(" or ");

    curl(&mut stage, &mut claims, limit)?;
    ab(&mut stage, &mut claims, limit)?;
    stage.settle_lanes();

    let why = format!(
        "Threads puma srv tp 001 to {threads:03} wrote {writes} times to sockets that nobody read, and each write succeeded, since \
         the kernels of both sides have room for megabytes. When their sockets were closed, data unread, the next write met {met}.",
    );
    Ok(Played { claims, why, record })
}

/// Opens as many zombies as there are threads, one after the other, each when the
/// one before holds its thread.
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
            // tiny_http has stranded it: it holds nothing, and stays with the others.
        }
    }
    Ok(zombies)
}

/// A curl that is killed in the middle of a stream.
fn curl(stage: &mut Stage<'_>, claims: &mut Claims, limit: Duration) -> Result<(), ActError> {
    let url = stage.url("/models/live_stream?tab=curl");
    let Some(visitor) = sent(stage, visitors::curl(&url, limit * 2)) else { return Ok(()) };
    let story = |stage: &mut Stage<'_>| {
        stage.record(|record| record.stories.values().find(|story| story.name() == "curl").cloned())
    };
    // Right after its second write there is a whole sleep until the third.
    stage.wait_until(limit, |stage| story(stage).filter(|story| story.writes_us.len() >= 2))?;
    let before = story(stage).map_or(0, |story| story.writes_us.len() as u64);
    let killed = visitor.leave();
    if let Err(error) = killed {
        stage.say(&format!("({error})"));
    }
    let gone = stage.wait_until(limit, |stage| story(stage)?.gone)?;
    let write = gone.map_or(0, |gone| gone.write.saturating_sub(before));
    claims.push("a killed curl: writes until one failed", "2", write.to_string(), write == 2);
    Ok(())
}

/// ab, which speaks HTTP/1.0 and waits for an end that never comes.
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
    if let Err(error) = visitor.leave() {
        stage.say(&format!("({error})"));
    }
    let began = Instant::now();
    let capacity = stage.wait_for_stat("/pool_capacity", threads as u64, limit)?;
    claims.push(
        format!("ab, stopped with {}: pool_capacity afterwards", count(opened, "stream")),
        threads.to_string(),
        format!("{capacity}, after {}", spoken(began.elapsed())),
        capacity == threads as u64,
    );
    Ok(())
}

fn sent(stage: &mut Stage<'_>, visitor: Result<Visitor, VisitError>) -> Option<Visitor> {
    visitor.inspect_err(|error| stage.say(&format!("({error})"))).ok()
}
