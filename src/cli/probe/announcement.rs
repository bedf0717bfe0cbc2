//! The lines before the first request: the number of requests, and their effect on a server.

use std::io::{self, Write};

use ninetabs_server::escape::printable;

use super::target::PlannedRun;
use crate::lab::narrator::wrapped;
use crate::lab::probe::budget::Budget;

/// The maximum number of columns of a line.
const WIDTH: usize = 80;

/// Prints the lines to standard error, so that standard output has only the result. A failed write is ignored.
pub fn print(planned: &PlannedRun) {
    let text: String = lines(planned).iter().map(|line| format!("{line}\n")).collect();
    let _ = io::stderr().write_all(text.as_bytes());
}

fn lines(planned: &PlannedRun) -> Vec<String> {
    let plan = planned.plan();
    let budget = Budget::of(plan);
    let mut text = format!(
        "probe: at most {} requests (most runs send fewer than {}), and {} connections at the same time",
        budget.requests(),
        Budget::usual(plan),
        plan.tabs
    );
    if plan.method != "GET" {
        let method = printable(&plan.method);
        text += &format!(
            ". Up to {} of the requests are {method}: each may cost money or write data",
            budget.streams
        );
    }
    let mut lines = wrapped(&text, WIDTH);
    if !planned.is_this_machine() {
        let host = printable(plan.url.host_str().unwrap_or_default());
        lines.extend(wrapped(
            &format!(
                "probe: {host} is not this machine. Its streams are opened until a tab or a page gets no answer, and \
                 are held for about {}, or longer if its pages or events are slow. During this time, its pages hang \
                 for every visitor. Ctrl-C closes every connection.",
                time_of_a_run(planned)
            ),
            WIDTH,
        ));
    }
    lines
}

/// How long a run takes if the server answers quickly, in words.
fn time_of_a_run(planned: &PlannedRun) -> String {
    let plan = planned.plan();
    // Opening the tabs takes half a second each; the steps after the limit take the rest.
    let mut seconds = 60 + plan.tabs as u64 / 2;
    seconds += plan.patience.map_or(0, |patience| patience.as_secs());
    if plan.zombies.is_some() {
        seconds += plan.zombie_patience().as_secs() + 45;
    }
    seconds += if plan.http2 { 30 } else { 0 } + if plan.http10 { 30 } else { 0 };
    match seconds.div_ceil(60) {
        1 => "a minute".to_owned(),
        minutes => format!("{minutes} minutes"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::given::tests::typed;
    use super::super::given::wanted;
    use super::super::target::plan;
    use super::*;

    fn text(words: &[&str]) -> String {
        let Ok(planned) = plan(wanted(&typed(words)).unwrap()) else { panic!("{words:?}") };
        let lines = lines(&planned);
        assert!(lines.iter().all(|line| line.len() <= WIDTH), "{lines:?}");
        lines.join(" ")
    }

    #[test]
    fn the_maximum_number_of_requests_is_always_stated() {
        let said = text(&["http://127.0.0.1/s"]);
        assert!(
            said.starts_with("probe: at most ") && said.ends_with(" 40 connections at the same time"),
            "{said}"
        );
    }

    #[test]
    fn any_method_but_get_has_a_warning() {
        let said = text(&["http://127.0.0.1/s", "-d", "{}"]);
        assert!(said.contains("of the requests are POST: each may cost money or write data"), "{said}");
    }

    #[test]
    fn the_announcement_for_another_host_says_what_happens_and_for_how_long() {
        let said = text(&["http://192.0.2.7/s", "--i-own-this-host"]);
        assert!(said.contains("192.0.2.7 is not this machine") && said.contains("about 2 minutes"), "{said}");
        let said = text(&["http://192.0.2.7/s", "--i-own-this-host", "--zombies", "5", "--tabs", "20"]);
        assert!(said.contains("about 3 minutes"), "{said}");
    }

    #[test]
    fn more_tabs_pages_and_experiments_raise_the_number_of_requests() {
        let most = |words: &[&str]| {
            let Ok(planned) = plan(wanted(&typed(&[&["http://127.0.0.1/s"], words].concat())).unwrap())
            else {
                panic!("{words:?}")
            };
            Budget::of(planned.plan()).requests()
        };
        let plain = most(&[]);
        for more in [
            &["--tabs", "41"][..],
            &["--page", "/", "--page", "/up"],
            &["--zombies", "1"],
            &["--http2"],
            &["--http10"],
        ] {
            assert!(most(more) > plain, "{more:?}");
        }
    }
}
