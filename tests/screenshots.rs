//! Screenshots of every page in every state that matters, for a person to look at:
//!
//! ```console
//! $ NINETABS_SCREENSHOTS=/tmp/shots cargo test --test all screenshots:: -- --ignored
//! ```
//!
//! A test cannot judge whether a picture is clear. These tests take the pictures, and check only that they can be
//! taken.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::common::chromedriver::{Browser, Tab};
use crate::common::{PATIENCE, Server, get, json, program};
use rustix::process::Signal;
use serde_json::json as object;

const SIZES: [(u32, u32); 4] = [(1280, 720), (1920, 1080), (1024, 768), (390, 844)];
const COLORED: &[&str] = &["light", "dark"];
/// Chromium keeps the black canvas after forced colors are turned off, so pictures in forced colors use a separate
/// browser.
const FORCED: &[&str] = &["forced"];

/// The folder for the pictures, or `None` if the variable is not set.
fn folder() -> Option<PathBuf> {
    let folder = PathBuf::from(std::env::var_os("NINETABS_SCREENSHOTS")?);
    fs::create_dir_all(&folder).unwrap();
    Some(folder)
}

struct Camera {
    browser: Browser,
    tab: Tab,
    folder: PathBuf,
    schemes: &'static [&'static str],
}

impl Camera {
    fn new(schemes: &'static [&'static str]) -> Option<Camera> {
        let folder = folder()?;
        let browser = Browser::start()?;
        let tab = browser.first_tab();
        let camera = Camera { browser, tab, folder, schemes };
        camera.set(SIZES[0], schemes[0]);
        Some(camera)
    }

    fn open(&self, url: &str) {
        self.browser.goto(&self.tab, url);
        self.wait("document.readyState === 'complete'");
    }

    /// Opens a page of the control server and waits until it shows numbers.
    fn open_control(&self, server: &Server, path: &str) {
        self.open(&format!("http://{}{path}", server.control));
        self.wait("document.body.dataset.connection === 'live' && feed.state !== null");
    }

    fn wait(&self, expression: &str) {
        self.browser.wait_for(&self.tab, expression);
    }

    fn set(&self, (width, height): (u32, u32), scheme: &str) {
        let size =
            object!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.browser.devtools(&self.tab, "Emulation.setDeviceMetricsOverride", &size);
        self.browser.prefer(&self.tab, scheme);
        // The page needs this time to redraw its canvas.
        thread::sleep(Duration::from_millis(250));
    }

    fn take(&self, name: &str) {
        fs::write(self.folder.join(format!("{name}.png")), self.browser.screenshot(&self.tab)).unwrap();
    }

    /// Takes a picture of the page in one size and in the camera's first scheme.
    fn take_one(&self, name: &str, size: (u32, u32)) {
        self.set(size, self.schemes[0]);
        self.take(&format!("{name}-{}x{}-{}", size.0, size.1, self.schemes[0]));
    }

    /// Takes a picture of the page in every size and scheme.
    fn take_all(&self, name: &str) {
        for size in SIZES {
            for scheme in self.schemes {
                self.set(size, scheme);
                self.take(&format!("{name}-{}x{}-{scheme}", size.0, size.1));
            }
        }
    }

    /// Takes pictures of the whole page, including the part below the edge of the screen.
    fn take_whole(&self, name: &str) {
        for width in [1280, 390] {
            for scheme in self.schemes {
                self.set((width, 844), scheme);
                let tall = self.browser.eval(&self.tab, "document.documentElement.scrollHeight");
                self.set((width, u32::try_from(tall.as_u64().unwrap()).unwrap().clamp(200, 12_000)), scheme);
                self.take(&format!("{name}-{width}-{scheme}"));
            }
        }
    }

    /// Prints the page to a PDF, and converts its pages to shades of gray if pdftoppm is installed. Does nothing for
    /// forced colors, because paper has none.
    fn print(&self, name: &str) {
        if self.schemes != COLORED {
            return;
        }
        let pdf = self.folder.join(format!("{name}.pdf"));
        self.browser.devtools(&self.tab, "Emulation.clearDeviceMetricsOverride", &object!({}));
        fs::write(&pdf, self.browser.print(&self.tab)).unwrap();
        if let Some(pdftoppm) = program("pdftoppm") {
            let mut command = Command::new(pdftoppm);
            command.args(["-gray", "-r", "60", "-png"]).arg(&pdf);
            command.arg(pdf.with_file_name(format!("{name}-print"))).output().unwrap();
        }
    }
}

