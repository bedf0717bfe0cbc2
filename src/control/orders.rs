//! The paths of the control server besides pumactl's commands and the pages: one table, which is used to read and
//! refuse requests, and by `ctl` to send them.
//!
//! A request either matches one row, with parameters of that row, each at most once and with a valid value, or is
//! refused with a sentence that names the input and what is accepted.

use std::borrow::Cow;
use std::time::Duration;

use http::StatusCode;
use url::form_urlencoded;

use super::beside;
use super::laboratory::{MAX_TABS, MAX_ZOMBIES};
use ninetabs_server::Request;

/// Maximum number of threads that an order may set.
pub const MAX_THREADS: u64 = 10_000;

/// The method of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Get,
    Post,
}

impl Method {
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
        }
    }

    /// The methods that `Allow` names.
    pub(super) fn allow(self) -> &'static str {
        match self {
            Method::Get => "GET, HEAD",
            Method::Post => "POST",
        }
    }

    fn is(self, method: &str) -> bool {
        method == self.as_str() || (self == Method::Get && method == "HEAD")
    }
}

/// The meaning of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    ReadOnly(ReadOnly),
    Obey(Deed),
}

/// The thing that a GET reads. A GET changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadOnly {
    Events,
    Lab,
    Pool,
    Threads,
    Timeline,
    Saved(SavedFile),
    Viewers,
}

/// A file of a window of the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SavedFile {
    Report,
    Trace,
}

/// What a POST changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    Reap,
    Resize,
    MaxStreamAge,
    OpenTab,
    CloseTab,
    Zombies,
    Page,
    Frames,
    SetThreads,
    SetDatabase,
    Reset,
    Beside,
    FramedBy,
    Latency,
}

/// One row.
#[derive(Debug)]
pub struct Order {
    /// Its path, with the slash.
    pub path: &'static str,
    pub method: Method,
    pub parameters: &'static [Parameter],
    pub(super) ask: Ask,
}

/// A parameter of the query.
#[derive(Debug)]
pub struct Parameter {
    pub name: &'static str,
    pub takes: Takes,
    pub is_needed: bool,
}

/// The values that a parameter can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// Seconds, with or without a fraction.
    Seconds,
    /// More than 0 seconds.
    SecondsAboveZero,
    /// More than 0 seconds, or `off`.
    SecondsOrOff,
    /// An integer within these bounds.
    Number { what: &'static str, least: u64, most: u64 },
    /// One of these names.
    Name(&'static [&'static str]),
}

/// A value that was read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    Off,
    Seconds(Duration),
    Number(u64),
    Name(&'static str),
}

const fn optional(name: &'static str, takes: Takes) -> Parameter {
    Parameter { name, takes, is_needed: false }
}

const fn needed(name: &'static str, takes: Takes) -> Parameter {
    Parameter { name, takes, is_needed: true }
}

const fn get(path: &'static str, look: ReadOnly, parameters: &'static [Parameter]) -> Order {
    Order { path, method: Method::Get, parameters, ask: Ask::ReadOnly(look) }
}

const fn post(path: &'static str, deed: Deed, parameters: &'static [Parameter]) -> Order {
    Order { path, method: Method::Post, parameters, ask: Ask::Obey(deed) }
}

const NONE: &[Parameter] = &[];
const TAB: Takes = Takes::Number { what: "a tab number", least: 1, most: MAX_TABS as u64 };
const ZOMBIES: Takes = Takes::Number { what: "a number of zombies", least: 1, most: MAX_ZOMBIES as u64 };
const FRAMES: Takes =
    Takes::Number { what: "the number of frames that wait", least: 0, most: MAX_TABS as u64 };
const MOMENT: Takes = Takes::Number { what: "a moment's number", least: 0, most: u64::MAX };
const MIN: Takes = Takes::Number { what: "a minimum number of threads", least: 0, most: MAX_THREADS };
const MAX: Takes = Takes::Number { what: "a maximum number of threads", least: 1, most: MAX_THREADS };
const THREADS: Takes =
    Takes::Number { what: "a number of threads (the minimum and the maximum)", least: 1, most: MAX_THREADS };

const FIX: Takes = Takes::Name(beside::NAMES);
const PORT: Takes = Takes::Number { what: "a port", least: 1, most: u16::MAX as u64 };
const CONNECTIONS: Takes =
    Takes::Number { what: "a number of database connections", least: 1, most: MAX_THREADS };

