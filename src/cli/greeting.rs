//! The start-up message of `serve`: the addresses, and the number of tabs that exhausts this configuration.
//!
//! Each number follows from the flags. Each address can be opened as printed: the host check admits it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ninetabs_server::thread_pool::PoolSize;

/// The number of connections that a browser opens to one host over HTTP/1.1.
const BROWSER_CONNECTIONS: usize = 6;
/// The number of tabs that the article opens.
const TABS: usize = 9;
/// With more streams than this, the message does not suggest opening enough tabs to exhaust the pool.
const MOST_TABS_BY_HAND: usize = 20;

/// The data of the message.
#[derive(Debug, Clone)]
pub(super) struct Greeting<'a> {
    pub app: SocketAddr,
    pub control: SocketAddr,
    pub needs_token: bool,
    /// The hosts of `--allow-host`.
    pub allowed_hosts: &'a [String],
    pub threads: PoolSize,
    pub max_io_threads: usize,
    /// The name that was given to `--fix`.
    pub fix: Option<String>,
    pub stream_cap: Option<usize>,
    pub max_stream_age: Option<Duration>,
    pub reap_every: Duration,
    pub retry: Duration,
    /// The number of database connections, if a stream keeps one for its whole life.
    pub leased_connections: Option<usize>,
    pub checkout_timeout: Duration,
    /// The origin of the pages' streams, and the command that starts a server there.
    pub streams_at: Option<(&'a str, String)>,
    pub is_tiny_http: bool,
    pub notices_by_poll: bool,
    /// Whether each action has its own thread.
    pub has_own_threads: bool,
    pub is_faithful: bool,
    /// The database as given on the command line, and a note on whether it is kept.
    pub database: String,
    pub database_note: String,
}

/// What happens to the first tab beyond the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TabLimit {
    /// The tab waits, since every thread is held by a stream.
    Threads,
    /// Its stream is refused immediately, and its EventSource reconnects later.
    Cap,
    /// Its stream is an empty 200, since every database connection is in use.
    Database,
}

