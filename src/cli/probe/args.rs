//! The arguments of `probe`.
//!
//! Values that may be secrets are read as text and checked in [`super::given`], because clap's own errors repeat the
//! value.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::super::control_client::ControlUrl;
use super::super::control_server::ControlTokenArg;
use super::super::duration;
use super::super::values;
use super::mistake::ProbeMistake;
use crate::lab::probe::findings::FindingKind;
use crate::lab::probe::plan::{DEFAULT_TABS, LONGEST_PATIENCE, TABS};
use crate::lab::probe::thresholds::Thresholds;

pub(in super::super) const EXAMPLES: &str = "\
It opens the stream at URL in one tab after another, as browser tabs would, and
requests the pages in between, until a tab or a page gets no answer. Then it
finds out why, closes every connection, and names the limit. A run takes about
a minute. During this time the server's pages may hang for everyone, so probe a
server of your own that is not in use.

To begin, start your application and give the URL that its JavaScript passes to
EventSource, a page that does the usual work, and a cheap page:
  bundle exec puma -p 3000 --control-url tcp://127.0.0.1:9293 --control-token none
  ninetabs probe http://127.0.0.1:3000/stream --page / --page /up \\
      --control-url tcp://127.0.0.1:9293

Symbols: ● streams, ○ waits or was refused, ◌ open without an event, × cut by
the server. \"/page 3/3\" is a page answered three times out of three, \"0/3\" one
never answered. \"a slot\" is the time until the slot of a closed tab serves
another. \"5 idle\" are connections without a request, and \"5 kept\" are
connections kept alive after one. If they stop a page, the server limits
connections. The last lines have the limit, its remedy, and a command to try.

Exit status: 0 if measured and every threshold holds, 1 if one does not, 2 for
wrong usage, 3 if the server could not be measured, 130 if interrupted.

Examples:
  ninetabs probe http://127.0.0.1:3000/stream
  ninetabs probe http://127.0.0.1:3000/stream --cookie '_session=…'   a logged-in user
  ninetabs probe https://localhost:8443/events -k --report run.html
  ninetabs probe http://127.0.0.1:8000/chat -d @question.json         a POST that streams
  ninetabs probe http://127.0.0.1:3000/stream --fail-below 9 --fail-on leak --json";

/// Find out how many streams a server can hold, and what limits it
#[derive(Debug, Args)]
pub struct ProbeArgs {
    /// Address of the stream, as http://HOST:PORT/PATH or https://HOST/PATH
    ///
    /// {tab} in the address is replaced by the number of the tab, for applications that need an address per tab.
    #[arg(value_name = "URL")]
    pub url: String,

    /// Page of the same host to request as well; repeatable [default: /]
    ///
    /// A path or a whole URL. Give two: one that does the usual work, and a cheap one such as a health check or a
    /// static file. Comparing them shows in which layer the limit is.
    #[arg(long = "page", value_name = "URL")]
    pub pages: Vec<String>,

    /// Maximum number of connections held at the same time, from 2 to 1000 [default: 40]
    ///
    /// Waiting, idle and stalled connections count as well.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_TABS, value_parser = values::number(TABS))]
    pub tabs: usize,

    /// How long waiting tabs and open streams are watched [seconds; default: 12 and 33]
    ///
    /// By default 12 s for the first tab and for tabs that wait, 33 s for the oldest stream once a limit is found, and
    /// 60 s with --zombies. A stream that is cut off at a greater age, or a queue that times out later, is detected
    /// only with a greater value.
    #[arg(long, value_name = "SECS", value_parser = patience)]
    pub patience: Option<Duration>,

    /// Confirm that a host other than this machine may be probed
    ///
    /// Without it, only loopback addresses are probed: a probe makes the pages of a server hang for up to a minute.
    #[arg(long)]
    pub i_own_this_host: bool,

    /// Header of every request, as in curl; repeatable
    ///
    /// It replaces the default header of that name. A header without a value is not sent.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", help_heading = "Requests")]
    pub headers: Vec<String>,

    /// Method of the streams [default: GET, or POST with -d]
    ///
    /// HEAD is refused: on many servers a HEAD to a stream occupies a worker, on some for good.
    #[arg(short = 'X', long = "request", value_name = "METHOD", help_heading = "Requests")]
    pub method: Option<String>,

    /// Body of the streams' requests; @FILE reads a file of up to 64 KiB
    ///
    /// It implies POST and, unless -H says otherwise, Content-Type: application/json. Each request may cost money or
    /// write data, and the number of requests is printed before the first one. Ask for an answer that lasts at least
    /// 30 s.
    #[arg(short = 'd', long, value_name = "DATA|@FILE", help_heading = "Requests")]
    pub data: Option<String>,

