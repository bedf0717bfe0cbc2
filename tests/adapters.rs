//! The contract of `Session`, `Adapter` and `Follower`, which every database engine fulfills.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use ninetabs::app::adapters::{Change, Failure, Known, Opened, Session};
use ninetabs::app::batch::{Batch, Limit};
use ninetabs_server::threads::StopSignal;

use crate::common::engines::{EngineKind, on_each_engine};
use crate::common::wait_for;

on_each_engine! {
    models_are_read_in_both_directions_up_to_the_limit,
    a_time_slice_has_the_models_after_it_in_the_order_of_time_and_id,
    a_name_is_read_as_it_was_created,
    only_the_newest_models_are_kept_despite_gaps_in_their_ids_and_numbers_only_grow,
    a_create_gives_up_waiting_for_another_writer_and_reads_do_not_wait,
    the_follower_finds_commits_of_others_and_an_old_hint_changes_nothing,
    concurrent_sessions_create_each_number_once,
}

fn ids(batch: Batch) -> Vec<i64> {
    batch.models.iter().map(|model| model.id).collect()
}

fn create(session: &mut dyn Session, count: usize) {
    for n in 0..count {
        session.create(&format!("model {n}"), None).unwrap();
    }
}

fn models_are_read_in_both_directions_up_to_the_limit(engine: EngineKind) {
    let (Opened { mut session, last_id, .. }, _, _folder) = engine.open();
    assert_eq!((last_id, session.last_id().unwrap(), session.last_number().unwrap()), (0, 0, 0));
    let empty = session.next(0, Limit::rows(9)).unwrap();
    assert_eq!((empty.models.len(), empty.is_all), (0, true));
    create(&mut *session, 5);
    assert_eq!((session.last_id().unwrap(), session.last_number().unwrap()), (5, 5));
    assert_eq!(ids(session.next(0, Limit::rows(9)).unwrap()), [1, 2, 3, 4, 5]);
    assert_eq!(ids(session.next(3, Limit::rows(9)).unwrap()), [4, 5]);
    assert_eq!(ids(session.before(None, Limit::rows(2)).unwrap()), [5, 4]);
    assert_eq!(ids(session.before(Some(3), Limit::rows(9)).unwrap()), [2, 1]);
    assert_eq!(ids(session.newest(Limit::rows(2)).unwrap()), [4, 5]);
    for (rows, bytes, wanted) in [
        (5, 999, (5, true)),
        (4, 999, (4, false)),
        (9, 14, (2, false)),
        (9, 0, (1, false)),
        (0, 0, (1, false)),
    ] {
        let batch = session.next(0, Limit { rows, bytes }).unwrap();
        assert_eq!((batch.models.len(), batch.is_all), wanted, "{rows} rows, {bytes} bytes");
    }
    assert_eq!(ids(session.next(i64::MAX, Limit::rows(9)).unwrap()), [0; 0]);
    assert_eq!(ids(session.before(Some(i64::MIN), Limit::rows(9)).unwrap()), [0; 0]);
}

fn a_time_slice_has_the_models_after_it_in_the_order_of_time_and_id(engine: EngineKind) {
    let (Opened { mut session, .. }, _, _folder) = engine.open();
    let before = SystemTime::now() - Duration::from_secs(60);
    create(&mut *session, 3);
    let micros = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros() as i64;
    let all = session.models_since((micros(before), i64::MAX), Limit::rows(9)).unwrap();
    let second = micros(all.models[1].created_at);
    assert_eq!(all.last_us, micros(all.models[2].created_at));
    assert_eq!(ids(all), [1, 2, 3]);
    assert_eq!(ids(session.models_since((second, 2), Limit::rows(9)).unwrap()), [3]);
    assert_eq!(ids(session.models_since((second, 1), Limit::rows(9)).unwrap()), [2, 3]);
    for time in [i64::MIN, -1, i64::MAX] {
        let found = session.models_since((time, 0), Limit::rows(9)).unwrap().models.len();
        assert_eq!(found, if time < 0 { 3 } else { 0 }, "{time}");
    }
}

fn a_name_is_read_as_it_was_created(engine: EngineKind) {
    let (Opened { mut session, .. }, _, _folder) = engine.open();
    for name in ["a", "'; DROP TABLE models; --", "é🙂\r\n\u{1}\u{7f}\\\"", &"🙂".repeat(4_096)] {
        let created = session.create(name, None).unwrap();
        assert_eq!(&*created.name, name);
        let read = session.newest(Limit { rows: 1, bytes: usize::MAX }).unwrap().models.remove(0);
        // SQLite's session returns the time before it is rounded to microseconds.
        assert_eq!((read.id, &read.name), (created.id, &created.name));
        assert_eq!(read.created_at_iso8601(), created.created_at_iso8601());
    }
}

fn only_the_newest_models_are_kept_despite_gaps_in_their_ids_and_numbers_only_grow(engine: EngineKind) {
    let (Opened { mut session, .. }, theirs, _folder) = engine.open();
    for _ in 0..5 {
        session.create("ours", Some(3)).unwrap();
    }
    assert_eq!(ids(session.next(0, Limit::rows(9)).unwrap()), [3, 4, 5]);
    theirs.execute("DELETE FROM models WHERE id = 4");
    session.create("ours", Some(3)).unwrap();
    assert_eq!(ids(session.next(0, Limit::rows(9)).unwrap()), [3, 5, 6]);
    theirs.execute("DELETE FROM models");
    assert_eq!(session.last_number().unwrap(), 6);
    assert!(session.last_id().unwrap() <= 6);
    assert_eq!(session.create("ours", None).unwrap().id, 7);
}

