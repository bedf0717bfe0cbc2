//! The tables, triggers and functions in a PostgreSQL database, and the check at the start.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ninetabs::app::adapters::postgresql::{self, PgSettings};
use ninetabs::app::adapters::{Known, Opened, Session};
use ninetabs::app::batch::Limit;
use ninetabs::app::database_place::DatabaseUrl;
use ninetabs_server::threads::StopSignal;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::common::postgres::{Sql, TestDatabase, WITH_PASSWORD, engine};
use crate::common::wait_for;

fn open(database: &TestDatabase<'_>) -> Opened {
    postgresql::open(&database.settings()).unwrap()
}

fn all_ids(session: &mut dyn Session) -> Vec<i64> {
    let (mut all, mut last) = (Vec::new(), 0);
    loop {
        let batch = session.next(last, Limit::rows(500)).unwrap();
        all.extend(batch.models.iter().map(|model| model.id));
        last = batch.last_id().unwrap_or(last);
        if batch.is_all {
            return all;
        }
    }
}

#[test]
fn several_servers_that_start_at_once_on_a_new_database_all_open_it() {
    let Some(engine) = engine() else { return };
    let database = engine.database();
    let opened: Vec<Opened> = thread::scope(|scope| {
        let openers: Vec<_> = (0..4).map(|_| scope.spawn(|| open(&database))).collect();
        openers.into_iter().map(|opener| opener.join().unwrap()).collect()
    });
    assert!(opened.iter().all(|it| it.table == opened[0].table));
    let mut sessions = opened.into_iter().map(|it| it.session);
    // Numbers do not jump in the first epoch.
    assert_eq!(sessions.next().unwrap().create("first", None).unwrap().id, 1);
    assert_eq!(sessions.next().unwrap().last_id().unwrap(), 1);
}

#[test]
fn a_password_works_whether_or_not_it_is_ascii_and_a_wrong_password_is_refused() {
    let Some(engine) = engine() else { return };
    let database = engine.database();
    let admin = database.admin();
    admin.execute(&format!("CREATE ROLE {WITH_PASSWORD} LOGIN IN ROLE ninetabs"));
    let opened_with = |password: &str| {
        let password = utf8_percent_encode(password, NON_ALPHANUMERIC);
        let url = database.url().replace("ninetabs@", &format!("{WITH_PASSWORD}:{password}@"));
        let settings = PgSettings { database: DatabaseUrl::of(&url).unwrap(), ..database.settings() };
        postgresql::open(&settings).map(drop)
    };
    for password in [" a~!@:/%?#", "pässwörd 密码"] {
        admin.execute(&format!("ALTER ROLE {WITH_PASSWORD} PASSWORD '{password}'"));
        opened_with(password).unwrap_or_else(|failure| panic!("{password}: {failure}"));
        let failure = opened_with("another").unwrap_err().to_string();
        assert!(failure.contains("password authentication failed"), "{failure}");
    }
}

#[test]
fn the_trigger_numbers_rows_of_every_program_and_every_statement() {
    let Some(engine) = engine() else { return };
    let database = engine.database();
    let Opened { mut session, .. } = open(&database);
    let sql = database.sql();
    sql.execute("INSERT INTO models VALUES (999, 'its own id', '1999-01-01')");
    database.copy("COPY models (id, name, created_at) FROM STDIN", "500\ta\t1999-01-01\n7\tb\t1999-01-01\n");
    let admin = database.admin();
    admin.execute("SET session_replication_role = replica; INSERT INTO models (name) VALUES ('a replica')");
    database.psql("INSERT INTO models (name) VALUES ('psql')");
    assert_eq!(all_ids(&mut *session), [1, 2, 3, 4, 5]);
    let recent = "SELECT count(*) FROM models WHERE created_at > now() - interval '1 hour'";
    assert_eq!(sql.ask(recent), 5, "the trigger sets the time as well");
    assert_eq!(sql.ask("SELECT count(*) FROM (SELECT created_at < lag(created_at) OVER (ORDER BY id) AS x FROM models) AS y WHERE x"), 0);
    sql.execute("DELETE FROM models");
    assert_eq!((session.last_id().unwrap(), session.last_number().unwrap()), (0, 5));
    for name in ["''", "repeat('x', 16385)"] {
        assert!(sql.try_execute(&format!("INSERT INTO models (name) VALUES ({name})")).is_err(), "{name}");
    }
    // The setting is raised for this transaction, which otherwise could be lost with its number.
    sql.execute("SET synchronous_commit = off; BEGIN; INSERT INTO models (name) VALUES ('x')");
    assert_eq!(sql.rows("SELECT current_setting('synchronous_commit')")[0].get::<_, &str>(0), "on");
    sql.execute("COMMIT");
    assert_eq!(sql.rows("SELECT current_setting('synchronous_commit')")[0].get::<_, &str>(0), "off");
}

