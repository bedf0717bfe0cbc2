//! `cluster`: one command for several servers, their database, a balancer, and tabs that check what arrives.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use ninetabs::lab::cluster::postgres::installed;
use ninetabs::lab::http;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::common::batch::batch;
use crate::common::{PATIENCE, hear, names, program, set_mode, wait_for};

batch! {
    crate::several::BATCH:
    one_command_shows_three_servers_nine_tabs_and_each_model_once,
    sqlite_needs_nothing_that_is_installed,
    tabs_get_each_model_once_while_a_server_and_the_engine_are_killed_and_stopped,
    tabs_of_a_stopped_server_move_and_a_killed_haproxy_starts_again_on_its_port,
    nothing_is_left_after_an_interrupt_or_a_kill_at_any_step,
    a_closed_pipe_ends_everything_without_an_error,
    a_folder_a_limit_or_a_program_that_is_missing_is_named_in_one_line,
    a_server_that_does_not_start_ends_the_command_with_its_reason,
    act_8_of_reproduce_holds_and_without_postgresql_it_is_skipped,
    act_9_of_reproduce_holds_and_without_postgresql_it_is_skipped,
    act_10_of_reproduce_holds_and_without_postgresql_it_is_skipped,
    the_claims_of_act_10_fail_if_the_servers_open_fewer_connections,
    a_killed_act_10_leaves_neither_a_pooler_nor_a_server_behind,
    the_claims_of_act_9_fail_if_numbers_are_assigned_without_the_lock,
    arguments_that_do_not_fit_are_wrong_usage,
    an_existing_database_keeps_its_models,
}

/// The command, with its temporary files in a folder of its own.
pub(crate) struct Running {
    child: Child,
    /// `None` after it was closed.
    stdout: Option<BufReader<ChildStdout>>,
    folder: TempDir,
    said: String,
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    // If the tests run as root, the engine runs as another user.
    set_mode(folder, 0o711);
    let mut command = Command::new(env!("CARGO_BIN_EXE_ninetabs"));
    command.arg("cluster").args(arguments).env("TMPDIR", folder).stdin(Stdio::null());
    command
}

fn output(arguments: &[&str]) -> (Output, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (command(folder.path(), arguments).output().unwrap(), folder)
}

pub(crate) fn is_installed() -> bool {
    if installed().is_none() {
        assert!(std::env::var_os("CI").is_none(), "PostgreSQL is not installed, and CI is set");
        eprintln!("skipped: PostgreSQL is not installed");
    }
    installed().is_some()
}

fn wait_until_empty(folder: &TempDir) {
    wait_for("the removal of all temporary files", || names(folder.path()).is_empty().then_some(()));
}

impl Running {
    pub fn start(arguments: &[&str]) -> Running {
        let folder = tempfile::tempdir().unwrap();
        let mut child = command(folder.path(), arguments).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = child.stdout.take().map(BufReader::new);
        Running { child, stdout, folder, said: String::new() }
    }

    /// Reads until a line with these words, and returns the process that the line names.
    pub fn hear(&mut self, words: &str) -> Pid {
        let said = hear(self.stdout.as_mut().unwrap(), words);
        self.said.push_str(&said);
        let number = said.lines().last().unwrap().split("(process ").nth(1);
        let number = number.and_then(|rest| rest.split(')').next()?.parse().ok());
        number.and_then(Pid::from_raw).unwrap_or(Pid::INIT)
    }

    /// The address that the newest line with these words names, without a slash at its end.
    pub fn address(&self, words: &str) -> &str {
        let line = self.said.lines().rev().find(|line| line.contains(words)).unwrap();
        let address = line.split(": ").nth(1).unwrap().split(',').next().unwrap();
        address.trim_end_matches('/')
    }

