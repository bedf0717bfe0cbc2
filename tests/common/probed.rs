//! The real servers that `ninetabs probe` is tested against. They run the applications in `tests/data/probe`.

use std::ffi::OsStr;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use ninetabs::lab::http;
use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

use super::{program, wait_for};

const APPS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/probe");

/// A server and the processes behind it, all of which are killed when it is dropped.
pub struct Probed {
    groups: Vec<Child>,
    folder: TempDir,
    port: u16,
    control: Option<u16>,
    is_tls: bool,
}

impl Probed {
    /// `node node_app.js PORT`
    pub fn node() -> Option<Probed> {
        let node = program("node")?;
        let mut probed = Probed::on(free_port());
        probed.run(Command::new(node).arg(app("node_app.js")).arg(probed.port.to_string()));
        probed.until_it_answers()
    }

    /// `puma -t THREADS rack.ru`
    pub fn puma(threads: &str) -> Option<Probed> {
        let puma = program("puma")?;
        let mut probed = Probed::on(free_port()).with_control();
        let command = &mut Command::new(puma);
        probed.run(command.args(probed.puma_flags(threads)).arg(app("rack.ru")));
        probed.until_it_answers()
    }

    /// Like `puma`, with at most this many descriptors.
    pub fn puma_with_descriptors(threads: &str, descriptors: u32) -> Option<Probed> {
        let puma = program("puma")?;
        let mut probed = Probed::on(free_port()).with_control();
        let script = format!("ulimit -n {descriptors}; exec \"$@\"");
        let command = &mut Command::new("bash");
        command.args(["-c", &script, "bash"]).arg(puma).args(probed.puma_flags(threads));
        probed.run(command.arg(app("rack.ru")));
        probed.until_it_answers()
    }

    /// `puma -t 8:8 rails.ru`: five database connections.
    pub fn rails() -> Option<Probed> {
        let puma = program("puma").filter(|_| has_rails())?;
        let mut probed = Probed::on(free_port()).with_control();
        let command = &mut Command::new(puma);
        command.args(probed.puma_flags("8:8")).arg(app("rails.ru"));
        probed.run(command.env("RAILS_DB", probed.folder.path().join("models.sqlite3")));
        probed.until_it_answers()
    }

    /// `gunicorn FLAGS wsgi:app`
    pub fn gunicorn(flags: &[&str]) -> Option<Probed> {
        let gunicorn = python_program("gunicorn")?;
        let mut probed = Probed::on(free_port());
        let command = &mut Command::new(gunicorn);
        command.args(["--no-control-socket", "-b", &format!("127.0.0.1:{}", probed.port), "wsgi:app"]);
        probed.run(command.args(flags));
        probed.until_it_answers()
    }

    /// `waitress-serve --threads=THREADS wsgi:app`
    pub fn waitress(threads: u8) -> Option<Probed> {
        let waitress = python_program("waitress-serve")?;
        let mut probed = Probed::on(free_port());
        let command = &mut Command::new(waitress);
        command.args([format!("--listen=127.0.0.1:{}", probed.port), format!("--threads={threads}")]);
        probed.run(command.arg("wsgi:app"));
        probed.until_it_answers()
    }

    /// Flask's own server, with one thread.
    pub fn flask() -> Option<Probed> {
        python_program("flask")?;
        let python = python_program("python3")?;
        let mut probed = Probed::on(free_port());
        let command = &mut Command::new(python);
        probed.run(command.arg(app("flask_app.py")).env("PORT", probed.port.to_string()));
        probed.until_it_answers()
    }

    /// nginx in front of this server, with these directives in addition to `proxy_pass`.
    pub fn behind_nginx(self, directives: &str) -> Option<Probed> {
        self.behind_nginx_that("", directives)
    }

    /// The same over TLS with a self-signed certificate, and with at most this many HTTP/2 streams per connection.
    pub fn behind_nginx_with_http2(mut self, streams: usize) -> Option<Probed> {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let (certificate, key) = (self.folder.path().join("cert.pem"), self.folder.path().join("key.pem"));
        fs::write(&certificate, pem("CERTIFICATE", made.cert.der())).unwrap();
        fs::write(&key, pem("PRIVATE KEY", &made.signing_key.serialize_der())).unwrap();
        self.is_tls = true;
        let listens = format!(
            " ssl http2; http2_max_concurrent_streams {streams}; ssl_certificate {}; ssl_certificate_key {}",
            certificate.display(),
            key.display()
        );
        self.behind_nginx_that(&listens, "proxy_http_version 1.1; proxy_buffering off;")
    }

