//! Clients that were not written for this project, while servers, connections and PostgreSQL are killed and stopped:
//! `curl`, the package `eventsource`, and Rails' own client of Action Cable.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::cluster::{Running, is_installed, signal_all, with_children};
use crate::common::batch::batch;
use crate::common::postgres::Sql;
use crate::common::{models, npm, program, wait_for};

batch! {
    crate::several::BATCH:
    other_programs_get_each_model_once_and_in_order_while_everything_is_killed_and_stopped,
}

/// Requests the stream again whenever it ends, and at least every five seconds, with the id of the last complete event.
/// An incomplete event is discarded, as by an EventSource.
const CURL: &str = r#"
while kill -0 "$PPID"; do
  last=$(tail -n 1 last)
  curl -sN -m 5 -H "Last-Event-ID: ${last:-0}" "$1" | {
    id= data=
    while IFS= read -r line; do
      case $line in
        'id: '*) id=${line#id: } ;;
        'data: '*) data=${line#data: } ;;
        '')
          [ -n "$data" ] && echo "$data" && echo "$id" >> last
          id= data=
          ;;
      esac
    done
  }
  sleep 0.2
done
"#;

const EVENTSOURCE: &str = r"
const { EventSource } = require('eventsource');
const source = new EventSource(process.argv[1] + '?lastEventId=0');
source.onmessage = event => console.log(event.data);
source.onerror = event => {
  if (source.readyState === EventSource.CLOSED) {
    console.error(event.code, event.message);
    process.exit(1);
  }
};
";

/// Rails' client expects parts of a browser. A package sends the origin of a page.
const CABLE: &str = r"
const { WebSocket } = require('ws');
const { adapters, createConsumer } = require('@rails/actioncable');
globalThis.addEventListener = globalThis.removeEventListener = () => {};
const origin = process.argv[1];
adapters.WebSocket = class extends WebSocket {
  constructor(url, protocols) {
    super(url, protocols, { origin });
  }
};
const consumer = createConsumer(origin.replace('http', 'ws') + '/cable');
const show = model => console.log(JSON.stringify([model]));
";

/// The channel of a Rails app.
const WITHOUT_POSITION: &str = "consumer.subscriptions.create('ModelsChannel', { received: show });";

/// Subscribes again with the id of the last model after each lost connection.
const WITH_POSITION: &str = r"
let since = 0;
const subscribe = () => {
  const subscription = consumer.subscriptions.create({ channel: 'ModelsChannel', since }, {
    received: model => {
      since = model.id;
      show(model);
    },
    disconnected: () => {
      subscription.unsubscribe();
      subscribe();
    },
  });
};
subscribe();
";

/// Ends the program when this process ends.
const ENDS_WITH_STDIN: &str = "process.stdin.resume().on('end', () => process.exit());";

/// A client that prints a list of models per line.
struct Client {
    name: &'static str,
    child: Child,
    folder: tempfile::TempDir,
}

impl Client {
    fn start(name: &'static str, command: &mut Command) -> Client {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| File::create(folder.path().join(name)).unwrap();
        file("last");
        command.stdin(Stdio::piped()).stdout(file("out")).stderr(file("err")).process_group(0);
        let child = command.current_dir(folder.path()).spawn().unwrap();
        Client { name, child, folder }
    }

    fn node(name: &'static str, packages: &Path, script: &str, url: &str) -> Client {
        let script = format!("{script}{ENDS_WITH_STDIN}");
        let mut command = Command::new("node");
        command.args(["-e", &script, url]).env("NODE_PATH", packages.join("node_modules"));
        Client::start(name, &mut command)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap()
    }

    /// The ids of all models that it has printed in complete lines.
    fn ids(&self) -> Vec<i64> {
        let out = self.read("out");
        let complete = out.rsplit_once('\n').map(|(complete, _)| complete).unwrap_or_default();
        complete.lines().flat_map(models::ids).collect()
    }

    /// Waits until it has printed this model or a later one.
    fn wait_for(&mut self, id: i64) {
        wait_for(&format!("model {id} at {}", self.name), || {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "{} ended: {}", self.name, self.read("err"));
            self.ids().iter().any(|it| *it >= id).then_some(())
        });
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It may have ended.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }
}