#[test]
fn a_row_that_another_program_has_changed_is_read_and_never_fails_a_query() {
    let Some(engine) = engine() else { return };
    let database = engine.database();
    let Opened { mut session, .. } = open(&database);
    let sql = database.sql();
    sql.execute("ALTER TABLE models DROP CONSTRAINT models_name_check, ALTER name DROP NOT NULL");
    sql.execute("INSERT INTO models (name) VALUES ('a'), ('b'), ('c'), (repeat('é', 100000)), (NULL)");
    for (id, time) in [(1, "'infinity'"), (2, "'-infinity'"), (3, "'4713-01-01 BC'")] {
        sql.execute(&format!("UPDATE models SET created_at = {time} WHERE id = {id}"));
    }
    let batch = session.next(0, Limit { rows: 9, bytes: usize::MAX }).unwrap();
    assert_eq!(batch.models.len(), 5);
    assert_eq!(batch.models[3].name.len(), 16 * 1024);
    assert_eq!(&*batch.models[4].name, "");
    assert!(batch.models.iter().all(|model| model.created_at_iso8601().ends_with('Z')));
    let slice = session.models_since((i64::MIN, 0), Limit::rows(9)).unwrap();
    assert_eq!(slice.models.iter().map(|model| model.id).collect::<Vec<_>>(), [2, 3, 4, 5, 1]);
}

#[test]
fn numbers_jump_once_for_an_unknown_history_and_for_a_number_that_the_database_has_lost() {
    let Some(engine) = engine() else { return };
    let database = engine.database();
    let Opened { adapter, mut session, table, .. } = open(&database);
    assert_eq!(session.create("before", None).unwrap().id, 1);
    let sql = database.sql();
    // As after a failover, which changes the timeline.
    sql.execute("UPDATE ninetabs_epochs SET timeline = timeline + 7");
    let mut second = adapter.connect().unwrap();
    assert_eq!(second.create("after", None).unwrap().id, 1_000_002);
    assert_eq!(adapter.connect().unwrap().create("again", None).unwrap().id, 1_000_003);
    assert_eq!(sql.ask("SELECT count(*) FROM ninetabs_epochs"), 2);
    // As after restoring a copy of the files while a server was running.
    sql.execute("DELETE FROM models WHERE id > 1; SELECT setval('models_numbers', 1)");
    assert_eq!(adapter.connect().unwrap().create("restored", None).unwrap().id, 2_000_004);
    // Another program writes before a server connects to the new primary.
    sql.execute("UPDATE ninetabs_epochs SET timeline = timeline + 7");
    database.psql("INSERT INTO models (name) VALUES ('a'), ('b')");
    let again = open(&database);
    assert_eq!(again.table, table, "the table is the same");
    assert_eq!(again.last_id, 3_000_006);
    // A role that may only insert.
    let admin = database.admin();
    admin.execute(
        "CREATE ROLE inserts; GRANT INSERT ON models TO inserts; GRANT USAGE ON models_numbers TO inserts",
    );
    sql.execute("UPDATE ninetabs_epochs SET timeline = timeline + 7");
    admin.execute("SET ROLE inserts; INSERT INTO models (name) VALUES ('c'); RESET ROLE");
    assert_eq!(open(&database).last_id, 3_000_007);
    database.psql("INSERT INTO models (name) VALUES ('d')");
    assert_eq!(sql.ask("SELECT max(id) FROM models"), 4_000_008);
    admin.execute("DROP OWNED BY inserts; DROP ROLE inserts");
}

#[test]
fn the_first_transaction_of_another_program_after_a_failover_delays_no_reader() {
    let Some(engine) = engine() else { return };
    let database = engine.database();
    let Opened { adapter, mut session, .. } = open(&database);
    session.create("before", None).unwrap();
    let sql = database.sql();
    sql.execute("UPDATE ninetabs_epochs SET timeline = timeline + 7");
    sql.execute("BEGIN; INSERT INTO models (name) VALUES ('theirs')");
    let mut reader = adapter.connect().unwrap();
    assert_eq!((reader.last_id().unwrap(), reader.last_number().unwrap()), (1, 1_000_002));
    sql.execute("COMMIT");
    assert_eq!(reader.create("ours", None).unwrap().id, 1_000_003);
    assert_eq!(sql.ask("SELECT count(*) FROM ninetabs_epochs"), 2);
}

