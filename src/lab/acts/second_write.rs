//! Act 2: one tab leaves. Its thread comes back at the second write after the
//! close, and goes to whoever is first in todo.

use std::time::{Duration, Instant};

use super::{Played, Theatre, nine_tabs};
use crate::lab::claim::Claims;
use crate::lab::stage::{ActError, JUDGED_AT, Plan, spoken};
use crate::lab::story::Story;

/// The front door behind which a close can only be noticed by a write.
const HIDES_THE_SOCKET: &str = "tiny-http";
/// What is measured of a thread that is still held when nobody waits for it any more.
const DID_NOT_COME_BACK: &str = "it did not come back";
/// The tab that leaves, as in the measurement of the real Puma.
const LEAVER: usize = 3;

pub(super) fn title(_: &Plan) -> String {
    "One tab leaves".to_owned()
}

fn leaver(plan: &Plan) -> usize {
    LEAVER.min(nine_tabs::shares(plan).0).max(1)
}

pub(super) fn expects(plan: &Plan) -> String {
    let (streaming, waiting) = nine_tabs::shares(plan);
    let then = if waiting > 0 {
        format!("tab {}, the first in todo, gets it", streaming + 1)
    } else {
        "nobody waits for it".to_owned()
    };
    format!(
        "The thread of tab {} comes back at the second write after the close, by EPIPE, which is in about {}; {then}. \
         When all have left, pool_capacity is {} again.",
        leaver(plan),
        spoken(plan.pace.update_rate * 2),
        plan.most_threads(),
    )
}

pub(super) fn play(theatre: &mut Theatre<'_>) -> Result<Played, ActError> {
    let plan = theatre.plan;
    let (streaming, waiting) = nine_tabs::shares(plan);
    let mut claims = Claims::default();
    let leaver_takes = if waiting > 0 {
        format!("Tab {} closes, and tab {} waits for its thread:", leaver(plan), streaming + 1)
    } else {
        format!("Tab {} closes:", leaver(plan))
    };
    let mut stage = theatre.serve(&leaver_takes, &[])?;
    let bound = stage.two_writes();
    let limit = bound * JUDGED_AT;

    let mut tabs = stage.open_tabs(plan.tabs, "")?;
    let (tab, _) = tabs.remove(leaver(plan) - 1);
    // Closing right after an event leaves the whole sleep until the next write.
    let before = tab.progress().events;
    stage.wait_until(limit, |_| (tab.progress().events > before).then_some(()))?;
    let port = tab.local_port();
    tab.close();
    let closed = Instant::now();
    // Every write is one event, so that the events received count the writes before.
    let received = tab.progress().events;

    let ended =
        stage.wait_until(limit, |stage| stage.story_of(port).filter(|story| story.finished_us.is_some()))?;
    let back_after = closed.elapsed();
    let thread = ended.as_ref().and_then(|story| story.started).map(|(_, thread)| thread);
    let end = match ended {
        Some(Story { gone: Some(gone), .. }) => {
            StreamEnd::Failed { write: gone.write.saturating_sub(received), errno: gone.error }
        }
        Some(_) => StreamEnd::Otherwise,
        None => StreamEnd::Never,
    };
    let (write, errno) = match &end {
        StreamEnd::Failed { write, errno } => (write.to_string(), errno.as_str()),
        StreamEnd::Otherwise | StreamEnd::Never => ("none failed".to_owned(), "no write failed"),
    };
    claims.push("writes after the close until one failed", "2", &write, write == "2");
    claims.push("what that write met", "EPIPE", errno, errno == "EPIPE");
    claims.push(
        "from the close to the thread's return",
        format!("in about two updates, {}", spoken(bound)),
        thread.map_or(DID_NOT_COME_BACK.to_owned(), |_| spoken(back_after)),
        thread.is_some() && back_after < limit,
    );

    let mut taken = String::new();
    if waiting > 0 {
        // The leaver is out of the list: the first of todo has moved up by one.
        let (ninth, _) = &tabs[streaming - 1];
        let name = format!("tab {}", streaming + 1);
        stage.wait_until(limit, |_| ninth.first_byte())?;
        let first_byte = closed.elapsed();
        let by = stage.story_of(ninth.local_port()).and_then(|story| story.started).map(|(_, thread)| thread);
        let measured = by.map_or("nobody".to_owned(), |by| format!("tp {by:03}"));
        let expected = thread.map_or("a thread".to_owned(), |thread| format!("tp {thread:03}"));
        claims.push(
            format!("the thread that took {name}"),
            &expected,
            &measured,
            by.is_some() && by == thread,
        );
        let came = ninth.first_byte().is_some();
        claims.push(
            format!("first byte of {name}, after the close"),
            format!("in about two updates, {}", spoken(bound)),
            if came { spoken(first_byte) } else { "no byte".to_owned() },
            came && first_byte < limit,
        );
        if by.is_some() {
            taken = format!("; {measured} took {name} out of todo");
        }
    }
    for (tab, _) in &tabs {
        tab.close();
    }
    let all_closed = Instant::now();
    let most = plan.most_threads() as u64;
    // Streams that were in todo when their client left must first find that out.
    let capacity = stage.wait_for_stat("/pool_capacity", most, limit)?;
    claims.equal("pool_capacity after all have left", most, capacity);
    let free_after = spoken(all_closed.elapsed());
    stage.settle_lanes();
    let record = stage.recorded();
    drop(tabs);
    if plan.front == HIDES_THE_SOCKET {
        stage.say(&format!(
            "(write against poll: on {HIDES_THE_SOCKET} the socket is hidden, so that only a write can notice; the pool was free {free_after} after the last close)"
        ));
    } else {
        drop(stage);
        by_poll(theatre, &mut claims, back_after)?;
    }

    Ok(Played { claims, why: why(&end, back_after, &taken), record })
}