    /// The address of this server's control server.
    fn control(&self, number: u32) -> String {
        let line = self.said.lines().rev().find(|line| line.starts_with(&format!("Server {number} (")));
        line.unwrap().split("control ").nth(1).unwrap().trim_end_matches('/').to_owned()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end. Returns its status and the rest of what it said.
    pub fn end(&mut self) -> (ExitStatus, String) {
        let mut rest = String::new();
        if let Some(stdout) = &mut self.stdout {
            stdout.read_to_string(&mut rest).unwrap();
        }
        (wait_for("the end of the command", || self.child.try_wait().unwrap()), rest)
    }

    /// Every process that it named.
    fn processes(&self) -> Vec<Pid> {
        let numbers =
            self.said.split("(process ").skip(1).filter_map(|rest| rest.split(')').next()?.parse().ok());
        numbers.filter_map(Pid::from_raw).collect()
    }

    pub fn expect_nothing_left(&self) {
        wait_until_empty(&self.folder);
        for process in self.processes() {
            wait_for("the end of every process", || test_kill_process(process).is_err().then_some(()));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The files in /dev/shm that an engine has mapped which was started by the `initdb` of this folder.
fn shared_memory(folder: &Path) -> Option<BTreeSet<PathBuf>> {
    let folder = folder.to_str().unwrap();
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| Some(entry.ok()?.path()));
    let mut initdb = processes.filter(|process| {
        let read = |name: &str| fs::read_to_string(process.join(name)).unwrap_or_default();
        read("comm") == "initdb\n" && read("cmdline").contains(folder)
    });
    let initdb = Pid::from_raw(initdb.next()?.file_name()?.to_str()?.parse().ok()?)?;
    let maps = with_children(initdb)
        .into_iter()
        .flat_map(with_children)
        .map(|process| format!("/proc/{}/maps", process.as_raw_nonzero()));
    let maps: String = maps.filter_map(|file| fs::read_to_string(file).ok()).collect();
    let files = maps.lines().filter_map(|line| Some(Path::new("/").join(line.split_once(" /")?.1)));
    Some(files.filter(|file| file.starts_with("/dev/shm")).collect())
}

/// All processes of an engine.
pub(crate) fn with_children(postmaster: Pid) -> Vec<Pid> {
    let id = postmaster.as_raw_nonzero();
    let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
    let children = children.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?));
    std::iter::once(postmaster).chain(children).collect()
}

pub(crate) fn signal_all(processes: &[Pid], signal: Signal) {
    for process in processes {
        // It may have ended in the meantime.
        let _ = kill_process(*process, signal);
    }
}

fn expect_each_model_once(report: &Value, servers: u64, tabs: usize) {
    assert_eq!((&report["held"], &report["servers"]), (&true.into(), &servers.into()), "{report}");
    let deliveries = report["deliveries"].as_array().unwrap();
    assert_eq!(deliveries.len(), tabs);
    for delivery in deliveries {
        assert_eq!((&delivery["repeated"], &delivery["missed"]), (&0.into(), &0.into()), "{report}");
        assert!(delivery["received"].as_u64() > Some(0), "{report}");
    }
}

fn one_command_shows_three_servers_nine_tabs_and_each_model_once() {
    if !is_installed() {
        return;
    }
    // Without it, the tabs get the addresses of the servers.
    program("haproxy");
    let (output, folder) = output(&["--for", "3", "--json", "--", "--produce-every", "0.1"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    expect_each_model_once(&report, 3, 9);
    assert_eq!(output.status.code(), Some(0), "{report}");
    wait_until_empty(&folder);
}

fn sqlite_needs_nothing_that_is_installed() {
    let arguments = ["--engine", "sqlite3", "--servers", "2", "--tabs", "3", "--for", "2", "--json"];
    let (output, folder) = output(&[&arguments[..], &["--", "--produce-every", "0.1"]].concat());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    expect_each_model_once(&report, 2, 3);
    wait_until_empty(&folder);
}

fn tabs_get_each_model_once_while_a_server_and_the_engine_are_killed_and_stopped() {
    if !is_installed() {
        return;
    }
    let mut running = Running::start(&["--", "--produce-every", "0.1", "--retry", "1"]);
    let postgres = running.hear("PostgreSQL ");
    let server = running.hear("Server 2 ");
    running.hear("tabs listen");

    kill_process(server, Signal::KILL).unwrap();
    running.hear(&format!("Server 2 (process {}) ended", server.as_raw_nonzero()));
    running.hear("Server 2 (process");

    signal_all(&with_children(postgres), Signal::KILL);
    running.hear("PostgreSQL ended");
    let postgres = running.hear("PostgreSQL ");

    // Every server listens again before the engine stops.
    std::thread::sleep(Duration::from_secs(2));
    let processes = with_children(postgres);
    signal_all(&processes, Signal::STOP);
    running.hear("receives no notifications");
    signal_all(&processes, Signal::CONT);
    running.hear("receives notifications again");

    running.signal(Signal::INT);
    let (status, said) = running.end();
    assert!(said.contains("9 of 9 tabs received each model once and in order"), "{}{said}", running.said);
    assert_eq!(status.code(), Some(0), "{}{said}", running.said);
    running.expect_nothing_left();
}

/// How many tabs listen to the servers with these control addresses.
fn listeners(controls: &[String]) -> u64 {
    let open = |control: &String| {
        let stats = http::get(&format!("{control}/stats"), PATIENCE).unwrap().json().unwrap();
        stats["listeners"]["open"].as_u64().unwrap()
    };
    controls.iter().map(open).sum()
}

fn tabs_of_a_stopped_server_move_and_a_killed_haproxy_starts_again_on_its_port() {
    if program("haproxy").is_none() {
        return;
    }
    let arguments = ["--engine", "sqlite3", "--servers", "2", "--tabs", "4"];
    let flags = ["--", "--produce-every", "0.2", "--retry", "1"];
    let mut running = Running::start(&[&arguments[..], &flags].concat());
    running.hear("Server 1 ");
    let server = running.hear("Server 2 ");
    let haproxy = running.hear("HAProxy ");
    running.hear("tabs listen");
    let controls = [1, 2].map(|n| running.control(n));
    let address = running.address("HAProxy ").to_owned();
    wait_for("a tab at each server", || {
        controls.iter().all(|it| listeners(std::slice::from_ref(it)) > 0).then_some(())
    });

    kill_process(server, Signal::STOP).unwrap();
    running.hear("Server 2 does not answer");
    wait_for("all tabs at server 1", || (listeners(&controls[..1]) == 4).then_some(()));
    kill_process(server, Signal::CONT).unwrap();
    running.hear("Server 2 answers again");

    kill_process(haproxy, Signal::KILL).unwrap();
    running.hear("HAProxy ended");
    let haproxy = running.hear("HAProxy (process");
    assert_eq!(running.address("HAProxy (process"), address);
    wait_for("all tabs", || (listeners(&controls) == 4).then_some(()));

    // A stopped HAProxy delays the models.
    kill_process(haproxy, Signal::STOP).unwrap();
    std::thread::sleep(Duration::from_secs(2));
    kill_process(haproxy, Signal::CONT).unwrap();

    running.signal(Signal::INT);
    let (status, said) = running.end();
    assert!(said.contains("4 of 4 tabs received each model once and in order"), "{}{said}", running.said);
    assert_eq!(status.code(), Some(0), "{}{said}", running.said);
    running.expect_nothing_left();
}

fn nothing_is_left_after_an_interrupt_or_a_kill_at_any_step() {
    if !is_installed() {
        return;
    }
    // While initdb runs an engine that has shared memory outside of the folder.
    for signal in [Signal::INT, Signal::KILL] {
        let mut running = Running::start(&[]);
        let shared = wait_for("shared memory", || {
            Some(shared_memory(running.folder.path())?).filter(|it| !it.is_empty())
        });
        running.signal(signal);
        let (status, _) = running.end();
        assert_eq!(status.code(), (signal == Signal::INT).then_some(130));
        running.expect_nothing_left();
        assert!(shared.iter().all(|file| !file.exists()), "{shared:?}");
    }

    // While the servers start.
    let mut running = Running::start(&[]);
    running.hear("PostgreSQL ");
    running.signal(Signal::TERM);
    assert_eq!(running.end().0.code(), Some(130));
    running.expect_nothing_left();

    // With the engine stopped, and with a program of the user in its folder, which keeps running.
    let mut running = Running::start(&["--servers", "2", "--tabs", "2"]);
    let postgres = running.hear("PostgreSQL ");
    running.hear("tabs listen");
    let pg = names(running.folder.path()).into_iter().find(|name| name.starts_with("ninetabs-pg")).unwrap();
    let data = running.folder.path().join(pg).join("pg/data");
    let mut theirs = Command::new("sleep").arg("600").current_dir(data).spawn().unwrap();
    signal_all(&with_children(postgres), Signal::STOP);
    running.signal(Signal::KILL);
    running.end();
    running.expect_nothing_left();
    let ended = theirs.try_wait().unwrap();
    theirs.kill().unwrap();
    assert_eq!((ended, theirs.wait().unwrap().success()), (None, false));
}

fn a_closed_pipe_ends_everything_without_an_error() {
    let arguments = ["--engine", "sqlite3", "--servers", "1", "--tabs", "1"];
    let mut running = Running::start(&arguments);
    running.hear("SQLite");
    running.hear("Server 1 ");
    drop(running.stdout.take());
    assert_eq!(running.end().0.code(), Some(0));
    running.expect_nothing_left();
}

fn a_folder_a_limit_or_a_program_that_is_missing_is_named_in_one_line() {
    if !is_installed() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let [long, closed, few] = ["x".repeat(90), "closed".to_owned(), "few".to_owned()].map(|name| {
        let path = folder.path().join(name);
        fs::create_dir(&path).unwrap();
        path
    });
    let below = closed.join("below");
    fs::create_dir(&below).unwrap();
    set_mode(&closed, 0o700);
    std::os::unix::fs::symlink(program("sh").unwrap(), few.join("sh")).unwrap();
    let mut cases =
        vec![("TMPDIR", &long, "and at most 107 are possible: set TMPDIR to a folder with a shorter path")];
    // The engine runs as another user.
    if rustix::process::geteuid().is_root() {
        cases.push(("TMPDIR", &below, "closed: set TMPDIR to a folder that it can enter"));
        cases.push(("PATH", &few, "cannot run id: No such file or directory (os error 2); add the folder"));
    }
    for (variable, value, words) in cases {
        let output = command(folder.path(), &[]).env(variable, value).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(words), "{said}");
        assert_eq!(
            (output.status.code(), said.lines().count(), output.stdout.len()),
            (Some(1), 1, 0),
            "{said}"
        );
    }
    let plain = command(folder.path(), &["--tabs", "100"]);
    let mut limited = Command::new("sh");
    limited
        .args(["-c", "ulimit -n 200 && exec \"$@\"", "sh"])
        .arg(plain.get_program())
        .args(plain.get_args());
    let output = limited.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let words = "ninetabs: --tabs 100: the limit of descriptors is 200, ";
    assert!(said.starts_with(words) && said.contains("give at most 36 tabs"), "{said}");
    assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
    wait_for("the removal of all temporary files", || {
        let are_empty = names(&long).is_empty() && names(&below).is_empty();
        (are_empty && names(folder.path()).len() == 3).then_some(())
    });
}

fn a_server_that_does_not_start_ends_the_command_with_its_reason() {
    if !is_installed() {
        return;
    }
    // PostgreSQL admits 97 connections of an ordinary role. Each server needs 3 besides its pool.
    let flags = ["--", "--threads", "1:47", "--db-pool", "47"];
    let (output, folder) = output(&[&["--servers", "2"], &flags[..]].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.starts_with("ninetabs: server 2: ") && said.contains("accepted only"), "{said}");
    assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1));
    wait_until_empty(&folder);
}

