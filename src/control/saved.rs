//! A window of the record as a file: `GET /report` is an HTML page that needs nothing else, `GET /trace` a trace for
//! Perfetto. Both are drawn by the code that draws those of `reproduce` and `serve --trace`.
//!
//! Their size is bounded by that of the record. They are made on a thread of their own (see [`super::aside`]).

use std::io::{self, Write};
use std::process;
use std::time::{Duration, SystemTime};

use http::StatusCode;

use super::aside::AsideAnswer;
use super::orders::{Given, SavedFile, Wrong, unprocessable};
use super::view::View;
use crate::front::AppServer;
use crate::lab::record::Record;
use crate::lab::report::window::WindowReport;
use crate::lab::trace::{Encoder, TraceProcess};
use crate::timestamp;
use ninetabs_server::Response;
use ninetabs_server::log_limit::limited;
use ninetabs_server::timeline::Stretch;

/// The window, if none is given.
const LAST: Duration = Duration::from_secs(60);
/// Allows the page its own style and nothing else, in case a browser shows the page instead of saving it.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";

/// A window of the record, in microseconds on the timeline's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SavedWindow {
    from_us: u64,
    to_us: u64,
    now_us: u64,
}

impl SavedWindow {
    /// The last seconds before now, or from one time to another. Times are seconds since the server's start, as in the
    /// log of the dashboard. A window does not end after now.
    pub fn of(given: &Given, now_us: u64) -> Result<SavedWindow, Wrong> {
        if given.has("last") && (given.has("from") || given.has("to")) {
            return Err(unprocessable("last: give last alone, or from and to".to_owned()));
        }
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let to_us = given.seconds("to").map_or(now_us, |to| micros(to).min(now_us));
        let last_us = micros(given.seconds("last").unwrap_or(LAST));
        let from_us = given.seconds("from").map_or(to_us.saturating_sub(last_us), micros);
        if from_us < to_us {
            return Ok(SavedWindow { from_us, to_us, now_us });
        }
        Err(unprocessable(match given.has("from") && to_us > 0 {
            true => {
                format!("from: give a number of seconds below {}, where the window ends", to_us as f64 / 1e6)
            }
            false => "to: give a number of seconds above 0".to_owned(),
        }))
    }

    /// The end by the system's clock.
    fn until(&self) -> SystemTime {
        SystemTime::now() - Duration::from_micros(self.now_us - self.to_us)
    }
}

/// The header fields of a file to be saved.
pub(super) fn with_head(response: Response, file: SavedFile, window: &SavedWindow) -> Response {
    // Digits only, so that the name is valid on every system.
    let stamp: String =
        timestamp::seconds(window.until()).to_string().chars().filter(char::is_ascii_digit).collect();
    let (content_type, name) = match file {
        SavedFile::Report => ("text/html; charset=utf-8", format!("ninetabs-report-{stamp}.html")),
        SavedFile::Trace => ("application/json", format!("ninetabs-trace-{stamp}.json")),
    };
    let response = response
        .with_header("content-type", content_type)
        .with_header("content-disposition", format!("attachment; filename=\"{name}\""))
        .with_header("cache-control", "no-store")
        .with_header("x-content-type-options", "nosniff");
    if file == SavedFile::Report { response.with_header("content-security-policy", POLICY) } else { response }
}

/// Makes the file.
pub(super) fn answer(view: &View, file: SavedFile, window: &SavedWindow) -> AsideAnswer {
    let stretch = view.timeline.until(window.to_us);
    let head = with_head(Response::bare(StatusCode::OK), file, window);
    if file == SavedFile::Report {
        return AsideAnswer::Whole(match report(view, &stretch, window) {
            Ok(page) => head.with_body(page),
            Err(error) => {
                limited!(Error, "control server: {error}");
                Response::status(StatusCode::INTERNAL_SERVER_ERROR)
            }
        });
    }
    let (command, window) = (view.command.to_string(), *window);
    AsideAnswer::Made(head, Box::new(move |to| write_trace(to, &command, &stretch, &window)))
}

fn report(
    view: &View,
    stretch: &Stretch,
    window: &SavedWindow,
) -> Result<String, crate::lab::report::ReportError> {
    // Warnings describe the present.
    let is_now = window.to_us == window.now_us;
    let database = view.database.stats();
    let warnings = if is_now { view.warnings(&view.server.threads(), &database).0 } else { Vec::new() };
    let warnings = warnings.into_iter().map(|warning| (warning.text, warning.remedy)).collect();
    let (size, max_age) = (view.server.size(), view.live.max_age());
    let front = match &*view.server {
        AppServer::Puma(_) => "puma",
        AppServer::TinyHttp(_) => "tiny-http",
    };
    WindowReport {
        record: Record::of_stretch(stretch, window.to_us),
        from_us: window.from_us,
        until: window.until(),
        max_threads: size.max(),
        warnings,
        configuration: vec![
            ("threads", format!("{}:{}", size.min(), size.max())),
            ("front door", front.to_owned()),
            (
                "maximum age of a stream",
                max_age.map_or("off".to_owned(), |age| format!("{} s", age.as_secs_f64())),
            ),
            ("database connections", database.size.to_string()),
        ],
        command: &view.command,
    }
    .html()
}

/// Encodes the trace piece by piece. Every call produces the same bytes.
fn write_trace(to: &mut dyn Write, command: &str, stretch: &Stretch, window: &SavedWindow) -> io::Result<()> {
    let mut process = TraceProcess::new(process::id(), "ninetabs serve");
    process.label(command);
    process.take_window(stretch, window.from_us);
    process.end(window.to_us);
    let mut encoder = Encoder::default();
    for piece in process.drain().chunks(256) {
        to.write_all(&encoder.encode(piece)?)?;
    }
    to.write_all(encoder.end())
}

#[cfg(test)]
mod tests {
    use ninetabs_server::Request;

    use super::super::orders;
    use super::*;

    fn window(query: &str, now_us: u64) -> Result<(u64, u64), String> {
        let request = Request::builder().path(format!("/report{query}")).build().unwrap();
        let given = orders::of_path("/report").unwrap().read(&request).map_err(|wrong| wrong.text)?;
        let window = SavedWindow::of(&given, now_us).map_err(|wrong| wrong.text)?;
        Ok((window.from_us, window.to_us))
    }

    #[test]
    fn a_window_is_the_last_minute_or_the_requested_one() {
        let now = 100_500_000;
        for (query, from_us, to_us) in [
            ("", 40_500_000, now),
            ("?last=10", 90_500_000, now),
            ("?last=1e9", 0, now),
            ("?from=30", 30_000_000, now),
            ("?to=70.25", 10_250_000, 70_250_000),
            ("?from=12.000001&to=12.000002", 12_000_001, 12_000_002),
            ("?from=1&to=999", 1_000_000, now),
        ] {
            assert_eq!(window(query, now), Ok((from_us, to_us)), "{query}");
        }
    }

    #[test]
    fn a_window_without_a_length_is_refused_in_one_line() {
        for (query, text) in [
            ("?last=5&to=7", "last: give last alone, or from and to"),
            ("?last=0", "last: give a number of seconds above 0, such as 30 or 0.5, not \"0\""),
            ("?from=5&to=5", "from: give a number of seconds below 5, where the window ends"),
            ("?from=200", "from: give a number of seconds below 100.5, where the window ends"),
            ("?to=0", "to: give a number of seconds above 0"),
            ("?from=0&to=0", "to: give a number of seconds above 0"),
        ] {
            assert_eq!(window(query, 100_500_000), Err(text.to_owned()), "{query}");
        }
    }
}