fn server() -> Server {
    Server::start(&["--update-rate", "1", "--retry", "2", "--produce-every", "2"])
}

#[test]
#[ignore = "takes pictures for a person to look at; set NINETABS_SCREENSHOTS to a folder"]
fn of_the_wall_and_its_tour() {
    wall_and_its_tour(COLORED);
}

#[test]
#[ignore = "takes pictures for a person to look at; set NINETABS_SCREENSHOTS to a folder"]
fn of_the_wall_and_its_tour_in_forced_colors() {
    wall_and_its_tour(FORCED);
}

fn wall_and_its_tour(schemes: &'static [&'static str]) {
    let Some(camera) = Camera::new(schemes) else { return };
    let server = server();
    let states = |count: usize| {
        camera.wait(&format!("wall.tabs.filter(tab => tab.state === 'streaming').length === {count}"));
    };
    camera.open_control(&server, "/wall?start=no");
    camera.take_all("wall-empty");
    camera.browser.run(&camera.tab, "wall.openAll()");
    states(8);
    camera.wait("wall.tabs[8].state === 'waiting-for-thread'");
    thread::sleep(Duration::from_secs(6));
    camera.take_all("wall-nine");
    camera.print("wall-nine");
    camera.browser.run(&camera.tab, "wall.tabs[2].close()");
    thread::sleep(Duration::from_millis(300));
    camera.take_one("wall-closed", SIZES[0]);
    camera.take_one("wall-closed", SIZES[1]);
    camera.wait("wall.tabs[8].state === 'streaming'");
    camera.take_all("wall-freed");
    camera.browser.run(&camera.tab, "freeze.toggle()");
    camera.wait("freeze.moments.length > 0");
    camera.take_all("wall-frozen");
    camera.browser.run(&camera.tab, "freeze.end()");
    assert_eq!(json(server.control, "POST", "/max-stream-age?secs=2").0, 200);
    camera.wait("wall.tabs.some(tab => ['reaped', 'reconnecting'].includes(tab.state))");
    camera.take_all("wall-reaped");
    assert_eq!(json(server.control, "POST", "/max-stream-age?secs=off").0, 200);
    camera.browser.run(&camera.tab, "wall.begin(9, 'one')");
    states(6);
    thread::sleep(Duration::from_secs(2));
    camera.take_all("wall-one-host");
    camera.browser.run(&camera.tab, "wall.closeAll()");
    camera.wait("feed.state.stats.busy_threads === 0");
    for path in ["/lab/zombies?count=8", "/lab/page"] {
        assert_eq!(json(server.control, "POST", path).0, 200);
    }
    thread::sleep(Duration::from_secs(3));
    camera.take_all("wall-zombies");
    assert_eq!(json(server.control, "POST", "/lab/reset").0, 200);

    for step in 1..=7 {
        camera.open_control(&server, &format!("/wall?tour=1&step={step}"));
        camera.wait("document.getElementById('guesses').children.length > 1");
        camera.take_one(&format!("tour-{step}-asks"), SIZES[0]);
        if step <= 6 {
            camera.browser.click(&camera.tab, "#guesses button");
            camera.browser.click(&camera.tab, "#do");
            let end = std::time::Instant::now() + 3 * PATIENCE;
            let is_over = "['held', 'not-held'].includes(document.getElementById('tour').dataset.verdict)";
            while camera.browser.eval(&camera.tab, is_over) != true && std::time::Instant::now() < end {
                thread::sleep(Duration::from_millis(200));
            }
            camera.take_all(&format!("tour-{step}-over"));
        }
    }
    assert_eq!(json(server.control, "POST", "/lab/reset").0, 200);
    camera.open_control(&server, "/wall");
    states(8);
    assert_eq!(json(server.control, "POST", "/max-stream-age?secs=3").0, 200);
    camera.wait("wall.tabs.some(tab => ['reaped', 'reconnecting'].includes(tab.state))");
    drop(server);
    camera.wait("document.body.dataset.connection !== 'live'");
    camera.take_all("wall-server-gone");
}