/// Plays this act, at the fast pace and with these further arguments. Returns its output and its temporary folder.
fn reproduce(act: &str, arguments: &[&str]) -> (Output, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    set_mode(folder.path(), 0o711);
    let mut command = Command::new(env!("CARGO_BIN_EXE_ninetabs"));
    command.args(["reproduce", "--fast", "--act", act]).args(arguments);
    command.env("TMPDIR", folder.path()).env_remove("CI");
    (command.stdin(Stdio::null()).output().unwrap(), folder)
}

/// The act holds and fits on a screen, or is skipped if PostgreSQL is not installed.
fn holds_or_is_skipped(act: &str) {
    let is_installed = is_installed();
    let (output, folder) = reproduce(act, &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let [text, said] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    if is_installed {
        assert!(text.contains(&format!("\nAct {act}: ")) && text.contains(" claims held in "), "{text}");
        let is_narrow = text.lines().all(|line| line.chars().count() <= 80);
        let rows = text.split("\nAct ").nth(1).unwrap().lines().take_while(|line| !line.is_empty()).count();
        assert!(rows <= 24 && is_narrow, "{rows}: {text}");
    } else {
        assert!(said.contains(&format!("act {act} is skipped: PostgreSQL is not installed")), "{said}");
    }
    wait_until_empty(&folder);
}

fn act_8_of_reproduce_holds_and_without_postgresql_it_is_skipped() {
    holds_or_is_skipped("8");
}

fn act_9_of_reproduce_holds_and_without_postgresql_it_is_skipped() {
    holds_or_is_skipped("9");
}

fn act_10_of_reproduce_holds_and_without_postgresql_it_is_skipped() {
    // Without it, a part of the act is skipped.
    program("pgbouncer");
    holds_or_is_skipped("10");
}

/// The arguments with which a server needs nearly all connections, so that act 10 starts only two servers at a time.
const FEW_SERVERS: [&str; 4] = ["--threads", "90:90", "--tabs", "2"];

fn the_claims_of_act_10_fail_if_the_servers_open_fewer_connections() {
    if !is_installed() {
        return;
    }
    let text = format!("#!/bin/sh\nNINETABS_DB_POOL=40 exec '{}' \"$@\"\n", env!("CARGO_BIN_EXE_ninetabs"));
    let bin = tempfile::tempdir().unwrap();
    let program = bin.path().join("with-a-smaller-pool");
    fs::write(&program, text).unwrap();
    set_mode(&program, 0o755);
    let arguments = ["--json", "--program", program.to_str().unwrap()];
    let (output, folder) = reproduce("10", &[&arguments[..], &FEW_SERVERS].concat());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    assert_eq!(output.status.code(), Some(1), "{report}");
    let claim = |name: &str| {
        let claims = report["acts"][0]["claims"].as_array().unwrap();
        let claim = claims.iter().find(|claim| claim["claim"] == name);
        claim.unwrap_or_else(|| panic!("{name}: {report}")).clone()
    };
    let started = claim("servers that started");
    assert_eq!(
        (&started["expected"], &started["measured"], &started["held"]),
        (&"1".into(), &"2".into(), &false.into())
    );
    assert_eq!(claim("message of server 2")["held"], false, "{report}");
    assert_eq!(claim("--db-pool 2: servers that started")["held"], true, "{report}");
    wait_until_empty(&folder);
}

fn a_killed_act_10_leaves_neither_a_pooler_nor_a_server_behind() {
    if !is_installed() || program("pgbouncer").is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    set_mode(folder.path(), 0o711);
    let mut command = Command::new(env!("CARGO_BIN_EXE_ninetabs"));
    command.args(["reproduce", "--fast", "--act", "10"]).args(FEW_SERVERS).env("TMPDIR", folder.path());
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    // The name of its settings is in the command line of the pooler, and the folder in that of every part.
    let parts = |name: &str| {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let lines = processes.filter_map(|it| fs::read_to_string(it.path().join("cmdline")).ok());
        lines.filter(|line| line.contains(folder.path().to_str().unwrap()) && line.contains(name)).count()
    };
    wait_for("PgBouncer", || (parts("pgbouncer.ini") == 1).then_some(()));
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until_empty(&folder);
    wait_for("the end of every process", || (parts("") == 0).then_some(()));
}

fn the_claims_of_act_9_fail_if_numbers_are_assigned_without_the_lock() {
    let Some(programs) = installed().filter(|_| is_installed()) else { return };
    let without_lock = "CREATE OR REPLACE FUNCTION number_model() RETURNS trigger LANGUAGE plpgsql AS \
                        'BEGIN NEW.id := nextval(''models_numbers''); NEW.created_at := clock_timestamp(); \
                        RETURN NEW; END'";
    // The first server that starts creates the function, and its wrapper then replaces it.
    let text = format!(
        r#"#!/bin/sh
sql() {{ '{psql}' -X -q -A -t "$NINETABS_DATABASE" -c "$1"; }}
{{
  for _ in $(seq 300); do
    [ "$(sql "SELECT count(*) FROM pg_proc WHERE proname = 'number_model'")" = 1 ] && sql "{without_lock}" && break
    sleep 0.1
  done
}} > /dev/null 2>&1 &
exec '{ninetabs}' "$@"
"#,
        psql = programs.join("psql").display(),
        ninetabs = env!("CARGO_BIN_EXE_ninetabs"),
    );
    let bin = tempfile::tempdir().unwrap();
    let program = bin.path().join("without-lock");
    fs::write(&program, text).unwrap();
    set_mode(&program, 0o755);
    let (output, folder) = reproduce("9", &["--json", "--program", program.to_str().unwrap()]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    assert_eq!((&report["acts"][0]["act"], output.status.code()), (&9.into(), Some(1)), "{report}");
    let claims = report["acts"][0]["claims"].as_array().unwrap();
    let held = |words: &str| {
        let claim = claims.iter().find(|claim| claim["claim"].as_str().unwrap().contains(words));
        claim.unwrap_or_else(|| panic!("{words}: {report}"))["held"].as_bool().unwrap()
    };
    assert!(held("the writers committed") && held("reader by greater ids"), "{report}");
    assert!(!held("once and in order"), "{report}");
    wait_until_empty(&folder);
}

fn arguments_that_do_not_fit_are_wrong_usage() {
    for (arguments, remedy) in [
        (&["--database", "models.sqlite3"][..], "give a URL such as postgresql://"),
        (&["--database", "postgresql://h/d", "--engine", "sqlite3"], "leave out"),
        (&["--servers", "0"], "give a number from 1 to 20"),
        (
            &["--", "--bind", "tcp://127.0.0.1:1"],
            "--bind after --: each server of a cluster listens on a free port",
        ),
        (&["--engine", "sqlite3", "--", "--help"], "`ninetabs serve --help` explains them"),
    ] {
        let (output, _) = output(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(remedy) && output.status.code() == Some(2), "{said}");
    }
}

fn an_existing_database_keeps_its_models() {
    let Some(engine) = crate::common::postgres::engine() else { return };
    let database = engine.database();
    let url = database.url();
    let arguments = ["--servers", "2", "--tabs", "2", "--for", "2", "--json", "--database", &url];
    let (output, folder) = output(&[&arguments[..], &["--", "--produce-every", "0.1"]].concat());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    expect_each_model_once(&report, 2, 2);
    wait_until_empty(&folder);
    assert!(database.sql().ask("SELECT count(*) FROM models") > 0);
}
