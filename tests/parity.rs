//! One scenario with nine tabs, run against the real Puma and against ninetabs.
//!
//! Puma runs a Rack app (`data/live_stream.ru`) that streams with the article's loop and records each write that it
//! attempts. ninetabs records its own writes. The write at which a stream ends is therefore counted, not inferred
//! from times. Each row states the behavior that both servers must show. If ninetabs differs on purpose, the row
//! gives the reason. The test fails if an unexpected difference appears, and also if an expected one has disappeared.
//! `cargo test --test all parity:: -- --nocapture` prints the table. The test takes some seconds, most of which it
//! spends waiting for rounds.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use crate::common::{PATIENCE, Server, json, program, wait_for};
use ninetabs::lab::http::{self, HttpError};
use ninetabs::lab::program::Program;
use ninetabs::lab::tab::{Happens, Settings, Tab};
use serde_json::Value;
use tempfile::TempDir;

const UPDATE_RATE: Duration = Duration::from_millis(500);

/// A server on which nine tabs are opened.
trait Peer {
    fn app(&self) -> SocketAddr;
    fn control(&self) -> SocketAddr;
    /// The times at which the server attempted each write of this tab's stream, including failed writes.
    fn writes(&self, tab: usize) -> Vec<SystemTime>;
    /// Whether this tab's action has returned.
    fn has_left(&self, tab: usize) -> bool;

    fn stats(&self) -> Value {
        json(self.control(), "GET", "/stats").1
    }
}

impl Peer for Server {
    fn app(&self) -> SocketAddr {
        self.app
    }

    fn control(&self) -> SocketAddr {
        self.control
    }

    fn writes(&self, tab: usize) -> Vec<SystemTime> {
        let (now_us, moments) = story_of(self, tab);
        let now = SystemTime::now();
        let attempts = moments.iter().filter(|it| it["kind"] == "wrote" || it["kind"] == "disconnected");
        let ago = |moment: &Value| Duration::from_micros(now_us - moment["at_us"].as_u64().unwrap());
        attempts.map(|moment| now - ago(moment)).collect()
    }

    fn has_left(&self, tab: usize) -> bool {
        story_of(self, tab).1.iter().any(|moment| moment["kind"] == "finished")
    }
}

/// The timeline's current time in microseconds, and its moments for the stream of a tab.
fn story_of(server: &Server, tab: usize) -> (u64, Vec<Value>) {
    let (_, excerpt) = json(server.control, "GET", "/timeline");
    let moments = excerpt["moments"].as_array().unwrap();
    let target = format!("/models/live_stream?tab={tab}");
    let accepted = moments.iter().find(|moment| moment["target"] == *target).unwrap();
    let of_tab = moments.iter().filter(|moment| moment["request"] == accepted["request"]);
    (excerpt["now_us"].as_u64().unwrap(), of_tab.cloned().collect())
}

/// The real Puma. Dropping it kills the process and removes its folder.
struct Puma {
    _program: Program,
    version: String,
    app: SocketAddr,
    control: SocketAddr,
    folder: TempDir,
}

impl Puma {
    /// Starts Puma. Prints a message and returns `None` if Puma is not installed.
    fn start() -> Option<Puma> {
        let puma = program("puma")?;
        program("ruby")?;
        let folder = tempfile::tempdir().unwrap();
        let said = folder.path().join("said");
        let mut command = Command::new(puma);
        command
            .args(["-t", "8:8", "-e", "production", "-b", "tcp://127.0.0.1:0"])
            .args(["--control-url", "tcp://127.0.0.1:0", "--control-token", "none"])
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/live_stream.ru"))
            .env("UPDATE_RATE", UPDATE_RATE.as_secs_f64().to_string())
            .env("RECORD", folder.path().join("record"))
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(File::create(&said).unwrap())
            .stderr(File::options().append(true).open(&said).unwrap());
        let mut program = Program::start(&mut command).unwrap();
        let said = wait_for("Puma's addresses", || {
            let text = fs::read_to_string(&said).unwrap();
            if let Some(status) = program.status().unwrap() {
                panic!("puma ended with {status}: {text}");
            }
            text.contains("Use Ctrl-C").then_some(text)
        });
        let after = |words: &str| said.split_once(words).unwrap().1.split_whitespace().next().unwrap();
        let (app, control) = (after("Listening on http://"), after("control server on http://"));
        let (app, control) = (app.parse().unwrap(), control.parse().unwrap());
        let version = after("Puma version: ").to_owned();
        Some(Puma { _program: program, version, app, control, folder })
    }

    fn record(&self, tab: usize) -> Vec<(String, SystemTime)> {
        let text = fs::read_to_string(self.folder.path().join("record")).unwrap();
        let lines = text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        lines
            .filter(|fields| fields[0] == tab.to_string())
            .map(|fields| {
                let at = SystemTime::UNIX_EPOCH + Duration::from_micros(fields[2].parse().unwrap());
                (fields[1].to_owned(), at)
            })
            .collect()
    }
}

impl Peer for Puma {
    fn app(&self) -> SocketAddr {
        self.app
    }

