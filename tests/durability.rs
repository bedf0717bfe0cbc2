//! A model whose creation was answered with 201 still exists after the process was killed.

use std::collections::HashMap;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use crate::common::engines::{EngineKind, on_each_engine};
#[cfg(feature = "postgresql")]
use crate::common::postgres::Engine;
use crate::common::small_disk::SmallDisk;
use crate::common::{self, Server, create, json, wait_for};
use ninetabs::lab::http;
use rustix::process::Signal;

/// The total number of answers to all writers before each kill.
const ANSWERED_BEFORE_KILL: usize = 200;
const WRITERS: usize = 4;
const ROUNDS: usize = 3;
const FLAGS: [&str; 2] = ["--keep-models", "1000000"];

on_each_engine! {
    every_model_that_was_answered_with_201_survives_kill_9,
}

/// The models that were answered with 201, each with its name.
type Answered = Mutex<Vec<(i64, String)>>;

/// Creates models until something has been killed, and records each one that was answered with 201.
fn write_until_a_kill(server: &Server, writer: usize, answered: &Answered) {
    for n in 0.. {
        let name = format!("writer {writer} model {n}");
        let body = serde_json::json!({ "name": name }).to_string();
        let url = server.url("/models");
        let Ok(answer) = http::post(&url, "application/json", body, common::PATIENCE) else { return };
        // The engine of the database was killed, and it is unknown whether the model exists.
        if answer.status() == 503 {
            return;
        }
        assert_eq!(answer.status(), 201, "{}", answer.text());
        // An answer that the kill cut off does not count.
        let Ok(model) = answer.json() else { return };
        answered.lock().unwrap().push((model["id"].as_i64().unwrap(), name));
    }
}

/// Four writers create models until `kill`, which is called at a random moment of a round.
fn write_and_kill(server: &Server, round: usize, answered: &Answered, kill: impl FnOnce()) {
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            scope.spawn(move || write_until_a_kill(server, round * WRITERS + writer, answered));
        }
        wait_for("the answers", || {
            (answered.lock().unwrap().len() >= round * ANSWERED_BEFORE_KILL).then_some(())
        });
        thread::sleep(Duration::from_millis(fastrand::u64(0..50)));
        kill();
    });
}

/// Each model that was answered is in the table. Because their names differ, no id was assigned twice.
fn assert_all_are_there(server: &Server, round: usize, answered: &Answered) {
    let there = common::all_models(server.app);
    let there: HashMap<i64, &str> =
        there.iter().map(|model| (model["id"].as_i64().unwrap(), model["name"].as_str().unwrap())).collect();
    for (id, name) in answered.lock().unwrap().iter() {
        assert_eq!(there.get(id), Some(&name.as_str()), "model {id} is missing after round {round}");
    }
}

fn every_model_that_was_answered_with_201_survives_kill_9(engine: EngineKind) {
    let answered = Answered::default();
    // The folder of the first server may contain the database.
    let mut servers = vec![engine.server(&FLAGS)];
    for round in 1..=ROUNDS {
        let server = &mut servers[round - 1];
        write_and_kill(server, round, &answered, || server.signal(Signal::KILL));
        assert!(!server.wait_for_exit().success());
        servers.push(servers[0].beside(&FLAGS));
        assert_all_are_there(&servers[round], round, &answered);
    }
}

#[cfg(feature = "postgresql")]
#[test]
fn every_model_that_was_answered_with_201_survives_kill_9_of_postgresql() {
    let Some(engine) = Engine::start() else { return };
    let database = engine.database();
    let answered = Answered::default();
    let server = database.server(&[&FLAGS[..], &["--threads", "4"]].concat());
    for round in 1..=ROUNDS {
        write_and_kill(&server, round, &answered, || engine.kill());
        engine.launch();
        wait_for("an answer", || (common::get(server.app, "/models.json").0 == 200).then_some(()));
        assert_all_are_there(&server, round, &answered);
    }
}

#[test]
fn with_a_full_disk_only_creates_fail_until_space_is_freed() {
    let Some(disk) = SmallDisk::mount("1m") else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut command = Server::command(folder.path());
    command.env("NINETABS_DATABASE", disk.path().join("models.sqlite3"));
    let server = Server::spawn(command, folder);
    let name = "x".repeat(16_000);
    let statuses: Vec<u16> = (0..120).map(|_| create(server.app, &name).0).collect();
    assert!(statuses.contains(&201) && statuses.ends_with(&[500]), "{statuses:?}");
    assert!(statuses.iter().all(|status| [201, 500].contains(status)), "{statuses:?}");

    assert_eq!(common::get(server.app, "/up").0, 200);
    assert_eq!(common::get(server.app, "/").0, 200);
    drop(common::open_stream(server.app));
    disk.grow("8m");
    assert_eq!(create(server.app, "space is available again").0, 201);
    let kept = statuses.iter().filter(|status| **status == 201).count();
    let database = rusqlite::Connection::open(disk.path().join("models.sqlite3")).unwrap();
    let rows: i64 = database.query_row("SELECT count(*) FROM models", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, kept as i64 + 1, "every answer of 201 is in the table");
}

#[test]
fn a_path_that_begins_with_file_is_a_path_and_not_a_uri() {
    let folder = tempfile::tempdir().unwrap();
    let foreign = folder.path().join("x");
    rusqlite::Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
    let bytes = std::fs::read(&foreign).unwrap();
    let mut command = Server::command(folder.path());
    command.current_dir(folder.path()).env("NINETABS_DATABASE", "file:x");
    let server = Server::spawn(command, folder);
    assert_eq!(create(server.app, "ours").0, 201);
    // A resize opens more connections with the same name.
    assert_eq!(json(server.control, "POST", "/resize?max=12").0, 200);
    let files = common::names(server.folder.path());
    assert!(files.contains(&"file:x-wal".to_owned()), "{files:?}");
    assert!(!files.iter().any(|name| name.starts_with("x-")), "{files:?}");
    assert_eq!(
        std::fs::read(server.folder.path().join("x")).unwrap(),
        bytes,
        "the foreign database was changed"
    );
}