/// The ids in the table.
fn table(url: &str) -> Vec<i64> {
    let sql = wait_for("a connection", || Sql::connect(url).ok());
    sql.numbers("SELECT id FROM models ORDER BY id")
}

fn other_programs_get_each_model_once_and_in_order_while_everything_is_killed_and_stopped() {
    if !is_installed() {
        return;
    }
    let (Some(_), Some(_), Some(_)) = (program("haproxy"), program("curl"), program("node")) else { return };
    let packages = ["eventsource@3.0.7", "ws@8.18.3", "@rails/actioncable@8.1.400"];
    let Some(packages) = npm::install(&packages) else { return };
    let packages = packages.path();

    let flags = ["--produce-every", "0.5", "--retry", "1", "--update-rate", "0.2", "--db-query-timeout", "2"];
    let mut cluster = Running::start(&[&["--tabs", "0", "--"][..], &flags].concat());
    let postgres = cluster.hear("PostgreSQL ");
    let servers = [1, 2, 3].map(|n| cluster.hear(&format!("Server {n} (process")));
    cluster.hear("No tab listens");
    let (url, database) = (cluster.address("HAProxy "), cluster.address("PostgreSQL ").to_owned());
    let (push, stream) = (format!("{url}/fixes/push/stream"), format!("{url}/models/live_stream"));
    let with_position = format!("{CABLE}{WITH_POSITION}");
    let curl = |url: &str| Client::start("curl", Command::new("sh").args(["-c", CURL, "sh", url]));
    let mut clients = [
        curl(&push),
        curl(&stream),
        Client::node("eventsource on push", packages, EVENTSOURCE, &push),
        Client::node("eventsource on live_stream", packages, EVENTSOURCE, &stream),
        Client::node("actioncable with a position", packages, &with_position, url),
    ];
    let mut plain = Client::node("actioncable", packages, &format!("{CABLE}{WITHOUT_POSITION}"), url);
    let newest = |database: &str| wait_for("a model", || table(database).last().copied());
    let wait_for_all = |clients: &mut [Client]| {
        let newest = newest(&database);
        clients.iter_mut().for_each(|client| client.wait_for(newest));
    };
    wait_for_all(&mut clients);
    plain.wait_for(1);

    // One server at a time, so that HAProxy always has a server for a client that reconnects.
    for (n, server) in (1..).zip(servers) {
        kill_process(server, Signal::KILL).unwrap();
        cluster.hear(&format!("Server {n} (process {}) ended", server.as_raw_nonzero()));
        cluster.hear(&format!("Server {n} (process"));
    }
    wait_for_all(&mut clients);

    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE application_name LIKE 'ninetabs 127%'";
    assert!(Sql::connect(&database).unwrap().ask(cut) > 3);
    wait_for_all(&mut clients);

    signal_all(&with_children(postgres), Signal::KILL);
    cluster.hear("PostgreSQL ended");
    let postgres = cluster.hear("PostgreSQL ");
    wait_for_all(&mut clients);

    let processes = with_children(postgres);
    signal_all(&processes, Signal::STOP);
    thread::sleep(Duration::from_secs(3));
    signal_all(&processes, Signal::CONT);
    wait_for_all(&mut clients);

    // Rails' client reconnects after up to 15 s.
    plain.wait_for(newest(&database));
    let there = table(&database);
    let last = *there.last().unwrap();
    for client in &mut clients {
        client.wait_for(last);
        let ids: Vec<i64> = client.ids().into_iter().filter(|id| *id <= last).collect();
        assert_eq!(ids, there, "{}", client.name);
    }
    // Action Cable repeats nothing, but what was sent while the client was not connected is lost.
    plain.wait_for(last);
    let ids = plain.ids();
    assert!(ids.is_sorted_by(|one, next| one < next), "{ids:?}");
    assert!(ids.iter().filter(|id| **id <= last).all(|id| there.contains(id)), "{ids:?}");

    drop((clients, plain));
    cluster.signal(Signal::INT);
    cluster.end();
    cluster.expect_nothing_left();
}