    fn control(&self) -> SocketAddr {
        self.control
    }

    fn writes(&self, tab: usize) -> Vec<SystemTime> {
        let record = self.record(tab);
        record.into_iter().filter(|(deed, _)| deed == "writes").map(|(_, at)| at).collect()
    }

    fn has_left(&self, tab: usize) -> bool {
        self.record(tab).iter().any(|(deed, _)| deed == "left")
    }
}

/// The observations of one server during the scenario.
struct Seen {
    /// Which of tabs 1 to 9 stream while all are open.
    streaming: String,
    page: &'static str,
    held: Value,
    /// The number of the write, counted from tab 3's close, at which the server ended tab 3's stream: the lowest and
    /// the highest possible value.
    noticed_at_write: [usize; 2],
    /// How many events each of the other tabs received between tab 3's close and tab 9's first event (median).
    rounds: u64,
    ninth_streams: bool,
    capacity_after: u64,
    first_byte: Duration,
    event_after_write: Duration,
    /// The time from tab 3's last write to tab 9's first byte.
    handed_over: Duration,
}

fn play(peer: &dyn Peer) -> Seen {
    let url = |n| format!("http://{}/models/live_stream?tab={n}", peer.app());
    let open = |n| Tab::open(&url(n), Settings { name: format!("tab {n}"), ..Settings::default() }).unwrap();
    let events = |tab: &Tab| tab.progress().events;
    // Time is measured in rounds. Each iteration of a stream's loop sends one event.
    let wait_for_round = |tab: &Tab, rounds| {
        let count = events(tab) + rounds;
        tab.wait_for(|tab| tab.events >= count, PATIENCE).expect("another event");
    };

    // Tabs 1 to 8 have indexes 0 to 7.
    let mut tabs: Vec<Tab> = Vec::new();
    for n in 1..=8 {
        let tab = open(n);
        wait_for_round(&tab, 1);
        tabs.push(tab);
    }
    let ninth = open(9);
    wait_for_round(&tabs[0], 3);
    let with_first_byte = (1..=9).filter(|n| tabs.get(n - 1).unwrap_or(&ninth).first_byte().is_some());
    let streaming = with_first_byte.map(|n| n.to_string()).collect();
    let held = peer.stats();
    let page = match http::get(&format!("http://{}/up", peer.app()), 2 * UPDATE_RATE) {
        Ok(_) => "answered",
        Err(HttpError::NoFirstByte) => "no byte",
        Err(error) => panic!("the page: {error}"),
    };

    let third = tabs.remove(2);
    wait_for_round(&third, 1);
    // A server records a write only after making it.
    let received = events(&third) as usize;
    let written_before = wait_for("a record of every write that tab 3 received", || {
        Some(peer.writes(3).len()).filter(|written| *written >= received)
    });
    third.close();
    let written_after = peer.writes(3).len();
    let before: Vec<u64> = tabs.iter().map(&events).collect();
    let ninth_streams = ninth.wait_for(|tab| tab.events >= 1, PATIENCE).is_some();
    let rounds = median(tabs.iter().zip(before).map(|(tab, before)| events(tab) - before));
    wait_for("the end of tab 3's stream", || peer.has_left(3).then_some(()));
    let third_writes = peer.writes(3);

    let first_byte = median(tabs.iter().chain([&third]).map(|tab| tab.first_byte().unwrap()));
    let arrived = arrivals(&tabs[0], |what| matches!(what, Happens::Event(_)));
    let lags = peer.writes(1).into_iter().zip(arrived).map(|(written, arrived)| since(written, arrived));
    let event_after_write = median(lags);
    let ninth_came = arrivals(&ninth, |what| matches!(what, Happens::FirstByte { .. }))[0];
    let handed_over = since(*third_writes.last().unwrap(), ninth_came);

    drop((tabs, ninth));
    let capacity_after = wait_for("a return to the full pool capacity", || {
        peer.stats()["pool_capacity"].as_u64().filter(|capacity| *capacity == 8)
    });
    Seen {
        streaming,
        page,
        held,
        // The two numbers are equal unless a write happened between the two readings. In that case the close may have
        // come before or after that write.
        noticed_at_write: [third_writes.len() - written_after, third_writes.len() - written_before],
        rounds,
        ninth_streams,
        capacity_after,
        first_byte,
        event_after_write,
        handed_over,
    }
}

fn arrivals(tab: &Tab, wanted: impl Fn(&Happens) -> bool) -> Vec<SystemTime> {
    let happenings = tab.happenings().try_iter().filter(|happening| wanted(&happening.what));
    happenings.map(|happening| SystemTime::now() - happening.at.elapsed()).collect()
}

/// The time between two readings, or zero if they are in the wrong order. They come from two clocks.
fn since(earlier: SystemTime, later: SystemTime) -> Duration {
    later.duration_since(earlier).unwrap_or_default()
}

fn median<T: Ord + Copy>(values: impl IntoIterator<Item = T>) -> T {
    let mut values: Vec<T> = values.into_iter().collect();
    values.sort_unstable();
    values[values.len() / 2]
}