#[test]
#[ignore = "takes pictures for a person to look at; set NINETABS_SCREENSHOTS to a folder"]
fn of_the_dashboard() {
    dashboard(COLORED);
}

#[test]
#[ignore = "takes pictures for a person to look at; set NINETABS_SCREENSHOTS to a folder"]
fn of_the_dashboard_in_forced_colors() {
    dashboard(FORCED);
}

fn dashboard(schemes: &'static [&'static str]) {
    let Some(camera) = Camera::new(schemes) else { return };
    let server = server();
    camera.open_control(&server, "/");
    camera.take_all("dashboard-empty");
    let order = |path: &str| assert_eq!(json(server.control, "POST", path).0, 200, "{path}");
    (0..9).for_each(|_| order("/lab/tabs/open"));
    order("/lab/page");
    thread::sleep(Duration::from_secs(6));
    camera.take_all("dashboard-nine");
    order("/lab/tabs/close?tab=3");
    thread::sleep(Duration::from_millis(300));
    camera.take_one("dashboard-closed", SIZES[0]);
    camera.wait("feed.state.stats.streams.disconnected > 0");
    camera.take_all("dashboard-freed");
    camera.browser.run(
        &camera.tab,
        "document.getElementById('as-table').click(); document.getElementById('explain').click()",
    );
    camera.take_whole("dashboard-whole");
    camera.print("dashboard-whole");
    camera.browser.run(&camera.tab, "freeze.toggle()");
    camera.wait("freeze.moments.length > 0");
    camera.take_all("dashboard-frozen");
    camera.browser.run(&camera.tab, "freeze.end()");
    order("/lab/reset");
    order("/lab/zombies?count=8");
    order("/lab/page");
    thread::sleep(Duration::from_secs(3));
    camera.take_all("dashboard-zombies");
    order("/reap");
    thread::sleep(Duration::from_secs(1));
    camera.take_all("dashboard-reaped");
    drop(server);
    camera.wait("document.body.dataset.connection !== 'live'");
    camera.take_all("dashboard-server-gone");
}

#[test]
#[ignore = "takes pictures for a person to look at; set NINETABS_SCREENSHOTS to a folder"]
fn of_two_servers() {
    two_servers(COLORED);
}

#[test]
#[ignore = "takes pictures for a person to look at; set NINETABS_SCREENSHOTS to a folder"]
fn of_two_servers_in_forced_colors() {
    two_servers(FORCED);
}

fn two_servers(schemes: &'static [&'static str]) {
    let Some(camera) = Camera::new(schemes) else { return };
    let server = server();
    camera.open_control(&server, "/wall?beside=push");
    camera.wait("wall.tabs.filter(tab => tab.state === 'streaming').length === 8");
    thread::sleep(Duration::from_secs(6));
    camera.take_all("beside-nine");
    camera.print("beside-nine");
    assert_eq!(json(server.control, "POST", "/lab/reset").0, 200);
}

#[test]
#[ignore = "takes pictures for a person to look at; set NINETABS_SCREENSHOTS to a folder"]
fn of_the_app_and_the_fixes() {
    app_and_the_fixes(COLORED);
}

#[test]
#[ignore = "takes pictures for a person to look at; set NINETABS_SCREENSHOTS to a folder"]
fn of_the_app_and_the_fixes_in_forced_colors() {
    app_and_the_fixes(FORCED);
}

