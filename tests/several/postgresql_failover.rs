//! Failovers to a real standby, a copy of the database's files that is restored, and crashes: no number is assigned
//! twice, and servers find the new primary by themselves.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use ninetabs::lab::http;
use ninetabs::lab::tab::Tab;
use rustix::process::Signal;
use serde_json::Value;

use crate::common::batch::batch;
use crate::common::models::{self, open_tab_at};
use crate::common::postgres::{Engine, Sql, TestDatabase, engine};
use crate::common::{PATIENCE, Server, get, wait_for};

batch! {
    crate::several::BATCH:
    after_an_asynchronous_failover_models_may_be_lost_and_no_number_is_assigned_twice,
    with_a_synchronous_standby_every_answered_model_survives_and_without_it_creates_wait,
    servers_leave_a_primary_that_becomes_read_only_or_hangs_and_never_return_to_it,
    a_restored_copy_of_the_files_and_crashes_without_synchronous_commit_assign_no_number_twice,
    a_database_that_is_read_only_for_a_while_serves_pages_and_answers_creates_with_503,
}

const PUSH: &str = "/fixes/push/stream";
const FLAGS: [&str; 6] = ["--threads", "2", "--db-query-timeout", "6", "--update-rate", "50ms"];
/// By how much numbers jump after a failover.
const JUMP: i64 = 1_000_000;
const SYNCHRONOUS: &str = "synchronous_standby_names";

/// Each model that was answered with 201: its number and its name.
#[derive(Debug, Default)]
struct Answered(BTreeMap<i64, String>);

impl Answered {
    /// Creates a model with a name of its own. Returns its number, or nothing if the answer is 503. Fails if the number
    /// was assigned before.
    fn create(&mut self, server: &Server) -> Option<i64> {
        let name = format!("{:x}", fastrand::u128(..));
        let (id, name) = create(server, name)?;
        let assigned = self.0.insert(id, name);
        assert_eq!(assigned, None, "number {id} was assigned twice");
        Some(id)
    }

    /// Creates a model, which may be answered with 503 at first.
    fn create_in_the_end(&mut self, server: &Server) -> i64 {
        wait_for("a create", || self.create(server))
    }

    /// Fails unless each model is in the table with its name.
    fn expect_all_in(&self, sql: &Sql) {
        let there = table(sql);
        for (id, name) in &self.0 {
            assert_eq!(there.get(id), Some(name), "model {id} is lost or replaced");
        }
    }
}

/// Creates a model. Returns nothing if the answer is 503.
fn create(server: &Server, name: String) -> Option<(i64, String)> {
    let body = serde_json::json!({ "name": name }).to_string();
    let answer = http::post(&server.url("/models"), "application/json", body, PATIENCE).unwrap();
    assert!([201, 503].contains(&answer.status()), "{} {}", answer.status(), answer.text());
    let model: Value = (answer.status() == 201).then(|| answer.json().unwrap())?;
    Some((model["id"].as_i64().unwrap(), name))
}

/// The numbers and names of all rows.
fn table(sql: &Sql) -> BTreeMap<i64, String> {
    sql.rows("SELECT id, name FROM models").iter().map(|row| (row.get(0), row.get(1))).collect()
}

fn ids_of(sql: &Sql) -> Vec<i64> {
    sql.numbers("SELECT id FROM models ORDER BY id")
}

fn epochs(sql: &Sql) -> i64 {
    sql.ask("SELECT count(*) FROM ninetabs_epochs")
}

fn listening(server: &Server) {
    server.wait_for_stats("notifications", |stats| stats["engine"]["listening"] == true);
}

fn wait_until_it_has(tab: &Tab, id: i64) {
    let has = |last: &str| last.parse().is_ok_and(|last: i64| last >= id);
    assert!(
        tab.wait_for(|it| has(&it.last_event_id), PATIENCE).is_some(),
        "a tab still waits for model {id}"
    );
}

/// Waits until a page with models is served.
fn wait_for_a_page(server: &Server) {
    wait_for("a page", || (get(server.app, "/").0 == 200).then_some(()));
}