fn a_create_gives_up_waiting_for_another_writer_and_reads_do_not_wait(engine: EngineKind) {
    let (Opened { adapter, mut session, .. }, theirs, _folder) = engine.open();
    session.create("ours", None).unwrap();
    theirs.begin_to_write();
    session.set_timeout(Duration::from_millis(300)).unwrap();
    let failure = session.create("ours", None).unwrap_err();
    // A slower server does not answer in time.
    assert!(matches!(failure, Failure::Busy(_) | Failure::TimedOut(_)), "{failure:?}");
    let mut reader = adapter.connect().unwrap();
    assert_eq!(ids(reader.next(0, Limit::rows(9)).unwrap()), [1]);
    assert_eq!(reader.last_id().unwrap(), 1);
    theirs.execute("ROLLBACK");
    let created = adapter.connect().unwrap().create("ours", None).unwrap().id;
    assert!(created > 1);
    assert_eq!(reader.last_id().unwrap(), created);
}

fn the_follower_finds_commits_of_others_and_an_old_hint_changes_nothing(engine: EngineKind) {
    let (Opened { adapter, mut session, table, last_id }, _, _folder) = engine.open();
    let mut follower = adapter.follow().unwrap();
    let mut known = Known { table, newest: last_id };
    for wanted in 1..=3 {
        session.create("theirs", None).unwrap();
        wait_for("the commit", || {
            match follower.look(known, &StopSignal::never()).unwrap() {
                Some(Change::Committed(last)) => known.newest = known.newest.max(last),
                None => {}
                other => panic!("{other:?}"),
            }
            (known.newest == wanted).then_some(())
        });
    }
}

fn concurrent_sessions_create_each_number_once(engine: EngineKind) {
    let (Opened { adapter, mut session, .. }, _, _folder) = engine.open();
    let created: Vec<i64> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|_| {
                let mut session = adapter.connect().unwrap();
                scope
                    .spawn(move || (0..10).map(|_| session.create("x", None).unwrap().id).collect::<Vec<_>>())
            })
            .collect();
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    });
    assert_eq!(created.iter().collect::<BTreeSet<_>>().len(), 40);
    let all = ids(session.next(0, Limit::rows(99)).unwrap());
    assert_eq!(all, (1..=40).collect::<Vec<_>>());
}

#[cfg(feature = "postgresql")]
#[test]
fn on_postgresql_a_wait_for_another_writer_ends_at_an_interrupt() {
    let Some(engine) = crate::common::postgres::engine() else { return };
    let (Opened { mut session, .. }, theirs, _folder) = EngineKind::Postgresql(engine).open();
    theirs.begin_to_write();
    let (interrupt, interrupted) = crossbeam_channel::bounded(0);
    session.set_interrupt(Some(&interrupted));
    drop(interrupt);
    let failure = session.create("ours", None).unwrap_err();
    assert!(matches!(failure, Failure::Interrupted), "{failure:?}");
    // The session continues with a new connection.
    session.set_interrupt(None);
    assert_eq!(session.last_id().unwrap(), 0);
    theirs.execute("ROLLBACK");
}

#[cfg(not(feature = "postgresql"))]
#[test]
fn a_cluster_on_postgresql_is_refused_with_the_name_of_the_feature_before_anything_is_started() {
    for arguments in [&[][..], &["--database", "postgresql://me:s3cret@127.0.0.1/models"]] {
        let folder = tempfile::tempdir().unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ninetabs"));
        command.arg("cluster").args(arguments).env("TMPDIR", folder.path());
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let words = "ninetabs: --engine postgresql: this build does not support PostgreSQL; build it with the feature postgresql ";
        assert!(said.starts_with(words) && !said.contains("s3cret"), "{said}");
        assert_eq!(
            (output.status.code(), said.lines().count(), output.stdout.len()),
            (Some(1), 1, 0),
            "{said}"
        );
        assert_eq!(crate::common::names(folder.path()), [""; 0]);
    }
}

#[cfg(not(feature = "postgresql"))]
#[test]
fn acts_on_postgresql_are_skipped_before_anything_is_started_and_where_ci_is_set_they_fail() {
    for (is_ci, code, said) in [(false, 0, "act 8 is skipped: "), (true, 1, "act 8: ")] {
        let folder = tempfile::tempdir().unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ninetabs"));
        command.args(["reproduce", "--act", "8", "--fast"]).env("TMPDIR", folder.path()).env_remove("CI");
        if is_ci {
            command.env("CI", "true");
        }
        let output = command.output().unwrap();
        let all = String::from_utf8(output.stderr).unwrap();
        let words = format!("ninetabs: {said}this build does not support PostgreSQL; build it with ");
        assert!(all.starts_with(&words) && all.lines().count() == 1, "{all}");
        assert_eq!(output.status.code(), Some(code), "{all}");
        assert_eq!(crate::common::names(folder.path()), [""; 0]);
    }
}

#[cfg(not(feature = "postgresql"))]
#[test]
fn a_postgresql_url_is_refused_with_the_name_of_the_feature_and_without_its_password() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = crate::common::Server::command(folder.path());
    command
        .env("NINETABS_DATABASE", "postgresql://me:s3cret@127.0.0.1/models")
        .stderr(std::process::Stdio::piped());
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let words = "--database postgresql://me@127.0.0.1/models: this build does not support PostgreSQL; build it with the feature postgresql ";
    assert!(said.contains(words), "{said}");
}