/// How the stream ended whose client had closed.
enum StreamEnd {
    /// By a write that failed: its number after the close, and what it met.
    Failed {
        write: u64,
        errno: String,
    },
    Otherwise,
    /// Not as long as it was waited for.
    Never,
}

fn why(end: &StreamEnd, after: Duration, taken: &str) -> String {
    let after = spoken(after);
    match end {
        StreamEnd::Failed { write: 2, errno } => format!(
            "The kernel accepted the first write after the close, and the client's side answered it with RST; nothing \
             wakes a loop that sleeps. The second write failed with {errno}, which ended the loop {after} after the \
             close{taken}."
        ),
        StreamEnd::Failed { write, errno } => format!(
            "Write {write} after the close failed with {errno}, which ended the loop {after} after the close{taken}. \
             Nothing else wakes a loop that sleeps."
        ),
        StreamEnd::Otherwise => {
            format!(
                "The loop ended {after} after the close, and no write had told it that its client was gone{taken}."
            )
        }
        StreamEnd::Never => format!(
            "No write failed in the {after} that we waited, so the loop went on, and its thread did not come back{taken}."
        ),
    }
}

/// The same close, on a server whose streams listen to their sockets while they sleep.
fn by_poll(theatre: &mut Theatre<'_>, claims: &mut Claims, by_write: Duration) -> Result<(), ActError> {
    let mut stage = theatre.serve(
        "One tab, and the same close with --notice-close poll:",
        &[("--notice-close", "poll".to_owned())],
    )?;
    let limit = stage.two_writes() * JUDGED_AT;
    let (tab, _) = stage.open_tab(1, "")?;
    let before = tab.progress().events;
    stage.wait_until(limit, |_| (tab.progress().events > before).then_some(()))?;
    let port = tab.local_port();
    let clock_us = stage.record(|record| record.now_us);
    tab.close();
    let received = tab.progress().events as usize;
    let gone = stage.wait_until(limit, |stage| stage.story_of(port).filter(|story| story.gone.is_some()))?;
    let writes = gone.as_ref().map_or(0, |story| story.writes_us.len().saturating_sub(received));
    // On the server's own clock: the last write before the close was the last that came.
    let ended_us = gone.and_then(|story| story.finished_us.or(story.gone.map(|gone| gone.at_us)));
    let after = ended_us.map(|at_us| Duration::from_micros(at_us.saturating_sub(clock_us)));
    claims.push(
        "with --notice-close poll: writes after the close until the thread was back",
        "0",
        after.map_or(DID_NOT_COME_BACK.to_owned(), |_| writes.to_string()),
        after.is_some() && writes == 0,
    );
    claims.push(
        "with --notice-close poll: from the close to the thread's return",
        format!("at once; by write it took {}", spoken(by_write)),
        after.map_or(DID_NOT_COME_BACK.to_owned(), spoken),
        after.is_some_and(|after| after < by_write),
    );
    stage.settle_lanes();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_explained_is_what_was_seen() {
        let said = |end| why(&end, Duration::from_secs(4), "; tp 007 took tab 9 out of todo");
        let failed = |write| said(StreamEnd::Failed { write, errno: "EPIPE".to_owned() });
        assert!(failed(2).contains("The second write failed with EPIPE, which ended the loop 4.0 s after"));
        assert!(failed(1).starts_with("Write 1 after the close failed with EPIPE"));
        assert!(said(StreamEnd::Otherwise).contains("no write had told it"));
        assert!(said(StreamEnd::Never).starts_with("No write failed in the 4.0 s"));
        assert!([failed(1), failed(2)].iter().all(|said| said.contains("tp 007 took tab 9")));
    }
}