/// Two servers, a tab of each, and four models that they have created by turns.
fn two_servers_with_four_models(database: &TestDatabase<'_>, url: &str) -> ([Server; 2], [Tab; 2], Answered) {
    let servers = [(); 2].map(|()| database.server_at(url, &FLAGS));
    let tabs = [0, 1].map(|n| open_tab_at(&servers[n], PUSH, "tab 1", "0"));
    let mut answered = Answered::default();
    (0..4).for_each(|n| _ = answered.create_in_the_end(&servers[n % 2]));
    (servers, tabs, answered)
}

fn after_an_asynchronous_failover_models_may_be_lost_and_no_number_is_assigned_twice() {
    let Some(primary) = Engine::start_primary() else { return };
    let standby = primary.start_standby();
    let database = primary.database();
    let url = database.url_with(&standby);
    let (servers, tabs, mut answered) = two_servers_with_four_models(&database, &url);
    primary.wait_for_standbys(1);

    // The standby receives nothing of this.
    standby.set("primary_conninfo", "");
    primary.wait_for_standbys(0);
    let replicated = ids_of(&database.on(&standby).sql());
    let confirmed = answered.0.len();
    (0..6).for_each(|n| _ = answered.create_in_the_end(&servers[n % 2]));
    let delivered = ids_of(&database.sql());
    let last = *delivered.last().unwrap();
    tabs.iter().for_each(|tab| wait_until_it_has(tab, last));
    primary.kill();
    standby.promote();

    // The servers find the new primary, and the numbers of the lost models are not assigned again.
    for n in 0..4 {
        assert!(answered.create_in_the_end(&servers[n % 2]) > JUMP);
    }
    let promoted = database.on(&standby);
    promoted.psql("INSERT INTO models (name) VALUES ('by psql')");
    let sql = promoted.sql();
    let new: Vec<i64> = ids_of(&sql).into_iter().filter(|id| *id > JUMP).collect();
    assert_eq!((ids_of(&sql), epochs(&sql)), ([&replicated[..], &new].concat(), 2));
    for tab in &tabs {
        models::expect_ids(tab, &[&delivered[..], &new].concat(), "a tab that stayed connected");
    }
    // A tab that reconnects to another server has a number that the new primary has never assigned.
    let third = promoted.server_at(&url, &FLAGS);
    let returning = open_tab_at(&third, PUSH, "tab 1", &last.to_string());
    models::expect_ids(&returning, &new, "a tab that reconnected");

    // The former primary comes back while the new one is away. It accepts writes, and gets none.
    standby.kill();
    primary.launch();
    for server in &servers {
        wait_for("the refusal", || {
            assert_eq!(answered.create(server), None);
            server.log().contains("it is a former primary").then_some(())
        });
    }
    standby.launch();
    servers.iter().for_each(|server| _ = answered.create_in_the_end(server));
    assert_eq!(ids_of(&database.sql()), delivered);
    let (lost, kept): (BTreeMap<_, _>, BTreeMap<_, _>) =
        answered.0.into_iter().partition(|(id, _)| delivered.contains(id) && !replicated.contains(id));
    Answered(kept).expect_all_in(&promoted.sql());
    // This is what only a synchronous standby prevents.
    assert_eq!((confirmed, lost.len()), (4, 6));
}