#[test]
fn keeping_by_count_deletes_now_and_then_with_many_rows() {
    let Some(engine) = engine() else { return };
    let database = engine.database();
    let Opened { mut session, .. } = open(&database);
    let rows = || database.sql().ask("SELECT count(*) FROM models");
    for _ in 0..130 {
        session.create("x", Some(50)).unwrap();
        let there = rows();
        assert!(there <= 55, "{there}");
    }
    assert_eq!(rows(), 50);
}

#[test]
fn a_server_starts_and_reads_while_another_programs_transaction_has_the_lock() {
    let Some(engine) = engine() else { return };
    let database = engine.database();
    drop(open(&database));
    let sql = database.sql();
    sql.execute("BEGIN; INSERT INTO models (name) VALUES ('open')");
    // With any statement that creates something, this would wait.
    let Opened { mut session, last_id, .. } = open(&database);
    assert_eq!((last_id, session.last_id().unwrap()), (0, 0));
    assert_eq!(session.last_number().unwrap(), 1, "it is assigned, but not visible yet");
    sql.execute("COMMIT");
    assert_eq!(session.last_id().unwrap(), 1);
}

/// The definitions of everything in the schema, to compare before and after a start.
fn definitions(sql: &Sql) -> i64 {
    sql.ask(
        "SELECT count(*) + (SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace)
        + (SELECT count(*) FROM pg_trigger) FROM pg_class WHERE relnamespace = 'public'::regnamespace",
    )
}

#[test]
fn an_unusable_database_is_refused_with_the_reason_and_not_changed() {
    let Some(engine) = engine() else { return };
    for (change, words) in [
        ("DROP TABLE ninetabs_epochs", "its table models belongs to another program"),
        ("DROP TABLE models", "its table models is missing"),
        ("ALTER TABLE models DROP COLUMN created_at", "its tables are not those of this version"),
        ("ALTER TABLE ninetabs_epochs DROP COLUMN word", "its tables are not those of this version"),
        ("ALTER SEQUENCE models_numbers CACHE 20", "has a cache"),
        ("DROP SEQUENCE models_numbers", "its sequence models_numbers is missing"),
        ("ALTER TABLE models DISABLE TRIGGER number", "ENABLE ALWAYS TRIGGER number"),
        ("ALTER TABLE models ENABLE TRIGGER number", "ENABLE ALWAYS TRIGGER number"),
        ("DROP TRIGGER number ON models", "its trigger number is missing"),
    ] {
        let database = engine.database();
        drop(open(&database));
        let sql = database.sql();
        sql.execute(change);
        let before = definitions(&sql);
        let refused = postgresql::open(&database.settings()).unwrap_err().to_string();
        assert!(refused.contains(words), "{change}: {refused}");
        assert_eq!(definitions(&sql), before, "{change}");
    }
    let latin = engine.database_with("ENCODING 'LATIN1' TEMPLATE template0");
    let refused = postgresql::open(&latin.settings()).unwrap_err().to_string();
    assert_eq!(refused, "its text is encoded as LATIN1, and only UTF-8 is supported");
}

#[test]
fn missing_parts_are_created_and_additional_ones_are_kept() {
    let Some(engine) = engine() else { return };
    let database = engine.database();
    drop(open(&database));
    let sql = database.sql();
    sql.execute("ALTER TABLE models ADD COLUMN theirs integer DEFAULT 7; DROP INDEX index_models_on_created_at; DROP TRIGGER notify ON models");
    let Opened { mut session, .. } = open(&database);
    session.create("x", None).unwrap();
    assert_eq!(sql.ask("SELECT theirs::bigint FROM models"), 7);
    let there = "SELECT count(*) FROM pg_trigger WHERE tgname = 'notify'";
    assert_eq!(sql.ask(there), 1);
    assert_eq!(sql.ask("SELECT count(*) FROM pg_class WHERE relname = 'index_models_on_created_at'"), 1);
}

