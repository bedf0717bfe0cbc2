//! What was answered with 201 is there after the process was killed in the middle.

mod common;

use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use common::{Server, wait_for};
use ninetabs::lab::http;
use rustix::process::Signal;

/// Answers to have before each kill; they are spread over the writers.
const ANSWERED_BEFORE_KILL: usize = 200;
const WRITERS: usize = 4;

fn start(folder: &tempfile::TempDir) -> Server {
    let path = folder.path().join("models.sqlite3");
    Server::start(&["--database", path.to_str().unwrap(), "--keep-models", "1000000"])
}

/// Posts until the server is gone; whatever was answered with 201 is put down.
fn write_until_it_is_gone(server: &Server, writer: usize, answered: &Mutex<Vec<(i64, String)>>) {
    for n in 0.. {
        let name = format!("writer {writer} model {n}");
        let body = serde_json::json!({ "name": name }).to_string();
        let url = server.url("/models");
        let Ok(answer) = http::post(&url, "application/json", body, common::PATIENCE) else { return };
        assert_eq!(answer.status(), 201, "{}", answer.text());
        // An answer that the kill cut short promised nothing yet.
        let Ok(model) = answer.json() else { return };
        answered.lock().unwrap().push((model["id"].as_i64().unwrap(), name));
    }
}

#[test]
fn every_model_that_was_answered_with_201_survives_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let answered = Mutex::new(Vec::new());
    for round in 1..=3 {
        let mut server = start(&folder);
        thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    scope.spawn({
                        let (server, answered) = (&server, &answered);
                        move || write_until_it_is_gone(server, round * WRITERS + writer, answered)
                    })
                })
                .collect();
            wait_for("the answers", || {
                (answered.lock().unwrap().len() >= round * ANSWERED_BEFORE_KILL).then_some(())
            });
            // At no moment in particular.
            thread::sleep(Duration::from_millis(fastrand::u64(0..50)));
            server.signal(Signal::KILL);
            writers.into_iter().for_each(|writer| writer.join().unwrap());
        });
        assert!(!server.wait_for_exit().success());
        drop(server);

        let server = start(&folder);
        let there = common::all_models(server.app);
        let there: std::collections::HashMap<i64, &str> = there
            .iter()
            .map(|model| (model["id"].as_i64().unwrap(), model["name"].as_str().unwrap()))
            .collect();
        let answered = answered.lock().unwrap();
        for (id, name) in answered.iter() {
            assert_eq!(there.get(id), Some(&name.as_str()), "model {id} is not there after round {round}");
        }
    }
}
