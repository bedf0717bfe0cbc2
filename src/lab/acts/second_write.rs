//! Act 2: one tab closes. Its thread is freed at the second write after the close, and takes the first request in
//! the queue.

use std::time::{Duration, Instant};

use super::{Played, count, nine_tabs};
use crate::lab::claim::Claims;
use crate::lab::stage::{ActError, JUDGED_AT, Plan, Stage, Theater, spoken};
use crate::lab::story::Story;

/// The front with which only a write can detect a close.
const HIDES_THE_SOCKET: &str = "tiny-http";
/// The measured value if the thread is still held when the act stops waiting for it.
const DID_NOT_COME_BACK: &str = "thread not freed";
/// The tab that closes, as in the measurement of the real Puma.
const LEAVER: usize = 3;

pub(super) fn title(_: &Plan) -> String {
    "One tab closes".to_owned()
}

pub(super) fn heading(_: &Plan) -> String {
    "one tab closes".to_owned()
}

fn leaver(plan: &Plan) -> usize {
    LEAVER.min(nine_tabs::shares(plan).0).max(1)
}

pub(super) fn expects(plan: &Plan) -> String {
    let (streaming, waiting) = nine_tabs::shares(plan);
    let then = if waiting > 0 {
        format!(", which takes tab {} from the queue", streaming + 1)
    } else {
        String::new()
    };
    format!(
        "The second write after the close fails with EPIPE, after about {}, and frees tab {}'s thread{then}.",
        spoken(plan.pace.update_rate * 2),
        leaver(plan),
    )
}

pub(super) fn play(theater: &mut Theater<'_>) -> Result<Played, ActError> {
    let plan = theater.plan;
    let (streaming, waiting) = nine_tabs::shares(plan);
    let mut claims = Claims::default();
    let leaver = leaver(plan);
    let caption = if waiting > 0 {
        format!("tab {leaver} closes, tab {} waits for a thread", streaming + 1)
    } else {
        format!("tab {leaver} closes")
    };
    let mut stage = Stage::serve(theater, &caption, &[])?;
    let bound = stage.two_writes();
    let limit = bound * JUDGED_AT;

    let mut tabs = stage.open_tabs(plan.tabs, "")?;
    let (tab, _) = tabs.remove(leaver - 1);
    // Right after an event, the whole sleep until the next write is still ahead.
    let before = tab.progress().events;
    stage.wait_until(limit, |_| (tab.progress().events > before).then_some(()))?;
    let port = tab.local_port();
    stage.close(&tab);
    let closed = Instant::now();
    // Every write is one event, so the received events are the writes before the close.
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
    let has_failed = matches!(end, StreamEnd::Failed { .. });
    claims.push("writes after the close until one failed", "2", &write, write == "2").says(if has_failed {
        format!("write {write} after the close failed")
    } else {
        "no write failed".to_owned()
    });
    claims.push("error of the failed write", "EPIPE", errno, errno == "EPIPE").says(if has_failed {
        format!("it failed with {errno}")
    } else {
        "no write failed".to_owned()
    });
    claims
        .push(
            "time from the close until the thread is freed",
            format!("about two updates, {}", spoken(bound)),
            thread.map_or(DID_NOT_COME_BACK.to_owned(), |_| spoken(back_after)),
            thread.is_some() && back_after < limit,
        )
        .says(match thread {
            Some(_) => format!("thread freed {} after the close", spoken(back_after)),
            None => "thread not freed".to_owned(),
        });

    let mut taken = String::new();
    if waiting > 0 {
        // The closed tab is out of the list, so the first tab in the queue has moved up by one.
        let (ninth, _) = &tabs[streaming - 1];
        let name = format!("tab {}", streaming + 1);
        stage.wait_until(limit, |_| ninth.first_byte())?;
        let first_byte = closed.elapsed();
        let by = stage.story_of(ninth.local_port()).and_then(|story| story.started).map(|(_, thread)| thread);
        let measured = by.map_or("none".to_owned(), |by| format!("tp {by:03}"));
        let expected = thread.map_or("a thread".to_owned(), |thread| format!("tp {thread:03}"));
        claims
            .push(format!("the thread that took {name}"), &expected, &measured, by.is_some() && by == thread)
            .says(match by {
                Some(by) if Some(by) == thread => format!("the freed thread, {measured}, took {name}"),
                Some(_) => format!("{measured} took {name}"),
                None => format!("no thread took {name}"),
            });
        let came = ninth.first_byte().is_some();
        claims
            .push(
                format!("first byte of {name}, after the close"),
                format!("about two updates, {}", spoken(bound)),
                if came { spoken(first_byte) } else { "none".to_owned() },
                came && first_byte < limit,
            )
            .says(if came {
                format!("first byte of {name} after {}", spoken(first_byte))
            } else {
                format!("{name} received nothing")
            });
        if by.is_some() {
            taken = format!("{measured} then took {name}.");
            // Wait for another event, so that the picture shows the tab streaming.
            let first = ninth.progress().events;
            stage.wait_until(limit, |_| (ninth.progress().events > first).then_some(()))?;
        }
    }
    for (tab, _) in &tabs {
        stage.close(tab);
    }
    let all_closed = Instant::now();
    let most = plan.most_threads() as u64;
    // The server must first notice that the clients in the queue have closed as well.
    let capacity = stage.wait_for_stat("/pool_capacity", most, limit)?;
    claims
        .equal("pool_capacity after all tabs closed", most, capacity)
        .says(format!("pool_capacity {capacity} after all tabs closed"));
    let free_after = spoken(all_closed.elapsed());
    stage.finish_picture(plan.most_threads());
    drop(tabs);
    let conclusion = conclusion(leaver, &end, back_after);
    if plan.front == HIDES_THE_SOCKET {
        stage.say(&format!(
            "(There is no second picture: {HIDES_THE_SOCKET} hides the socket, so only a write can detect the close. The \
             pool was free {free_after} after the last close.)"
        ));
    } else {
        drop(stage);
        by_poll(theater, &mut claims, back_after)?;
    }

    Ok(Played { claims, why: why(&end, back_after, &taken), conclusion, main: 0 })
}