fn with_a_synchronous_standby_every_answered_model_survives_and_without_it_creates_wait() {
    let Some(primary) = Engine::start_primary() else { return };
    // The standby inherits the setting with the files.
    primary.set(SYNCHRONOUS, "*");
    let standby = primary.start_standby();
    let database = primary.database();
    let url = database.url_with(&standby);
    let (servers, tabs, mut answered) = two_servers_with_four_models(&database, &url);

    // While the standby is stopped, a create waits for it and keeps the lock.
    standby.signal(Signal::STOP);
    let sql = database.sql();
    let patient = database.server(&["--threads", "2", "--db-query-timeout", "60"]);
    thread::scope(|scope| {
        let create = scope.spawn(|| create(&patient, "cancelled".to_owned()));
        let waits = "SELECT pid::bigint FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        let pid = wait_for("the wait", || sql.numbers(waits).first().copied());
        assert_eq!(answered.create(&servers[1]), None);
        let holder = wait_for("the holder", || {
            assert_eq!(answered.create(&servers[0]), None);
            servers[0].stats()["engine"]["lock_holder"]["pid"].as_i64()
        });
        assert_eq!(holder, pid);
        sql.execute(&format!("SELECT pg_cancel_backend({pid})"));
        // PostgreSQL reports success, with a warning.
        assert_eq!(create.join().unwrap(), None);
    });
    assert!(
        patient.log().contains("the model may not be stored safely: canceling wait for"),
        "{}",
        patient.log()
    );
    drop(patient);
    // This one has the lock, its client has given up, and it still waits.
    assert_eq!(answered.create(&servers[0]), None);
    let before = ids_of(&sql);
    assert_eq!((before.len(), answered.create(&servers[1])), (5, None));
    servers.iter().for_each(wait_for_a_page);
    assert_eq!(get(servers[0].app, "/up").0, 200);
    standby.signal(Signal::CONT);
    wait_for("the rows that waited", || (ids_of(&sql).len() > before.len()).then_some(()));
    servers.iter().for_each(|server| _ = answered.create_in_the_end(server));

    // The primary is killed while both servers create models.
    let is_done = AtomicBool::new(false);
    let written = thread::scope(|scope| {
        let writers = [0, 1].map(|n| {
            let (server, is_done) = (&servers[n], &is_done);
            scope.spawn(move || {
                let mut written = Answered::default();
                while !is_done.load(Ordering::Relaxed) {
                    written.create(server);
                }
                written
            })
        });
        let last = *ids_of(&sql).last().unwrap();
        tabs.iter().for_each(|tab| wait_until_it_has(tab, last + 10));
        primary.kill();
        is_done.store(true, Ordering::Relaxed);
        writers.map(|writer| writer.join().unwrap())
    });
    let before = answered.0.len();
    let (ours, theirs) = (written[0].0.len(), written[1].0.len());
    written.into_iter().for_each(|it| answered.0.extend(it.0));
    assert_eq!(answered.0.len(), before + ours + theirs, "no number is assigned twice");
    standby.promote();

    // The new primary waits for a standby: models are read, and creates are answered with 503.
    servers.iter().for_each(wait_for_a_page);
    servers.iter().for_each(|server| assert_eq!(answered.create(server), None));
    standby.set(SYNCHRONOUS, "");
    for server in &servers {
        assert!(answered.create_in_the_end(server) > JUMP);
    }
    let promoted = database.on(&standby).sql();
    answered.expect_all_in(&promoted);
    let there = ids_of(&promoted);
    for tab in &tabs {
        models::expect_ids(tab, &there, "each tab");
    }
}

fn servers_leave_a_primary_that_becomes_read_only_or_hangs_and_never_return_to_it() {
    let Some(first) = Engine::start_primary() else { return };
    let second = first.start_standby();
    let database = first.database();
    let server = database.server_at(&database.url_with(&second), &FLAGS);
    let tab = open_tab_at(&server, PUSH, "tab 1", "0");
    listening(&server);
    let mut answered = Answered::default();
    answered.create_in_the_end(&server);

    // A switchover: the primary is made read-only, and keeps running.
    first.set("default_transaction_read_only", "on");
    assert_eq!(answered.create(&server), None);
    assert!(server.log().contains("(SQLSTATE 25006)"), "{}", server.log());
    first.wait_for_standbys(1);
    second.promote();
    answered.create_in_the_end(&server);
    let promoted = database.on(&second);
    // It is found by the follower, which does not listen at the former primary any more.
    promoted.psql("INSERT INTO models (name) VALUES ('by psql')");
    models::expect_ids(&tab, &ids_of(&promoted.sql()), "the tab");

    // The former primary becomes the standby of the new one, which then hangs.
    first.kill();
    first.follow(&second);
    listening(&server);
    second.signal(Signal::STOP);
    first.promote();
    (0..2).for_each(|_| _ = answered.create_in_the_end(&server));
    second.signal(Signal::CONT);
    // It accepts writes again, and other connections to it are idle.
    (0..6).for_each(|_| _ = answered.create_in_the_end(&server));
    let sql = database.sql();
    answered.expect_all_in(&sql);
    assert_eq!(epochs(&sql), 3);
    let newest = ids_of(&promoted.sql()).into_iter().filter(|id| *id > 2 * JUMP).count();
    assert_eq!(newest, 0, "the former primary has models of the new epoch");
    wait_until_it_has(&tab, *answered.0.last_key_value().unwrap().0);
    let new: Vec<i64> = ids_of(&sql).into_iter().filter(|id| *id > 2 * JUMP).collect();
    models::expect_ids(&tab, &new, "the tab");
}

