//! The start-up message of `serve`: the addresses, and how this configuration runs dry.
//!
//! Every number in it follows from the flags, and every address in it can be opened as printed.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ninetabs_server::thread_pool::PoolSize;

/// The connections that a browser opens to one host over HTTP/1.1.
const BROWSER_CONNECTIONS: usize = 6;

/// What the message is made of.
#[derive(Debug, Clone)]
pub(super) struct Greeting<'a> {
    pub app: SocketAddr,
    pub control: SocketAddr,
    pub needs_token: bool,
    pub threads: PoolSize,
    pub max_io_threads: usize,
    /// The name that was given to `--fix`.
    pub fix: Option<String>,
    pub stream_cap: Option<usize>,
    pub max_stream_age: Option<Duration>,
    /// Database connections, where a stream keeps one for its whole life.
    pub leased_connections: Option<usize>,
    pub checkout_timeout: Duration,
    /// Where the pages' streams are, and the command that starts a server there.
    pub streams_at: Option<(&'a str, String)>,
}

/// What the first tab too many meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TabLimit {
    /// Its page waits: every thread has a stream.
    Threads,
    /// Its stream is refused at once, and its EventSource asks again later.
    Cap,
    /// Its stream is an empty 200: no database connection is left for it.
    Database,
}

impl Greeting<'_> {
    /// The message, without a newline at its end.
    pub fn text(&self) -> String {
        let threads = self.threads;
        let (app, control) = (OpenedAddress(self.app), OpenedAddress(self.control));
        let mut text =
            format!("ninetabs {}, a model of Puma 8: threads {threads}", env!("CARGO_PKG_VERSION"));
        // Writing to a String cannot fail.
        let mut line = |it: std::fmt::Arguments| _ = write!(text, "\n{it}");
        let io = self.max_io_threads;
        if io > 0 {
            line(format_args!("* IO-bound threads:   {io} more, for streams"));
        }
        if let Some(fix) = &self.fix {
            line(format_args!("* Fix:                {fix}, explained at {}/fixes/{fix}", app.url()));
        }
        line(format_args!("* The app:            {}{}", app.url(), app.reach()));
        line(format_args!("* The dashboard:      {}{}", control.url(), control.reach()));
        line(format_args!("* The control server: {}/stats", control.url()));
        if self.needs_token {
            line(format_args!("    (both with ?token= and the control token behind the address)"));
        }
        match &self.streams_at {
            Some((origin, command)) => {
                line(format_args!(
                    "* The pages listen to streams of {origin}, so this pool serves pages only."
                ));
                line(format_args!("    Start that server in a second terminal:"));
                line(format_args!("    {command}"));
            }
            None => self.tabs(&mut line),
        }
        line(format_args!("Use Ctrl-C to stop"));
        text
    }

    /// How many tabs it takes, and what the last one meets.
    fn tabs(&self, line: &mut impl FnMut(std::fmt::Arguments)) {
        let (streams, limit) = self.limit();
        let tabs = streams + 1;
        let last = ordinal(tabs);
        let app = OpenedAddress(self.app);
        let hosts =
            if app.is_local() { format!("{tabs} tabs on {tabs} hosts") } else { format!("{tabs} tabs") };
        let turns = self.max_stream_age.filter(|_| limit == TabLimit::Threads);
        match (limit, turns) {
            (_, Some(age)) => {
                let age = age.as_secs_f64();
                line(format_args!(
                    "* {hosts} take turns on {streams} threads, since a stream ends after {age} s:"
                ));
            }
            (TabLimit::Threads, None) => line(format_args!("* {hosts}, and the {last} waits for a thread:")),
            (TabLimit::Cap, None) => {
                line(format_args!(
                    "* {hosts}, and the {last} is refused and asks again later, while pages are served:"
                ));
            }
            (TabLimit::Database, None) => {
                let waited = self.checkout_timeout.as_secs_f64();
                line(format_args!(
                    "* {hosts}, and the {last} gets an empty 200 after {waited} s without a database connection:"
                ));
            }
        }
        if !app.is_local() {
            // Names below localhost do not lead to this address.
            return line(format_args!("    ninetabs tab {}/models/live_stream", app.url()));
        }
        let port = self.app.port();
        line(format_args!(
            "    http://tab1.localhost:{port}/?tab=1 … http://tab{tabs}.localhost:{port}/?tab={tabs}"
        ));
        if streams >= BROWSER_CONNECTIONS && turns.is_none() {
            let (tabs, last) = (BROWSER_CONNECTIONS + 1, ordinal(BROWSER_CONNECTIONS + 1));
            line(format_args!("* {tabs} tabs on one address, and the {last} waits for the browser:"));
            line(format_args!("    {}", app.url()));
        }
    }

    /// How many streams there can be at once, and what bounds them.
    fn limit(&self) -> (usize, TabLimit) {
        let threads = (self.threads.max() + self.max_io_threads, TabLimit::Threads);
        // A bound is met only if it is below the number of threads; at the same number, the next
        // page finds no thread before its stream could meet the bound.
        let bounds = [(self.leased_connections, TabLimit::Database), (self.stream_cap, TabLimit::Cap)];
        let below = bounds.into_iter().filter_map(|(bound, limit)| Some((bound?, limit)));
        below.fold(threads, |least, bound| match bound.1 {
            // A stream is counted against the cap before it asks for a connection.
            TabLimit::Cap if least.1 == TabLimit::Database && bound.0 == least.0 => bound,
            _ if bound.0 < least.0 => bound,
            _ => least,
        })
    }
}

/// An address at which a server listens, as it is opened from this machine.
pub(super) struct OpenedAddress(pub SocketAddr);

