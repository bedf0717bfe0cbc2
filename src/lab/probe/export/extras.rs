//! The optional experiments as lines: `--zombies`, `--http2`, `--http10`.

use super::super::measured::{Http2, Http2Stop, Http10, Measured, Zombies};
use super::layout::FactRow;
use super::words::{after, clean, count, time};

/// The rows of the experiments that have a result.
pub fn rows(measured: &Measured) -> Vec<FactRow> {
    let zombies = measured.zombies.as_ref().map(zombies);
    let http2 = measured.http2.as_ref().map(http2);
    let http10 = measured.http10.as_ref().map(http10);
    [zombies, http2, http10].into_iter().flatten().collect()
}

fn zombies(found: &Zombies) -> FactRow {
    if found.n == 0 {
        return FactRow::fact("zombies", "not measured: no stream delivered an event to stop reading after");
    }
    let watched = time(found.watched);
    let mut text =
        format!("beside them: a tab {}, a page {}", after(found.tab, &watched), after(found.page, &watched));
    if let Some(unsent) = found.unsent {
        text += &format!("; {} unsent", count(usize::try_from(unsent).unwrap_or(usize::MAX), "byte"));
    }
    FactRow::fact(count(found.n, "zombie"), text)
}

fn http2(found: &Http2) -> FactRow {
    if let Some(error) = &found.error {
        return FactRow::fact("HTTP/2", format!("not measured: {}", clean(error)));
    }
    let mut parts = vec![count(found.reached, "stream") + " on one connection"];
    parts.push(match found.announced {
        Some(announced) => format!("{announced} announced"),
        None => "no limit announced".to_owned(),
    });
    parts.extend(found.stopped_by.map(|stop| match stop {
        Http2Stop::Settings => "the next is beyond the announced limit".to_owned(),
        Http2Stop::RefusedStream => "the next is refused".to_owned(),
        Http2Stop::Waits => "the next waits".to_owned(),
        Http2Stop::Reset => "the next ends or is reset".to_owned(),
    }));
    let answers =
        |yes: bool, what: &str, one: &str, other: &str| format!("{what} {}", if yes { one } else { other });
    parts.extend(found.page.map(|yes| answers(yes, "a page on it", "answers", "stops")));
    parts.extend(
        found.second_connection.map(|yes| answers(yes, "a second connection", "streams", "does not stream")),
    );
    parts.extend(
        found.after_cancel.map(|yes| answers(yes, "after a cancel a stream", "runs", "does not run")),
    );
    FactRow::fact("HTTP/2", parts.join(", "))
}

fn http10(found: &Http10) -> FactRow {
    let mut text = match (found.flowed, found.ended) {
        (false, _) => "no event".to_owned(),
        (true, None) => "a stream delivers events".to_owned(),
        (true, Some(after)) => {
            format!("an event arrives, and the server ends the stream after {}", time(after))
        }
    };
    if let Some(streams) = found.streams_after {
        text += &format!("; afterwards, {} at the same time", count(streams, "stream"));
    }
    FactRow::fact("HTTP/1.0", text)
}