/// Creates models through all servers at the same time.
fn create_at_once(servers: &[Server], answered: &mut Answered) {
    let created: Vec<Answered> = thread::scope(|scope| {
        let writers = servers.iter().map(|server| {
            scope.spawn(|| {
                let mut created = Answered::default();
                (0..3).for_each(|_| _ = created.create_in_the_end(server));
                created
            })
        });
        writers.collect::<Vec<_>>().into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    for (id, name) in created.into_iter().flat_map(|it| it.0) {
        assert_eq!(answered.0.insert(id, name), None, "number {id} was assigned twice");
    }
}

fn a_restored_copy_of_the_files_and_crashes_without_synchronous_commit_assign_no_number_twice() {
    let Some(engine) = Engine::start() else { return };
    let database = engine.database();
    database.sql().execute(&format!("ALTER DATABASE {} SET synchronous_commit = off", database.name()));
    let servers = [(); 3].map(|()| database.server(&FLAGS));
    let tabs = [0, 1].map(|n| open_tab_at(&servers[n], PUSH, "tab 1", "0"));
    let mut answered = Answered::default();

    // Without the trigger, a crash would lose the last commits.
    for _ in 0..3 {
        create_at_once(&servers, &mut answered);
        engine.kill();
        engine.launch();
        answered.expect_all_in(&database.sql());
    }
    let setting = database.sql().rows("SELECT current_setting('synchronous_commit')");
    assert_eq!(setting[0].get::<_, &str>(0), "off");
    create_at_once(&servers, &mut answered);

    engine.shut_down();
    let copy = engine.copy_files();
    engine.launch();
    let copied = ids_of(&database.sql());
    create_at_once(&servers, &mut answered);
    let delivered = ids_of(&database.sql());
    tabs.iter().for_each(|tab| wait_until_it_has(tab, *delivered.last().unwrap()));
    engine.shut_down();
    engine.restore_files(copy);
    engine.launch();
    assert_eq!(ids_of(&database.sql()), copied);
    // All servers connect again at the same time, and the numbers jump once.
    create_at_once(&servers, &mut answered);
    let sql = database.sql();
    let new: Vec<i64> = ids_of(&sql).into_iter().filter(|id| !copied.contains(id)).collect();
    assert!(new.len() >= 9 && new.iter().all(|id| (JUMP..2 * JUMP).contains(id)), "{new:?}");
    for tab in &tabs {
        models::expect_ids(tab, &[&delivered[..], &new].concat(), "each tab");
    }
    assert_eq!(epochs(&sql), 1);
}

fn a_database_that_is_read_only_for_a_while_serves_pages_and_answers_creates_with_503() {
    let Some(engine) = engine() else { return };
    let database = engine.database();
    let server = database.server(&FLAGS);
    let mut answered = Answered::default();
    answered.create_in_the_end(&server);
    let sql = database.sql();
    let name = database.name();
    sql.execute(&format!("ALTER DATABASE {name} SET default_transaction_read_only = on"));
    assert!(database.terminate(&database.admin(), "ninetabs 127%") > 0);
    wait_for_a_page(&server);
    // A create may be the first to find that its connection was closed. The next one has a new connection.
    wait_for("a create that is refused as read-only", || {
        assert_eq!(answered.create(&server), None);
        server.log().contains("(SQLSTATE 25006)").then_some(())
    });
    listening(&server);
    sql.execute("SET default_transaction_read_only = off");
    sql.execute(&format!("ALTER DATABASE {name} RESET default_transaction_read_only"));
    answered.create_in_the_end(&server);
    answered.expect_all_in(&sql);
}