fn app_and_the_fixes(schemes: &'static [&'static str]) {
    let Some(camera) = Camera::new(schemes) else { return };
    let server = server();
    camera.open(&server.url("/?tab=1"));
    camera.wait("document.body.dataset.state === 'streaming'");
    thread::sleep(Duration::from_secs(3));
    camera.take_whole("app");
    camera.print("app");
    let (_, list) = get(server.app, "/fixes");
    let links = list.split("href=\"/fixes/").skip(1);
    let mut fixes: Vec<_> = links.map(|rest| rest.split(['"', '?', '#', '/']).next().unwrap()).collect();
    fixes.sort();
    fixes.dedup();
    camera.open(&server.url("/fixes"));
    thread::sleep(Duration::from_secs(1));
    camera.take_whole("fixes");
    camera.print("fixes");
    for fix in fixes {
        camera.open(&server.url(&format!("/fixes/{fix}")));
        thread::sleep(Duration::from_secs(2));
        camera.take_whole(&format!("fix-{fix}"));
        camera.print(&format!("fix-{fix}"));
    }
}

#[test]
#[ignore = "takes pictures for a person to look at; set NINETABS_SCREENSHOTS to a folder"]
fn of_a_page_whose_server_is_stopped() {
    let Some(camera) = Camera::new(COLORED) else { return };
    let server = server();
    camera.open(&server.url("/fixes/push"));
    camera.wait("document.getElementById('stream-state').textContent === 'streams'");
    server.signal(Signal::STOP);
    camera.wait("document.getElementById('stream-state').textContent.startsWith('silent')");
    // Keeps this state, which otherwise lasts for about a second.
    camera.browser.run(
        &camera.tab,
        "const last = setTimeout(() => {}); for (let timer = 1; timer <= last; timer++) clearTimeout(timer);",
    );
    camera.take_whole("fix-push-silent");
}

#[test]
#[ignore = "takes pictures for a person to look at; set NINETABS_SCREENSHOTS to a folder"]
fn without_script() {
    let Some(camera) = Camera::new(COLORED) else { return };
    let server = server();
    camera.browser.devtools(&camera.tab, "Emulation.setScriptExecutionDisabled", &object!({ "value": true }));
    for (name, url) in [
        ("wall", format!("http://{}/wall", server.control)),
        ("tour", format!("http://{}/wall?tour=1", server.control)),
        ("dashboard", format!("http://{}/", server.control)),
        ("app", server.url("/?tab=1")),
        ("fixes", server.url("/fixes")),
        ("push", server.url("/fixes/push")),
    ] {
        camera.browser.goto(&camera.tab, &url);
        thread::sleep(Duration::from_secs(2));
        for size in [SIZES[0], SIZES[3]] {
            camera.set(size, "light");
            camera.take(&format!("without-script-{name}-{}", size.0));
        }
    }
    camera.browser.devtools(
        &camera.tab,
        "Emulation.setScriptExecutionDisabled",
        &object!({ "value": false }),
    );
}

#[test]
#[ignore = "takes pictures for a person to look at; set NINETABS_SCREENSHOTS to a folder"]
fn of_the_reports() {
    reports(COLORED);
}

#[test]
#[ignore = "takes pictures for a person to look at; set NINETABS_SCREENSHOTS to a folder"]
fn of_the_reports_in_forced_colors() {
    reports(FORCED);
}

fn reports(schemes: &'static [&'static str]) {
    let Some(camera) = Camera::new(schemes) else { return };
    let run = |arguments: &[&str], name: &str| {
        let path = camera.folder.join(name);
        let mut command = Command::new(env!("CARGO_BIN_EXE_ninetabs"));
        let output =
            command.args(arguments).arg("--report").arg(&path).stdin(Stdio::null()).output().unwrap();
        fs::write(path.with_extension("txt"), &output.stdout).unwrap();
        path
    };
    let reports = [
        ("report-run", run(&["reproduce", "--fast"], "run.html")),
        ("report-failed", run(&["reproduce", "1", "--fast", "--program", "/bin/true"], "failed.html")),
        ("report-compare", run(&["compare", "--fast"], "compare.html")),
    ];
    for (name, path) in &reports {
        camera.open(&format!("file://{}", path.display()));
        camera.take_whole(name);
        camera.print(name);
    }
}