    fn behind_nginx_that(mut self, listens: &str, directives: &str) -> Option<Probed> {
        let nginx = program("nginx")?;
        let upstream = std::mem::replace(&mut self.port, free_port());
        self.control = None;
        let folder = self.folder.path();
        let template = fs::read_to_string(app("nginx.conf")).unwrap();
        // The first line explains the template.
        let (_, template) = template.split_once('\n').unwrap();
        let configuration = template
            .replace("PORT;", &format!("{}{listens};", self.port))
            .replace("UPSTREAM", &upstream.to_string())
            .replace("FOLDER", folder.to_str().unwrap())
            .replace("MORE", directives);
        let path = folder.join("nginx.conf");
        fs::write(&path, configuration).unwrap();
        let command = &mut Command::new(nginx);
        command.arg("-p").arg(folder).arg("-c").arg(path);
        self.run(command);
        self.until_it_answers()
    }

    pub fn url(&self, path: &str) -> String {
        let scheme = if self.is_tls { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}{path}", self.port)
    }

    pub fn control_url(&self) -> Option<String> {
        self.control.map(|port| format!("http://127.0.0.1:{port}"))
    }

    /// The output of the processes.
    pub fn said(&self) -> String {
        fs::read_to_string(self.folder.path().join("said")).unwrap_or_default()
    }

    fn on(port: u16) -> Probed {
        Probed {
            groups: Vec::new(),
            folder: tempfile::tempdir().unwrap(),
            port,
            control: None,
            is_tls: false,
        }
    }

    fn with_control(mut self) -> Probed {
        self.control = Some(free_port());
        self
    }

    fn puma_flags(&self, threads: &str) -> Vec<String> {
        let control = self.control.expect("a control server");
        let (bind, control) =
            (format!("tcp://127.0.0.1:{}", self.port), format!("tcp://127.0.0.1:{control}"));
        let flags = ["-C", "/dev/null", "-b", &bind, "--control-url", &control, "--control-token", "none"];
        flags.into_iter().chain(["-t", threads]).map(str::to_owned).collect()
    }

    /// Starts the command in its own process group.
    fn run(&mut self, command: &mut Command) {
        let path = self.folder.path().join("said");
        let said = fs::File::options().create(true).append(true).open(path).unwrap();
        command
            .current_dir(&self.folder)
            .env("HOME", self.folder.path())
            .env("PYTHONPATH", APPS)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::null())
            .stdout(said.try_clone().unwrap())
            .stderr(said)
            .process_group(0);
        self.groups.push(command.spawn().unwrap());
    }

    fn until_it_answers(mut self) -> Option<Probed> {
        wait_for("an answer from the server", || {
            let ended = self.groups.iter_mut().find_map(|child| child.try_wait().unwrap());
            assert!(ended.is_none(), "the server ended with {ended:?}: {}", self.said());
            if self.is_tls {
                return TcpStream::connect(("127.0.0.1", self.port)).ok().map(|_| ());
            }
            let answer = http::get(&self.url("/page"), Duration::from_secs(5));
            answer.ok().filter(|answer| answer.status() == 200).map(|_| ())
        });
        Some(self)
    }
}

impl Drop for Probed {
    fn drop(&mut self) {
        for child in &mut self.groups {
            // A group remains until its last process has ended.
            let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
            let _ = child.wait();
        }
    }
}

fn pem(kind: &str, der: &[u8]) -> String {
    let text = data_encoding::BASE64.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", lines.join("\n"))
}

fn app(name: &str) -> PathBuf {
    Path::new(APPS).join(name)
}

/// A port that was free a moment ago. It is below the ports that the kernel assigns to outgoing connections, so a
/// connection of another test cannot take it.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = std::process::id() as u16 % 10_000;
    loop {
        let port = 20_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000;
        if TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).is_ok() {
            return port;
        }
    }
}

/// A program from the virtual environment that `PROBE_VENV` names, or from `PATH`.
fn python_program(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("PROBE_VENV").map(|venv| Path::new(&venv).join("bin"));
    folder.map(|folder| folder.join(name)).filter(|file| file.is_file()).or_else(|| program(name))
}

/// Whether Debian's Rails is installed. If not, prints a message and returns false. With `CI` set, the test fails
/// instead.
fn has_rails() -> bool {
    let Some(ruby) = program("ruby") else { return false };
    let required = "require 'action_controller/railtie'; require 'active_record/railtie'; require 'sqlite3'";
    let script = [OsStr::new("-e"), OsStr::new(required)];
    let has_it = Command::new(ruby).args(script).output().unwrap().status.success();
    if !has_it {
        assert!(std::env::var_os("CI").is_none(), "Rails is not installed, and CI is set");
        eprintln!("skipped: Rails is not installed (ruby-rails, ruby-sqlite3)");
    }
    has_it
}
