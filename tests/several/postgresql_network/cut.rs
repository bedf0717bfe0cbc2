//! PostgreSQL on another machine, behind a cable that is pulled, and under a name that cannot be looked up.

use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};

use super::PUSH;
use crate::common::batch::batch;
use crate::common::listeners::{cable_client, discard, listener};
use crate::common::models::{self, STREAM, open_tab_at};
use crate::common::names::{NameServer, with_names};
use crate::common::network::{THERE, There, with_another_machine};
use crate::common::postgres::{Engine, TestDatabase};
use crate::common::{Server, create, get, read_until, wait_for};

batch! {
    crate::several::BATCH:
    a_cut_link_and_a_silent_name_server_cost_only_503_answers_and_servers_recover_by_themselves,
}

/// An address of the other machine that does not stay.
const VANISHES: &str = "10.99.0.9";
/// Connections of servers on this machine to PostgreSQL on the other one.
const CONNECTIONS: &str = "SELECT count(*) FROM pg_stat_activity WHERE client_addr IS NOT NULL";
/// PostgreSQL listens there, and ends the connections of a machine that has vanished, idle ones included.
const SETTINGS: [&str; 5] = [
    "listen_addresses=10.99.0.2",
    "tcp_user_timeout=2s",
    "tcp_keepalives_idle=1",
    "tcp_keepalives_interval=1",
    "tcp_keepalives_count=2",
];

fn a_cut_link_and_a_silent_name_server_cost_only_503_answers_and_servers_recover_by_themselves() {
    let path = concat!(
        module_path!(),
        "::at_once::a_cut_link_and_a_silent_name_server_cost_only_503_answers_and_servers_recover_by_themselves"
    );
    let (_, name) = path.split_once("::").unwrap();
    with_another_machine(name, |there| {
        let Some(engine) = Engine::start_behind(there.prefix(), &SETTINGS) else { return };
        partition(&there, &engine.database());
        vanished_host(&there, &engine.database());
        names(&engine.database());
    });
}

fn address() -> SocketAddr {
    format!("{THERE}:5432").parse().unwrap()
}

fn listens(server: &Server, wanted: bool) {
    server.wait_for_stats("notifications", |stats| stats["engine"]["listening"] == wanted);
}

/// A server behind the cable and one beside PostgreSQL, whose socket needs no network.
fn partition(there: &There, database: &TestDatabase<'_>) {
    let flags = ["--threads", "3", "--db-query-timeout", "4", "--update-rate", "100ms"];
    let cut = database.server(&[&flags[..], &["--database", &database.url_at(address())]].concat());
    let beside = database.server(&flags);
    listens(&cut, true);
    listens(&beside, true);
    let tabs = [(&cut, PUSH), (&cut, STREAM), (&beside, PUSH)]
        .map(|(server, path)| (path, open_tab_at(server, path, "tab 1", "0")));
    let mut listeners: Vec<TcpStream> = (0..2).map(|_| listener(&cut)).collect();
    let mut client = cable_client(&cut);
    assert_eq!(create(cut.app, "before").0, 201);

    there.pull_the_cable();
    listeners.iter_mut().chain([&mut client]).for_each(discard);
    assert_eq!(get(cut.app, "/").0, 503);
    assert_eq!(create(cut.app, "lost").0, 503);
    assert_eq!(get(cut.app, "/up").0, 200);
    listens(&cut, false);
    // Heartbeats and pings continue.
    for listener in &mut listeners {
        read_until(listener, ":\n\n");
    }
    for _ in 0..2 {
        read_until(&mut client, "\"ping\"");
    }
    // The other server does not notice, and its creates do not wait for transactions of the one that is cut off.
    listens(&beside, true);
    for _ in 0..3 {
        assert_eq!(create(beside.app, "meanwhile").0, 201);
    }
    assert_eq!(get(beside.app, "/").0, 200);
    let sql = database.sql();
    wait_for("the end of all half-open connections", || (sql.ask(CONNECTIONS) == 0).then_some(()));

    there.plug_the_cable_in();
    listens(&cut, true);
    wait_for("a page", || {
        let status = get(cut.app, "/").0;
        assert!([200, 503].contains(&status), "{status}");
        (status == 200).then_some(())
    });
    wait_for("a create", || {
        let status = create(cut.app, "after").0;
        assert!([201, 503].contains(&status), "{status}");
        (status == 201).then_some(())
    });
    let wanted = sql.numbers("SELECT id FROM models ORDER BY id");
    for (path, tab) in &tabs {
        models::expect_ids(tab, &wanted, path);
    }
}

/// A server that knows two addresses, the first of which refuses connections and then vanishes.
fn vanished_host(there: &There, database: &TestDatabase<'_>) {
    there.add_address(VANISHES);
    let hosts = database.url_at(address()).replace(THERE, &format!("{VANISHES}:5432,{THERE}"));
    let server = database.server(&["--threads", "1", "--database", &hosts]);
    listens(&server, true);
    there.remove_address(VANISHES);
    assert!(database.terminate(&database.sql(), "ninetabs %") > 0);
    listens(&server, false);
    listens(&server, true);
    wait_for("a page", || (get(server.app, "/").0 == 200).then_some(()));
}

/// A server that knows PostgreSQL by name.
fn names(database: &TestDatabase<'_>) {
    let names = NameServer::start(THERE.parse().unwrap());
    let url = database.url_at(address()).replace(THERE, "db.test");
    let start = || {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Server::command(folder.path());
        command.args(["--threads", "2", "--db-query-timeout", "1"]).env("NINETABS_DATABASE", &url);
        (with_names(&command, folder.path()), folder)
    };
    let (mut command, folder) = start();
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    command.stderr(std::fs::File::create(folder.path().join("log")).unwrap());
    let server = Server::spawn(command, folder);
    listens(&server, true);
    assert_eq!(create(server.app, "before").0, 201);

    names.answers(false);
    assert!(database.terminate(&database.sql(), "ninetabs %") > 0);
    listens(&server, false);
    assert_eq!(get(server.app, "/").0, 503);
    assert_eq!(create(server.app, "lost").0, 503);
    assert_eq!(get(server.app, "/up").0, 200);
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(Server::command(folder.path()).get_program());
    command.args(["serve", "--bind", "tcp://127.0.0.1:0", "--control-url", "tcp://127.0.0.1:0"]);
    command.args(["--db-query-timeout", "1"]).env("NINETABS_DATABASE", &url);
    let refused = with_names(&command, folder.path()).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && said.lines().count() == 1, "{said}");
    assert!(
        said.contains(&format!("--database {url}: ")) && said.contains("no connection within 1.0 s"),
        "{said}"
    );

    names.answers(true);
    listens(&server, true);
    wait_for("a page", || (get(server.app, "/").0 == 200).then_some(()));
    assert_eq!(create(server.app, "after").0, 201);
}