/// One observation of both servers, side by side.
struct Row {
    what: &'static str,
    puma: String,
    ours: String,
    held: bool,
    why: &'static str,
}

/// The table of observations. Each check adds a row.
struct Table {
    version: String,
    puma: Seen,
    ours: Seen,
    rows: Vec<Row>,
}

impl Table {
    fn row(&mut self, what: &'static str, look: impl Fn(&Seen) -> String, why: &'static str) -> &mut Row {
        let (puma, ours) = (look(&self.puma), look(&self.ours));
        self.rows.push(Row { what, puma, ours, held: true, why });
        self.rows.last_mut().unwrap()
    }

    /// Adds a row that expects the same value from both servers.
    fn same(&mut self, what: &'static str, expected: &str, look: impl Fn(&Seen) -> String) {
        let row = self.row(what, look, "the same");
        row.held = row.puma == expected && row.ours == expected;
    }

    /// Adds a row that expects different values from Puma and ninetabs, and gives the reason.
    fn differs(
        &mut self,
        what: &'static str,
        [puma, ours]: [&str; 2],
        why: &'static str,
        look: impl Fn(&Seen) -> String,
    ) {
        let row = self.row(what, look, why);
        row.held = row.puma == puma && row.ours == ours;
    }

    fn print(&self) {
        println!("| {:48} | {:>10} | {:>10} | |\n|---|---|---|---|", "observation", self.version, "ninetabs");
        for Row { what, puma, ours, why, held } in &self.rows {
            let verdict = if *held { "" } else { "**not as expected** " };
            println!("| {what:48} | {puma:>10} | {ours:>10} | {verdict}{why} |");
        }
    }
}

fn ms(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}

/// The times come from two clocks, so differences below a millisecond are meaningless.
fn about_ms(duration: Duration) -> String {
    if duration < Duration::from_millis(1) { "under 1 ms".into() } else { ms(duration) }
}

#[test]
fn nine_tabs_see_the_same_behavior_from_ninetabs_and_puma() {
    const CORK: &str = "Puma corks the socket, and the kernel holds a corked write for 200 ms";
    let Some(puma) = Puma::start() else { return };
    let rate = humantime::format_duration(UPDATE_RATE).to_string();
    let ours = Server::start(&["--threads", "8:8", "--loop", "faithful", "--update-rate", &rate]);
    // Both servers run at the same time, so that the machine is equally busy for both.
    let version = puma.version.clone();
    let (puma, ours) = std::thread::scope(|scope| {
        let puma = scope.spawn(|| play(&puma));
        let ours = play(&ours);
        (puma.join().unwrap(), ours)
    });

    let mut table = Table { version: format!("Puma {version}"), puma, ours, rows: Vec::new() };
    let is_5 = version.starts_with("5.");
    let stat =
        |name: &'static str| move |seen: &Seen| seen.held.get(name).map_or("-".into(), Value::to_string);
    table.same("tabs that stream", "12345678", |seen| seen.streaming.clone());
    table.same("a page while nine tabs are open", "no byte", |seen| seen.page.into());
    table.same("running while nine tabs are open", "8", stat("running"));
    table.same("pool_capacity while nine tabs are open", "0", stat("pool_capacity"));
    table.same("requests_count while nine tabs are open", "8", stat("requests_count"));
    table.differs(
        "backlog while nine tabs are open",
        [if is_5 { "0" } else { "1" }, "1"],
        "Puma 5 stops accepting while all threads are busy: tab 9 waits in the kernel. With Puma 8 and ninetabs, it waits in the queue",
        stat("backlog"),
    );
    table.differs(
        "busy_threads while nine tabs are open",
        [if is_5 { "-" } else { "9" }, "9"],
        "Puma 5 does not report it; with Puma 8 and ninetabs, queued requests count as busy",
        stat("busy_threads"),
    );
    table.same("write after tab 3's close that ends its stream", "2", |seen| {
        let [least, most] = seen.noticed_at_write;
        if least <= 2 && 2 <= most { "2".into() } else { format!("{least} to {most}") }
    });
    table.same("tab 9 streams afterward", "true", |seen| seen.ninth_streams.to_string());
    let rounds = |seen: &Seen| seen.rounds.to_string();
    table.row("rounds of the other tabs until tab 9 streams", rounds, "for information: about two");
    table.same("pool_capacity after all tabs have closed", "8", |seen| seen.capacity_after.to_string());
    let sooner = table.ours.first_byte < table.puma.first_byte;
    table.row("a tab's first byte, median of 8", |seen| ms(seen.first_byte), CORK).held = sooner;
    table.row("delay from a write to its event, median", |seen| about_ms(seen.event_after_write), CORK);
    table.row("tab 9's first byte after tab 3's last write", |seen| about_ms(seen.handed_over), CORK);
    table.print();
    let wrong: Vec<_> = table.rows.iter().filter(|row| !row.held).map(|row| row.what).collect();
    assert!(wrong.is_empty(), "not as expected: {wrong:?}");
}