fn conclusion(leaver: usize, end: &StreamEnd, after: Duration) -> String {
    let after = spoken(after);
    match end {
        StreamEnd::Failed { write: 2, .. } => {
            format!("tab {leaver}'s thread was freed {after} after the close, at the second write")
        }
        StreamEnd::Failed { write, .. } => {
            format!("tab {leaver}'s thread was freed {after} after the close, at write {write}")
        }
        StreamEnd::Otherwise => {
            format!("tab {leaver}'s thread was freed {after} after the close, without a failed write")
        }
        StreamEnd::Never => format!("tab {leaver}'s thread was not freed within {after}"),
    }
}

/// How the stream of the closed client ended.
enum StreamEnd {
    /// By a failed write: its number after the close, and its error.
    Failed {
        write: u64,
        errno: String,
    },
    Otherwise,
    /// It did not end before the act stopped waiting.
    Never,
}

fn why(end: &StreamEnd, after: Duration, taken: &str) -> String {
    let after = spoken(after);
    let why = match end {
        StreamEnd::Failed { write: 2, errno } => format!(
            "The kernel accepted the first write after the close. The client's kernel sent RST, which does not wake \
             the loop. The second write failed with {errno} and ended the loop after {after}."
        ),
        StreamEnd::Failed { write, errno } => format!(
            "Write {write} after the close failed with {errno} and ended the loop after {after}. Nothing else wakes a \
             sleeping loop."
        ),
        StreamEnd::Otherwise => format!("The loop ended {after} after the close, without a failed write."),
        StreamEnd::Never => {
            format!("No write failed within {after}, so the loop continued and its thread was not freed.")
        }
    };
    if taken.is_empty() { why } else { format!("{why} {taken}") }
}

/// The same close, on a server whose streams watch their sockets while they sleep.
fn by_poll(theater: &mut Theater<'_>, claims: &mut Claims, by_write: Duration) -> Result<(), ActError> {
    let flags = [("--notice-close", "poll".to_owned())];
    let mut stage = Stage::serve(theater, "with --notice-close poll: × is the close", &flags)?;
    let limit = stage.two_writes() * JUDGED_AT;
    let (tab, _) = stage.open_tab(1, "")?;
    let before = tab.progress().events;
    stage.wait_until(limit, |_| (tab.progress().events > before).then_some(()))?;
    let port = tab.local_port();
    let clock_us = stage.clock_us();
    stage.close(&tab);
    let received = tab.progress().events as usize;
    let gone = stage.wait_until(limit, |stage| stage.story_of(port).filter(|story| story.gone.is_some()))?;
    let writes = gone.as_ref().map_or(0, |story| story.writes_us.len().saturating_sub(received));
    // Measured on the server's own clock.
    let ended_us = gone.and_then(|story| story.finished_us.or(story.gone.map(|gone| gone.at_us)));
    let after = ended_us.map(|at_us| Duration::from_micros(at_us.saturating_sub(clock_us)));
    claims
        .push(
            "with --notice-close poll: writes after the close until the thread is freed",
            "0",
            after.map_or(DID_NOT_COME_BACK.to_owned(), |_| writes.to_string()),
            after.is_some() && writes == 0,
        )
        .says(match (after, writes) {
            (None, _) => "with poll: thread not freed".to_owned(),
            (Some(_), 0) => "with poll: no write after the close".to_owned(),
            (Some(_), writes) => format!("with poll: {} after the close", count(writes, "write")),
        });
    claims
        .push(
            "with --notice-close poll: time from the close until the thread is freed",
            format!("sooner than by a failed write, {}", spoken(by_write)),
            after.map_or(DID_NOT_COME_BACK.to_owned(), spoken),
            after.is_some_and(|after| after < by_write),
        )
        .says(match after {
            Some(after) => format!("with poll: thread freed after {}", spoken(after)),
            None => "with poll: thread not freed".to_owned(),
        });
    stage.finish_picture(1);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_names_the_write_that_failed() {
        let said = |end| why(&end, Duration::from_secs(4), "tp 007 then took tab 9.");
        let failed = |write| said(StreamEnd::Failed { write, errno: "EPIPE".to_owned() });
        assert!(failed(2).contains("The second write failed with EPIPE and ended the loop after 4.0 s."));
        assert!(failed(1).starts_with("Write 1 after the close failed with EPIPE"));
        assert!(said(StreamEnd::Otherwise).contains("without a failed write"));
        assert!(said(StreamEnd::Never).starts_with("No write failed within 4.0 s"));
        assert!([failed(1), failed(2)].iter().all(|said| said.contains("tp 007 then took tab 9")));
    }
}