/// The window of a saved file.
const WINDOW: &[Parameter] = &[
    optional("last", Takes::SecondsAboveZero),
    optional("from", Takes::Seconds),
    optional("to", Takes::Seconds),
];

/// All orders.
pub const ALL: &[Order] = &[
    get("/events", ReadOnly::Events, NONE),
    get("/lab", ReadOnly::Lab, NONE),
    get(super::pool::PATH, ReadOnly::Pool, NONE),
    get("/threads", ReadOnly::Threads, NONE),
    get("/timeline", ReadOnly::Timeline, &[optional("after", MOMENT)]),
    get("/report", ReadOnly::Saved(SavedFile::Report), WINDOW),
    get("/trace", ReadOnly::Saved(SavedFile::Trace), WINDOW),
    post("/reap", Deed::Reap, &[optional("older-than", Takes::Seconds)]),
    post("/resize", Deed::Resize, &[optional("min", MIN), optional("max", MAX)]),
    post("/max-stream-age", Deed::MaxStreamAge, &[needed("secs", Takes::SecondsOrOff)]),
    post("/lab/tabs/open", Deed::OpenTab, &[optional("tab", TAB)]),
    post("/lab/tabs/close", Deed::CloseTab, &[needed("tab", TAB)]),
    post("/lab/zombies", Deed::Zombies, &[optional("count", ZOMBIES)]),
    post("/lab/page", Deed::Page, NONE),
    post("/lab/frames", Deed::Frames, &[needed("waiting", FRAMES)]),
    post("/lab/threads", Deed::SetThreads, &[needed("count", THREADS)]),
    post("/lab/database", Deed::SetDatabase, &[needed("size", CONNECTIONS)]),
    post("/lab/reset", Deed::Reset, NONE),
    post("/lab/beside", Deed::Beside, &[needed("fix", FIX)]),
    // A server sends these requests to the second server, which it has started.
    post("/lab/framed-by", Deed::FramedBy, &[needed("port", PORT)]),
    get("/lab/viewers", ReadOnly::Viewers, NONE),
    post("/lab/latency", Deed::Latency, NONE),
];

/// The row of a path.
pub fn of_path(path: &str) -> Option<&'static Order> {
    ALL.iter().find(|order| order.path == path)
}

/// Why a request is refused: the status, the sentence, and the value of `Allow`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub status: StatusCode,
    pub text: String,
    pub allow: Option<&'static str>,
}

