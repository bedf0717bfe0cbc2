//! The observed behavior of Puma as a table of cases, which are played against our front door and
//! against the real Puma 5.
//!
//! Our front door must pass every case. Puma must pass all cases except those that the table marks as failing, and
//! those where we are stricter on purpose. The table's statements about Puma are therefore tested as well, and each
//! difference between the two is a row with its reason (`cargo test --test all puma_cases:: -- --nocapture` prints
//! these rows). Some cases wait for a time limit, so a run takes half a minute.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::common::cases::{Case, is_alive, play};
use crate::common::{Server, program, wait_for};
use ninetabs::lab::program::Program;

/// How many cases are played at the same time.
const AT_A_TIME: usize = 8;

type Verdict = (String, Result<(), String>);

fn table() -> Vec<Case> {
    serde_json::from_str(include_str!("data/puma_cases.json")).unwrap()
}

/// Plays all cases. Returns the result of each, and what was observed. The server must answer after
/// each case.
fn play_all(cases: &[Case], server: SocketAddr) -> BTreeMap<&str, Verdict> {
    let next = AtomicUsize::new(0);
    let verdicts = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (seen, verdict) = play(case, server);
                    assert!(is_alive(server), "the server does not answer after {}", case.name);
                    verdicts.lock().unwrap().insert(case.name.as_str(), (seen.summary(), verdict));
                }
            });
        }
    });
    verdicts.into_inner().unwrap()
}

/// Plays a case once more, alone. On a slow machine, a time limit of the server may have passed
/// during the steps of the case.
fn play_alone(case: &Case, server: SocketAddr, why: &str) -> Verdict {
    eprintln!("{} is played again, alone: {why}", case.name);
    let (seen, verdict) = play(case, server);
    (seen.summary(), verdict)
}

fn ours() -> Server {
    Server::start_with("--front puma --first-data-timeout 3 --persistent-timeout 4 --max-body-bytes 1000000")
}

#[test]
fn our_front_door_passes_every_case() {
    let (server, cases) = (ours(), table());
    assert!(cases.len() > 100);
    let verdicts = play_all(&cases, server.app);
    let failed: Vec<_> = cases
        .iter()
        .filter_map(|case| {
            let why = verdicts[case.name.as_str()].1.as_ref().err()?;
            let (seen, verdict) = play_alone(case, server.app, why);
            let why = verdict.err()?;
            Some(format!("{}: {why}; saw {seen}\n    about: {}", case.name, case.why))
        })
        .collect();
    assert!(failed.is_empty(), "{} of {} failed:\n{}", failed.len(), cases.len(), failed.join("\n"));
    let stats = server.wait_for_stats("idle pool", |stats| stats["pool_capacity"] == 8);
    assert_eq!(stats["backlog"], 0);
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

/// Starts the real Puma with the limits that the cases assume. It is killed when dropped.
fn puma() -> Option<(Program, tempfile::TempDir, SocketAddr)> {
    let puma = program("puma")?;
    program("ruby")?;
    let folder = tempfile::tempdir().unwrap();
    let configuration =
        "threads 8, 8\nfirst_data_timeout 3\npersistent_timeout 4\nenvironment 'production'\n";
    fs::write(folder.path().join("puma.rb"), configuration).unwrap();
    let said = folder.path().join("said");
    let mut command = Command::new(puma);
    command
        .args(["-C", "puma.rb", "-b", "tcp://127.0.0.1:0"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/rack_app.ru"))
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(File::create(&said).unwrap())
        .stderr(File::options().append(true).open(&said).unwrap());
    let mut program = Program::start(&mut command).unwrap();
    let said = wait_for("Puma's address", || {
        let text = fs::read_to_string(&said).unwrap();
        if let Some(status) = program.status().unwrap() {
            panic!("puma ended with {status}: {text}");
        }
        text.contains("Use Ctrl-C").then_some(text)
    });
    let version = said.split_once("Puma version: ").unwrap().1;
    if !version.starts_with("5.6.5") {
        eprintln!("skipped: the table describes Puma 5.6.5, but this is {}", version.lines().next().unwrap());
        return None;
    }
    let address = said.split_once("Listening on http://").unwrap().1.split_whitespace().next().unwrap();
    Some((program, folder, address.parse().unwrap()))
}

#[test]
fn the_real_puma_differs_where_the_table_says_so_and_nowhere_else() {
    let Some((_program, _folder, puma)) = puma() else { return };
    let (server, cases) = (ours(), table());
    let (theirs, ours) = (play_all(&cases, puma), play_all(&cases, server.app));
    let (mut rows, mut surprises) = (Vec::new(), Vec::new());
    for case in &cases {
        let (name, is_said_to_pass) = (case.name.as_str(), case.puma5 == "pass");
        let (mut seen, mut verdict) = theirs[name].clone();
        if !case.stricter && verdict.is_ok() != is_said_to_pass {
            (seen, verdict) = play_alone(case, puma, "the table says otherwise");
        }
        match verdict {
            Ok(()) if is_said_to_pass || case.stricter => {}
            Ok(()) => surprises.push(format!("{name} passes: {seen}, but the table has {}", case.puma5)),
            Err(why) if is_said_to_pass && !case.stricter => surprises.push(format!("{name} fails: {why}")),
            Err(_) => {
                let reason = if case.reason.is_empty() { &case.why } else { &case.reason };
                rows.push(format!("| {name} | {} | {seen} | {reason} |", ours[name].0));
            }
        }
    }
    eprintln!("| case | ours | Puma 5.6.5 | why |\n|---|---|---|---|\n{}", rows.join("\n"));
    assert!(surprises.is_empty(), "{}", surprises.join("\n"));
    assert!(!rows.is_empty());
}
