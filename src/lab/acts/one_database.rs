//! Act 8: several servers on one PostgreSQL. A model created by any of them reaches every tab once, although a server
//! is killed, the connections to the database are cut, and the database is stopped.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::super::cluster::run::Cluster;
use super::super::cluster::{ClusterDatabase, ClusterError, ClusterPlan};
use super::super::http;
use super::{Played, count, spelled};
use crate::lab::claim::Claims;
use crate::lab::stage::{ActError, JUDGED_AT, Plan, Theater, in_seconds, spoken};

const SERVERS: usize = 3;
/// The server that is killed, and the servers through which models are created.
const KILLED: usize = 2;
const CREATES: [usize; 2] = [1, 3];
/// The minimum of the maximum time of a query, so that the servers can start on a busy machine.
const LEAST_QUERY: Duration = Duration::from_secs(4);
/// Cuts all connections of the servers, including those that wait for notifications.
const CUT: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'ninetabs'";

pub(super) fn title(plan: &Plan) -> String {
    format!("{SERVERS} servers, one database, {}", count(plan.tabs, "tab"))
}

pub(super) fn heading(plan: &Plan) -> String {
    format!("{}, one PostgreSQL, {}", spelled(SERVERS, "server"), spelled(plan.tabs, "tab"))
}

pub(super) fn expects(plan: &Plan) -> String {
    format!(
        "{} on {SERVERS} servers get each model once and in order, whichever server creates it. This holds while server \
         {KILLED} is killed, all connections to the database are cut, and the database stops. While it is stopped, /up is \
         answered, and a page with models gets 503.",
        count(plan.tabs, "tab"),
    )
}

/// The maximum time of a query.
fn query_timeout(plan: &Plan) -> Duration {
    plan.pace.checkout_timeout.max(LEAST_QUERY)
}

pub(super) fn play(theater: &mut Theater<'_>) -> Result<Played, ActError> {
    let plan = theater.plan;
    let flags = [
        ("--produce-every", "off".to_owned()),
        ("--retry", in_seconds(plan.pace.retry)),
        ("--db-query-timeout", in_seconds(query_timeout(plan))),
    ];
    let cluster_plan = ClusterPlan {
        program: plan.program.clone(),
        servers: SERVERS,
        tabs: plan.tabs,
        database: ClusterDatabase::PrivatePostgres,
        server_flags: flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect(),
        duration: None,
    };
    let mut claims = Claims::default();
    let mut cluster = Cluster::empty(&cluster_plan, theater.interrupt);
    cluster.start(&mut |_| Ok(()))?;
    let first = cluster.newest()?;
    cluster.open_tabs(first, &mut |_| Ok(()))?;

    let [one, other] = CREATES;
    let took = reaches_all(&mut cluster, one, plan, &mut claims, &format!("a model of server {one}"))?;
    cluster.kill(KILLED);
    reaches_all(&mut cluster, other, plan, &mut claims, &format!("one after server {KILLED} was killed"))?;
    if let Some(postgres) = cluster.postgres() {
        postgres.execute(CUT, theater.interrupt).map_err(ClusterError::from)?;
    }
    reaches_all(&mut cluster, one, plan, &mut claims, "one after all connections to PostgreSQL were cut")?;

    while_stopped(&cluster, plan, &mut claims);
    let last = cluster.create(other)?;
    reach(&mut cluster, last, plan, &mut claims, "one after PostgreSQL had stopped")?;
    let complete = cluster.complete_tabs(last);
    claims
        .equal("tabs that received each model once and in order", plan.tabs, complete)
        .says(format!("{complete} of {} received each model once and in order", count(plan.tabs, "tab")));
    let why = format!(
        "PostgreSQL assigns the numbers of the models in the order of their commits, and a notification wakes each server, \
         which then reads the table from the position of its tabs. A tab that comes back to any server names its last \
         number, so nothing is lost or repeated; a model of server {one} reached all tabs in {}.",
        spoken(took),
    );
    let conclusion = format!(
        "{complete} of {} received each model once and in order, on {SERVERS} servers",
        count(plan.tabs, "tab")
    );
    Ok(Played { claims, why, conclusion, main: 0 })
}

/// Creates a model through this server. Returns the time until the last tab received it.
fn reaches_all(
    cluster: &mut Cluster<'_>,
    server: usize,
    plan: &Plan,
    claims: &mut Claims,
    what: &str,
) -> Result<Duration, ActError> {
    let id = cluster.create(server)?;
    let began = Instant::now();
    reach(cluster, id, plan, claims, what)?;
    Ok(began.elapsed())
}

fn reach(
    cluster: &mut Cluster<'_>,
    id: i64,
    plan: &Plan,
    claims: &mut Claims,
    what: &str,
) -> Result<(), ActError> {
    let tabs = cluster.wait_for_tabs(id)?;
    claims
        .equal(format!("tabs that received {what}"), plan.tabs, tabs)
        .says(format!("{} received {what}", count(tabs, "tab")));
    Ok(())
}

/// Stops PostgreSQL, requests two pages, and continues it.
fn while_stopped(cluster: &Cluster<'_>, plan: &Plan, claims: &mut Claims) {
    let Some(postgres) = cluster.postgres() else { return };
    postgres.signal(Signal::STOP);
    for (path, expected) in [("/up", "200"), ("/models.json", "503")] {
        let url = format!("{}{path}", cluster.url(CREATES[0]));
        let answer = http::get(&url, query_timeout(plan) * JUDGED_AT);
        let measured = answer.map_or_else(|_| "no answer".to_owned(), |answer| answer.status().to_string());
        let sentence = format!("GET {path} while PostgreSQL is stopped: {measured}");
        claims
            .push(
                format!("GET {path}, while PostgreSQL is stopped"),
                expected,
                &measured,
                measured == expected,
            )
            .says(sentence);
    }
    postgres.signal(Signal::CONT);
}