    /// Cookie of every request, to find a session lock
    ///
    /// Give a logged-in user's session cookie, for this test or for a stream that needs a login. If that user's second
    /// tab waits, a stream is tried with --other-cookie.
    #[arg(long, value_name = "N=V", help_heading = "Requests")]
    pub cookie: Option<String>,

    /// Cookie of another user, in place of --cookie [default: no cookie]
    ///
    /// It also replaces a cookie set by -H.
    #[arg(long, value_name = "N=V", help_heading = "Requests")]
    pub other_cookie: Option<String>,

    /// User and password, sent as Authorization: Basic
    #[arg(short = 'u', long, value_name = "USER:PASSWORD", help_heading = "Requests")]
    pub user: Option<String>,

    /// Do not verify the certificate of an https server
    #[arg(short = 'k', long, help_heading = "Requests")]
    pub insecure: bool,

    /// Control server of a Puma or ninetabs, for its /stats [default: none]
    ///
    /// Queried before the run, at the limit and afterwards. --i-own-this-host applies as well.
    #[arg(long, value_name = "URL", help_heading = "Evidence")]
    pub control_url: Option<ControlUrl>,

    #[command(flatten, next_help_heading = "Evidence")]
    pub control: ControlTokenArg,

    /// Add an experiment with this many clients that stop reading [default: none]
    ///
    /// At most --tabs minus 2. It shows whether the server notices them, and takes another minute or two.
    #[arg(long, value_name = "N", value_parser = values::number(1..=*TABS.end()), help_heading = "Experiments")]
    pub zombies: Option<usize>,

    /// Add an experiment with streams on one HTTP/2 connection
    ///
    /// HTTP/2 is negotiated with ALPN on https, and used with prior knowledge on http.
    #[arg(long, help_heading = "Experiments")]
    pub http2: bool,

    /// Send one HTTP/1.0 request, as the last step
    ///
    /// It may cost a worker: some servers leave the action running for good after such a request. The streams are
    /// counted once more afterwards, to detect that.
    #[arg(long, help_heading = "Experiments")]
    pub http10: bool,

    /// Exit 1 unless every page is answered with this many streams
    ///
    /// A server with five threads passes with 4 and fails with 5, because its pages need the fifth thread.
    #[arg(long, value_name = "N", value_parser = values::number(1..=*TABS.end()), help_heading = "Thresholds")]
    pub fail_below: Option<usize>,

    /// Exit 1 if a slot took longer to return [seconds; default: no limit]
    ///
    /// A slot is what a stream holds: a thread, a worker, a connection. A slot that is lost exceeds every limit.
    #[arg(long, value_name = "SECS", value_parser = values::some_time, help_heading = "Thresholds")]
    pub fail_slot: Option<Duration>,

    /// Exit 1 if this kind of limit or note is found, such as leak or cut; repeatable
    ///
    /// `--fail-on help` lists all kinds.
    #[arg(long, value_name = "KIND", value_parser = kind, help_heading = "Thresholds")]
    pub fail_on: Vec<FindingKind>,

    /// Print only one JSON object
    ///
    /// docs/probe.schema.json describes it.
    #[arg(long, conflicts_with = "markdown", help_heading = "Output")]
    pub json: bool,

    /// Print only the result, in Markdown, to paste into an issue
    #[arg(long, help_heading = "Output")]
    pub markdown: bool,

    /// HTML file for the whole run, on one page
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub report: Option<PathBuf>,
}

impl ProbeArgs {
    /// The thresholds that decide the exit status.
    pub(super) fn thresholds(&self) -> Result<Thresholds, ProbeMistake> {
        if let Some(streams) = self.fail_below.filter(|streams| *streams > self.tabs) {
            return Err(ProbeMistake::FailBelow { streams, tabs: self.tabs });
        }
        Ok(Thresholds { streams: self.fail_below, slot: self.fail_slot, kinds: self.fail_on.clone() })
    }
}

fn patience(text: &str) -> Result<Duration, String> {
    let time = duration::more_than_none(text)?;
    match time <= LONGEST_PATIENCE {
        true => Ok(time),
        false => Err(format!("give at most {} seconds, such as 60", LONGEST_PATIENCE.as_secs())),
    }
}

fn kind(name: &str) -> Result<FindingKind, String> {
    name.parse().map_err(|_| {
        let names: Vec<&str> = FindingKind::all().map(FindingKind::name).collect();
        let nearest = names.iter().filter(|other| strsim::osa_distance(name, other) <= 2);
        match nearest.min_by_key(|other| strsim::osa_distance(name, other)) {
            Some(nearest) => format!(
                "there is no such kind. Did you mean {nearest}? If not, give one of {}",
                names.join(", ")
            ),
            None => format!("give one of {}", names.join(", ")),
        }
    })
}