impl OpenedAddress {
    /// Its URL, without a slash at its end. An unspecified address cannot be opened, so the
    /// loopback address of its family stands for it.
    pub fn url(&self) -> String {
        let ip = match self.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        // A URL cannot hold a scope (`%3`).
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

    fn reach(&self) -> &'static str {
        if self.ip().is_unspecified() { " (on all addresses)" } else { "" }
    }

    /// Whether `localhost` and the names below it lead there.
    fn is_local(&self) -> bool {
        let ip = self.ip();
        ip.is_unspecified() || ip == Ipv4Addr::LOCALHOST || ip == Ipv6Addr::LOCALHOST
    }
}

/// `1st`, `2nd`, `3rd`, `4th` …
fn ordinal(number: usize) -> String {
    let ending = match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeting() -> Greeting<'static> {
        Greeting {
            app: ([127, 0, 0, 1], 9292).into(),
            control: ([127, 0, 0, 1], 9293).into(),
            needs_token: false,
            threads: PoolSize::new(8, 8).unwrap(),
            max_io_threads: 0,
            fix: None,
            stream_cap: None,
            max_stream_age: None,
            leased_connections: Some(8),
            checkout_timeout: Duration::from_secs(5),
            streams_at: None,
        }
    }

    #[test]
    fn the_defaults_need_nine_tabs_or_seven_on_one_address() {
        let text = greeting().text();
        assert!(text.contains("threads 8:8"));
        assert!(text.contains("* 9 tabs on 9 hosts, and the 9th waits for a thread:"));
        assert!(text.contains("http://tab1.localhost:9292/?tab=1 … http://tab9.localhost:9292/?tab=9"));
        assert!(text.contains("* 7 tabs on one address, and the 7th waits for the browser:"));
    }

    #[test]
    fn the_tab_that_waits_follows_from_the_configuration() {
        let of = |change: fn(&mut Greeting)| {
            let mut it = greeting();
            change(&mut it);
            it.text()
        };
        let three = of(|it| it.threads = PoolSize::new(0, 3).unwrap());
        assert!(three.contains("4 tabs on 4 hosts, and the 4th waits for a thread"), "{three}");
        assert!(!three.contains("on one address"), "three streams do not use six connections: {three}");

        let io = of(|it| (it.max_io_threads, it.leased_connections) = (5, Some(13)));
        assert!(
            io.contains("IO-bound threads:   5 more") && io.contains("the 14th waits for a thread"),
            "{io}"
        );

        let cap = of(|it| (it.stream_cap, it.fix) = (Some(6), Some("cap".to_owned())));
        assert!(cap.contains("the 7th is refused and asks again") && cap.contains("/fixes/cap"), "{cap}");
        let useless = of(|it| it.stream_cap = Some(8));
        assert!(useless.contains("the 9th waits for a thread"), "{useless}");

        let age = of(|it| it.max_stream_age = Some(Duration::from_millis(2_500)));
        assert!(
            age.contains("9 tabs on 9 hosts take turns on 8 threads, since a stream ends after 2.5 s"),
            "{age}"
        );
        assert!(!age.contains("waits"), "{age}");

        let db = of(|it| it.leased_connections = Some(5));
        assert!(db.contains("the 6th gets an empty 200 after 5 s"), "{db}");
        let both = of(|it| (it.leased_connections, it.stream_cap) = (Some(5), Some(5)));
        assert!(both.contains("the 6th is refused and asks again"), "{both}");
        let by_query = of(|it| (it.leased_connections, it.threads) = (None, PoolSize::new(64, 64).unwrap()));
        assert!(by_query.contains("the 65th waits for a thread"), "{by_query}");

        let elsewhere =
            of(|it| it.streams_at = Some(("http://127.0.0.1:9294", "ninetabs serve …".to_owned())));
        assert!(elsewhere.contains("http://127.0.0.1:9294") && elsewhere.contains("    ninetabs serve …"));
        assert!(!elsewhere.contains("waits"), "{elsewhere}");
    }

    #[test]
    fn an_unspecified_address_is_printed_as_one_that_opens() {
        let mut it = greeting();
        (it.app, it.control) = (([0, 0, 0, 0], 80).into(), (Ipv6Addr::UNSPECIFIED, 81).into());
        let text = it.text();
        assert!(text.contains("http://127.0.0.1:80 (on all addresses)"), "{text}");
        assert!(text.contains("http://[::1]:81 (on all addresses)"), "{text}");
        assert!(!text.contains("0.0.0.0") && !text.contains("[::]"), "{text}");

        it.app = ([192, 0, 2, 7], 80).into();
        let text = it.text();
        assert!(text.contains("ninetabs tab http://192.0.2.7:80/models/live_stream"), "{text}");
        assert!(!text.contains("localhost"), "those names lead to another address: {text}");
    }

    #[test]
    fn the_origins_of_an_app_are_those_under_which_its_pages_open() {
        let of = |address: &str| OpenedAddress(address.parse().unwrap()).origins().join(" ");
        let local = "http://127.0.0.1:80 http://localhost:80 http://*.localhost:80";
        assert_eq!(of("127.0.0.1:80"), local);
        assert_eq!(of("0.0.0.0:80"), local);
        assert_eq!(of("[::1]:80"), "http://[::1]:80 http://localhost:80 http://*.localhost:80");
        assert_eq!(of("192.0.2.7:80"), "http://192.0.2.7:80");
    }

    #[test]
    fn ordinals_are_english() {
        let of = |numbers: [usize; 8]| numbers.map(ordinal).join(" ");
        assert_eq!(of([1, 2, 3, 4, 11, 12, 13, 101]), "1st 2nd 3rd 4th 11th 12th 13th 101st");
    }
}