impl Greeting<'_> {
    /// The message, without a newline at its end. Sentences are wrapped to `width`, if one is given;
    /// addresses and commands are not, since they are copied.
    pub fn text(&self, width: Option<usize>) -> String {
        let mut lines = vec![format!(
            "ninetabs {}: a model of Puma 8 with {}",
            env!("CARGO_PKG_VERSION"),
            threads_in_words(self.threads)
        )];
        lines.extend(self.addresses());
        let mut say = |text: &str| match width {
            Some(width) => lines.extend(wrapped(text, width)),
            None => lines.push(text.to_owned()),
        };
        if self.needs_token {
            say("Append ?token= and the control token to the addresses of the wall and the dashboard.");
        }
        match &self.streams_at {
            Some((origin, command)) => {
                say(&format!(
                    "The streams are at {origin}, so this server's pool serves pages only. Start that server in a second terminal:"
                ));
                say(&format!("  {command}"));
            }
            None => {
                say(&self.limit_in_words());
                say(&self.tabs());
                self.browser_limit().iter().for_each(|sentence| say(sentence));
            }
        }
        self.further_sentences().iter().for_each(|sentence| say(sentence));
        say("Ctrl-C stops.");
        lines.join("\n")
    }

    /// The table of addresses.
    fn addresses(&self) -> Vec<String> {
        let (app, control) = (OpenedAddress(self.app).url(), OpenedAddress(self.control).url());
        let mut rows = vec![
            ("Wall", format!("{control}/wall"), "(start here)".to_owned()),
            ("Dashboard", format!("{control}/"), String::new()),
            ("App", format!("{app}/"), "fixes: /fixes".to_owned()),
            ("Database", self.database.clone(), self.database_note.clone()),
        ];
        if let Some(fix) = &self.fix {
            rows.insert(3, ("Fix", format!("{app}/fixes/{fix}"), String::new()));
        }
        // A long path does not move the other rows' notes.
        let widest = rows[..3].iter().map(|(_, value, _)| value.chars().count()).max().unwrap_or_default();
        let row = |(label, value, note): &(&str, String, String)| {
            format!("  {label:<10} {value:<widest$}   {note}").trim_end().to_owned()
        };
        rows.iter().map(row).collect()
    }

    /// How many tabs stream, and what happens to the next one.
    fn limit_in_words(&self) -> String {
        let (streams, limit) = self.limit();
        let (pool, io) = (self.threads.max(), self.max_io_threads);
        let last = streams + 1;
        let some_stream =
            if streams == 1 { "1 tab streams".to_owned() } else { format!("{streams} tabs stream") };
        match limit {
            TabLimit::Cap => {
                // The original controller does not send `retry:`, so its clients choose the time.
                let later = if self.is_faithful {
                    "later".to_owned()
                } else {
                    format!("after {}", seconds(self.retry))
                };
                let free = pool + io.min(streams) - streams;
                let threads =
                    if free == 1 { "1 thread stays".to_owned() } else { format!("{free} threads stay") };
                format!(
                    "{some_stream}. Tab {last} is refused at once and retries {later}; {threads} available for pages."
                )
            }
            TabLimit::Database => format!(
                "{streams} database connection{} for {} threads: tab {last} gets an empty 200 after {}, and pages get a 500.",
                if streams == 1 { "" } else { "s" },
                pool + io,
                seconds(self.checkout_timeout)
            ),
            TabLimit::Threads if streams > MOST_TABS_BY_HAND => {
                format!("All nine tabs stream; the limit is {streams}.")
            }
            TabLimit::Threads => {
                let open = format!("Open {} tabs.", in_words(last));
                if let Some(age) = self.max_stream_age {
                    return format!(
                        "{open} Tabs beyond {streams} take turns of at most {}. The reaper checks every {}.",
                        seconds(age),
                        seconds(self.reap_every)
                    );
                }
                let stream = if streams == 1 { "streams" } else { "stream" };
                let parts = if io > 0 {
                    let threads = if pool == 1 { "1 thread".to_owned() } else { format!("{pool} threads") };
                    format!(" ({threads} + {io} IO-bound)")
                } else {
                    String::new()
                };
                format!("{open} {streams} {stream}{parts}; tab {last} waits for a thread:")
            }
        }
    }

    /// Where to open the tabs, or a command that opens one.
    fn tabs(&self) -> String {
        let app = OpenedAddress(self.app);
        // Names below localhost lead to loopback only.
        if !app.is_local() {
            return format!("  ninetabs tab {}/models/live_stream", app.url());
        }
        let (streams, limit) = self.limit();
        let by_hand = limit != TabLimit::Threads || streams <= MOST_TABS_BY_HAND;
        let (port, tabs) = (self.app.port(), if by_hand { streams + 1 } else { TABS });
        format!("  http://tab1.localhost:{port}/?tab=1 … http://tab{tabs}.localhost:{port}/?tab={tabs}")
    }

    /// The browser's own limit, if it is reached before the server's.
    fn browser_limit(&self) -> Option<String> {
        let (streams, limit) = self.limit();
        let take_turns = self.max_stream_age.is_some() && limit == TabLimit::Threads;
        let is_met = streams >= BROWSER_CONNECTIONS && !take_turns;
        is_met.then(|| {
            let tab = BROWSER_CONNECTIONS + 1;
            format!("On one address, tab {tab} waits in the browser (six connections per host).")
        })
    }

    fn further_sentences(&self) -> Vec<String> {
        let mut said = Vec::new();
        if let Some(age) = self.max_stream_age {
            let (streams, limit) = self.limit();
            let is_said = limit == TabLimit::Threads && streams <= MOST_TABS_BY_HAND;
            if !is_said || self.streams_at.is_some() {
                said.push(format!("A stream ends after {}, and its tab reconnects.", seconds(age)));
            }
        }
        if self.notices_by_poll {
            said.push("The thread of a closed tab is freed within milliseconds.".to_owned());
        }
        if self.has_own_threads {
            said.push(
                "Each action has its own thread, as in Rails. HTTP/1.0 clients such as ab leave it running."
                    .to_owned(),
            );
        }
        if self.is_faithful {
            said.push("The article's loop: no ids, and rows are lost between two queries.".to_owned());
        }
        if self.is_tiny_http {
            said.push("tiny_http front: one thread per connection, no reactor, loopback only.".to_owned());
        }
        said.extend(self.reach());
        said
    }

    /// The servers that other hosts can reach, or `None` if both servers listen on loopback only.
    fn reach(&self) -> Option<String> {
        let listens = |address: SocketAddr| !address.ip().to_canonical().is_loopback();
        let who = match (listens(self.app), listens(self.control)) {
            (false, false) => return None,
            (true, false) => "The app listens",
            (false, true) => "The wall and the dashboard listen",
            (true, true) => "The app, the wall and the dashboard listen",
        };
        let bound = [self.app, self.control].map(|address| address.ip().to_canonical());
        let bound =
            bound.iter().filter(|ip| !ip.is_unspecified() && !ip.is_loopback()).map(ToString::to_string);
        let mut hosts = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        for host in bound.chain(self.allowed_hosts.iter().cloned()) {
            if !hosts.contains(&host) {
                hosts.push(host);
            }
        }
        let hosts = hosts.join(", ");
        let mut text = format!(
            "{who} beyond this machine. Requests for {hosts} are answered, others get a 403; --allow-host HOST adds one."
        );
        if !listens(self.control) {
            text.push_str(
                " The wall and the dashboard stay on this machine; --control-url and --control-token change that.",
            );
        }
        Some(text)
    }

    /// How many streams can be open at the same time, and what limits them.
    fn limit(&self) -> (usize, TabLimit) {
        let threads = (self.threads.max() + self.max_io_threads, TabLimit::Threads);
        // A limit is reached only if it is below the number of threads. If both are equal, the next
        // page finds no free thread before its stream could reach the limit.
        let bounds = [(self.leased_connections, TabLimit::Database), (self.stream_cap, TabLimit::Cap)];
        let below = bounds.into_iter().filter_map(|(bound, limit)| Some((bound?, limit)));
        below.fold(threads, |least, bound| match bound.1 {
            // A stream is counted against the cap before it checks out a connection.
            TabLimit::Cap if least.1 == TabLimit::Database && bound.0 == least.0 => bound,
            _ if bound.0 < least.0 => bound,
            _ => least,
        })
    }
}