#[test]
fn a_statement_sends_one_notification_with_its_last_number_and_none_if_it_inserts_nothing() {
    let Some(engine) = engine() else { return };
    let database = engine.database();
    let Opened { adapter, mut session, table, .. } = open(&database);
    let mut follower = adapter.follow().unwrap();
    let known = || Known { table, newest: 0 };
    let stop = StopSignal::never();
    let heard = || adapter.engine().notifications.unwrap();
    // The follower's own notification, by which it detects that it can listen.
    wait_for("the first look", || {
        follower.look(known(), &stop).unwrap();
        (heard() == 1 && adapter.engine().listening == Some(true)).then_some(())
    });
    let sql = database.sql();
    sql.execute("INSERT INTO models (name) SELECT 'x' WHERE false");
    sql.execute("INSERT INTO models (name) SELECT 'x' FROM generate_series(1, 5)");
    session.create("one more", None).unwrap();
    wait_for("two notifications", || {
        follower.look(known(), &stop).unwrap();
        (heard() == 3).then_some(())
    });
    follower.look(known(), &stop).unwrap();
    assert_eq!(heard(), 3);
}

/// The naive way: a serial id, and a reader that asks for greater ids.
#[test]
fn a_reader_by_greater_ids_loses_rows_of_a_serial_column() {
    let Some(engine) = engine() else { return };
    let database = engine.database();
    let [first, second, reader] = [(); 3].map(|()| database.sql());
    reader.execute("CREATE TABLE naive (id bigserial PRIMARY KEY, name text)");
    first.execute("BEGIN; INSERT INTO naive (name) VALUES ('first')");
    second.execute("INSERT INTO naive (name) VALUES ('second')");
    assert_eq!(reader.numbers("SELECT id FROM naive WHERE id > 0 ORDER BY id"), [2]);
    first.execute("COMMIT");
    assert_eq!(reader.numbers("SELECT id FROM naive WHERE id > 2 ORDER BY id"), [0; 0], "number 1 is lost");
    assert_eq!(reader.ask("SELECT count(*) FROM naive"), 2);
}

#[test]
fn no_row_of_sixteen_writers_with_delays_and_rollbacks_is_lost_except_by_a_naive_reader() {
    let Some(engine) = engine() else { return };
    let database = engine.database();
    let Opened { mut session, .. } = open(&database);
    let sql = database.sql();
    sql.execute("CREATE TABLE naive (id bigserial PRIMARY KEY, name text)");
    let is_done = AtomicBool::new(false);
    let (ours, naive): (Vec<i64>, Vec<i64>) = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut ours, mut naive): (Vec<i64>, Vec<i64>) = Default::default();
            loop {
                // One more read after the last commit.
                let was_done = is_done.load(Ordering::SeqCst);
                let last = ours.last().copied().unwrap_or(0);
                ours.extend(
                    session.next(last, Limit::rows(500)).unwrap().models.iter().map(|model| model.id),
                );
                let last = naive.last().copied().unwrap_or(0);
                naive.extend(sql.numbers(&format!("SELECT id FROM naive WHERE id > {last} ORDER BY id")));
                if was_done {
                    return (ours, naive);
                }
                thread::sleep(Duration::from_millis(1));
            }
        });
        let writers: Vec<_> = (0..16_u64)
            .map(|n| {
                let (writer, database) = (database.sql(), &database);
                scope.spawn(move || {
                    let mut dice = fastrand::Rng::with_seed(n);
                    for turn in 0..12 {
                        writer.execute("BEGIN; INSERT INTO naive (name) VALUES ('x')");
                        thread::sleep(Duration::from_micros(dice.u64(0..8_000)));
                        match dice.u8(0..4) {
                            0 => writer.execute(&format!(
                                "INSERT INTO models (id, name) VALUES ({}, 'x')",
                                dice.i32(1..)
                            )),
                            1 => writer
                                .execute("INSERT INTO models (name) SELECT 'x' FROM generate_series(1, 3)"),
                            _ => writer.execute("INSERT INTO models (name) VALUES ('x')"),
                        }
                        thread::sleep(Duration::from_micros(dice.u64(0..3_000)));
                        writer.execute(if dice.u8(0..10) == 0 { "ROLLBACK" } else { "COMMIT" });
                        if turn == 6 && n < 2 {
                            database.copy("COPY models (id, name) FROM STDIN", "5\tcopied\n6\tcopied\n");
                        }
                    }
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        is_done.store(true, Ordering::SeqCst);
        reader.join().unwrap()
    });
    let sql = database.sql();
    assert_eq!(ours, sql.numbers("SELECT id FROM models ORDER BY id"), "each once, in order");
    assert!(ours.len() > 192, "{}", ours.len());
    let there = sql.numbers("SELECT id FROM naive ORDER BY id");
    assert!(naive.len() < there.len(), "the naive reader has all {} rows", there.len());
}