/// The parameters of a request. All of them are among those that its row accepts.
#[derive(Debug, Default)]
pub(super) struct Given(Vec<(&'static str, Value)>);

impl Given {
    /// A number, which is within the bounds of its parameter.
    pub fn number(&self, name: &str) -> Option<u64> {
        match self.value(name) {
            Some(Value::Number(number)) => Some(number),
            _ => None,
        }
    }

    /// Whether this parameter was given.
    pub fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// Seconds; `None` if `off` or not given.
    pub fn seconds(&self, name: &str) -> Option<Duration> {
        match self.value(name) {
            Some(Value::Seconds(seconds)) => Some(seconds),
            _ => None,
        }
    }

    /// One of the names that its row has.
    pub fn name(&self, name: &str) -> Option<&'static str> {
        match self.value(name) {
            Some(Value::Name(text)) => Some(text),
            _ => None,
        }
    }

    fn value(&self, name: &str) -> Option<Value> {
        self.0.iter().find(|(it, _)| *it == name).map(|(_, value)| *value)
    }
}

impl Wrong {
    /// The path exists, but only for other methods.
    pub fn method(path: &str, allow: &'static str) -> Wrong {
        Wrong {
            status: StatusCode::METHOD_NOT_ALLOWED,
            text: format!("{path} takes {allow}"),
            allow: Some(allow),
        }
    }
}

impl Order {
    /// Reads the parameters of a request for this row.
    pub(super) fn read(&self, request: &Request) -> Result<Given, Wrong> {
        if !self.method.is(request.method().as_str()) {
            return Err(Wrong::method(self.path, self.method.allow()));
        }
        read(self.path, self.parameters, request)
    }

    /// Its usage, such as `/resize?min=N&max=N`.
    #[cfg(test)]
    fn usage(&self) -> String {
        usage(self.path, self.parameters)
    }
}

/// Reads the query of a request, which may have these parameters. `token` is skipped: the guard checks it.
pub(super) fn read(path: &str, parameters: &[Parameter], request: &Request) -> Result<Given, Wrong> {
    let mut given = Given::default();
    let query = request.target().split_once('?').map_or("", |(_, query)| query);
    let query = query.split('#').next().unwrap_or_default();
    for (name, text) in form_urlencoded::parse(query.as_bytes()) {
        if name == "token" || (name.is_empty() && text.is_empty()) {
            continue;
        }
        let Some(parameter) = parameters.iter().find(|parameter| parameter.name == name) else {
            return Err(bad_request(format!(
                "unknown parameter {}; {}",
                shown(&name),
                takes(path, parameters)
            )));
        };
        if given.value(&name).is_some() {
            return Err(bad_request(format!("{name}: give it once; {}", takes(path, parameters))));
        }
        let value = parameter.takes.read(&text).map_err(|what| {
            unprocessable(match &*text {
                "" => format!("{name}: give {what}"),
                _ => format!("{name}: give {what}, not {}", shown(&text)),
            })
        })?;
        given.0.push((parameter.name, value));
    }
    match parameters.iter().find(|it| it.is_needed && given.value(it.name).is_none()) {
        None => Ok(given),
        Some(missing) => Err(unprocessable(format!(
            "{}: give {}, as in {}",
            missing.name,
            missing.takes.says(),
            usage(path, parameters)
        ))),
    }
}

fn bad_request(text: String) -> Wrong {
    Wrong { status: StatusCode::BAD_REQUEST, text, allow: None }
}

pub(super) fn unprocessable(text: String) -> Wrong {
    Wrong { status: StatusCode::UNPROCESSABLE_ENTITY, text, allow: None }
}

fn takes(path: &str, parameters: &[Parameter]) -> String {
    match parameters {
        [] => format!("{path} takes none"),
        _ => format!("{path} takes {}", usage("", parameters).trim_start_matches('?').replace('&', " and ")),
    }
}

fn usage(path: &str, parameters: &[Parameter]) -> String {
    let all = parameters.iter().map(|it| format!("{}={}", it.name, it.takes.placeholder()));
    let all = all.collect::<Vec<_>>().join("&");
    if all.is_empty() { path.to_owned() } else { format!("{path}?{all}") }
}

/// A text of the client on one line, shortened to a useful length.
fn shown(text: &str) -> String {
    const LONGEST: usize = 60;
    let cut: Cow<'_, str> = match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => text.into(),
    };
    format!("{cut:?}")
}

impl Takes {
    /// Parses a text. If it is not valid, the error describes what is accepted.
    pub fn read(self, text: &str) -> Result<Value, String> {
        let value = match self {
            Takes::SecondsOrOff if text == "off" => Some(Value::Off),
            Takes::SecondsOrOff => seconds(text).filter(|it| !it.is_zero()).map(Value::Seconds),
            Takes::Seconds => seconds(text).map(Value::Seconds),
            Takes::SecondsAboveZero => seconds(text).filter(|it| !it.is_zero()).map(Value::Seconds),
            Takes::Number { least, most, .. } => {
                let number = text.parse().ok().filter(|number| (least..=most).contains(number));
                number.map(Value::Number)
            }
            Takes::Name(names) => names.iter().find(|name| **name == text).map(|name| Value::Name(name)),
        };
        value.ok_or_else(|| self.says())
    }

    /// What it accepts, in words.
    pub fn says(self) -> String {
        match self {
            Takes::Seconds => "a number of seconds, such as 30 or 0.5".to_owned(),
            Takes::SecondsAboveZero => "a number of seconds above 0, such as 30 or 0.5".to_owned(),
            Takes::SecondsOrOff => "a number of seconds above 0, such as 30 or 0.5, or off".to_owned(),
            Takes::Number { what, least, most: u64::MAX } => format!("{what}, at least {least}"),
            Takes::Number { what, least, most } => format!("{what} from {least} to {most}"),
            Takes::Name(names) => format!("one of {}", names.join(", ")),
        }
    }

    fn placeholder(self) -> &'static str {
        match self {
            Takes::Seconds | Takes::SecondsAboveZero => "SECS",
            Takes::SecondsOrOff => "SECS|off",
            Takes::Number { .. } => "N",
            Takes::Name(_) => "NAME",
        }
    }
}

fn seconds(text: &str) -> Option<Duration> {
    let seconds: f64 = text.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests;