/// `8 threads`, `0 to 8 threads`, `1 thread`.
fn threads_in_words(size: PoolSize) -> String {
    match (size.min(), size.max()) {
        (1, 1) => "1 thread".to_owned(),
        (min, max) if min == max => format!("{max} threads"),
        (min, max) => format!("{min} to {max} thread{}", if max == 1 { "" } else { "s" }),
    }
}

/// The number of tabs. The article's number is written as a word.
fn in_words(tabs: usize) -> String {
    if tabs == TABS { "nine".to_owned() } else { tabs.to_string() }
}

/// `5 s`, `0.5 s`.
fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs_f64())
}

/// Lines of at most `width` characters, broken between words. Indented lines are not broken.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    if text.starts_with(' ') {
        return vec![text.to_owned()];
    }
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last().map_or(0, |line| line.chars().count());
        match lines.last_mut() {
            Some(last) if line == 0 || line + 1 + word.chars().count() <= width => {
                if line > 0 {
                    last.push(' ');
                }
                last.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// An address at which a server listens, as it is opened from this machine.
pub(super) struct OpenedAddress(pub SocketAddr);

impl OpenedAddress {
    /// Its URL, without a slash at its end. An unspecified address cannot be opened, so it is replaced by
    /// the loopback address of its family.
    pub fn url(&self) -> String {
        let ip = match self.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        // A URL cannot contain the scope of an IPv6 address (`%3`).
        format!("http://{}", SocketAddr::new(ip, self.0.port()))
    }

    /// The origins of its pages, as `--allow-origin` takes them.
    pub fn origins(&self) -> Vec<String> {
        let port = self.0.port();
        let local = [format!("http://localhost:{port}"), format!("http://*.localhost:{port}")];
        let local = local.into_iter().filter(|_| self.is_local());
        [self.url()].into_iter().chain(local).collect()
    }

    /// `::ffff:127.0.0.1` is 127.0.0.1.
    fn ip(&self) -> IpAddr {
        self.0.ip().to_canonical()
    }

    /// Whether `localhost` and the names below it lead to this address.
    fn is_local(&self) -> bool {
        let ip = self.ip();
        ip.is_unspecified() || ip == Ipv4Addr::LOCALHOST || ip == Ipv6Addr::LOCALHOST
    }
}

#[cfg(test)]
mod tests;
