//! Act 10: the third pool. PostgreSQL admits 97 connections, and each server opens one per thread and three more, so
//! the ninth server of eight threads does not start. It starts behind a pooler, or with a smaller pool per server.

mod fleet;

use std::time::Instant;

use super::super::cluster::ClusterError;
use super::super::cluster::pooler::{Pooler, PoolerLimits};
use super::super::cluster::postgres::PrivatePostgres;
use super::super::interrupt::Interrupt;
use super::super::program::is_everything_required;
use super::{Played, count, spelled};
use crate::lab::claim::Claims;
use crate::lab::stage::{ActError, Plan, Theater};
use fleet::{Fleet, FleetPlan, FleetTabs, SETTLE_WITHIN};

/// The connections that PostgreSQL admits of an ordinary role: 100, of which 3 are reserved for superusers.
const ADMITTED: usize = 97;
const ADMITTED_IN_WORDS: &str = "ninety-seven connections";
/// The connections of a server besides its pool: one each to read, to listen and to produce.
const BESIDE_THE_POOL: usize = 3;
/// The connections of the pooler to PostgreSQL, for all servers.
const POOLED: usize = 20;
/// The pool of a server whose streams hold no connection.
const SMALL_POOL: usize = 2;
const ADMITS: &str = "SELECT current_setting('max_connections')::integer \
                      - current_setting('superuser_reserved_connections')::integer";
const BACKENDS: &str = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'ninetabs'";

/// The numbers that follow from the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ConnectionShares {
    /// The connections of a server.
    each: usize,
    /// How many servers PostgreSQL admits.
    fitting: usize,
    /// One more than fit.
    servers: usize,
    /// The connections that the last server gets before it ends.
    left: usize,
    /// The connections in the small pool of each server.
    small_pool: usize,
    /// How many of the servers PostgreSQL admits if each has the small pool.
    small: usize,
}

fn shares(plan: &Plan) -> ConnectionShares {
    let each = plan.most_threads() + BESIDE_THE_POOL;
    let fitting = ADMITTED / each;
    let small_pool = SMALL_POOL.min(plan.most_threads());
    let servers = fitting + 1;
    let small = servers.min(ADMITTED / (small_pool + BESIDE_THE_POOL));
    ConnectionShares { each, fitting, servers, left: ADMITTED % each, small_pool, small }
}

/// The flags with which a server needs few connections.
fn small_pool_flags(shares: ConnectionShares) -> [String; 4] {
    ["--db-pool".to_owned(), shares.small_pool.to_string(), "--db-lease".to_owned(), "query".to_owned()]
}

pub(super) fn title(plan: &Plan) -> String {
    format!("The third pool: {}, {ADMITTED} connections", count(shares(plan).servers, "server"))
}

pub(super) fn heading(plan: &Plan) -> String {
    format!("{}, {ADMITTED_IN_WORDS}", spelled(shares(plan).servers, "server"))
}

pub(super) fn expects(plan: &Plan) -> String {
    let shares = shares(plan);
    let ConnectionShares { each, fitting, servers, small, .. } = shares;
    let starts = if fitting == 1 { "starts" } else { "start" };
    format!(
        "PostgreSQL is the third pool: it admits {ADMITTED} connections of an ordinary role. A server opens {each}: one \
         per thread, and one each to read, to listen and to produce. So {} {starts}, and server {servers} ends. Behind \
         PgBouncer with {POOLED} connections, {servers} of {servers} start, and with {}, {small} of {servers}.",
        count(fitting, "server"),
        small_pool_flags(shares).join(" "),
    )
}

pub(super) fn play(theater: &mut Theater<'_>) -> Result<Played, ActError> {
    let (plan, interrupt) = (theater.plan, theater.interrupt);
    let mut claims = Claims::default();
    let postgres = PrivatePostgres::start(interrupt).map_err(ClusterError::from)?;
    let pool = ThirdPool { postgres: &postgres, plan, interrupt };
    let refusal = pool.without_a_remedy(&mut claims)?;
    match pool.behind_a_pooler(&mut claims) {
        Err(ActError::NotInstalled(error)) if !is_everything_required() => {
            theater.skipped.push(error.to_string());
        }
        played => played?,
    }
    pool.with_a_small_pool(&mut claims)?;
    let ConnectionShares { each, fitting, servers, .. } = shares(plan);
    let why = format!(
        "A server opens its connections at the start and keeps them, so {servers} × {each} do not fit into {ADMITTED}. \
         PgBouncer lends a connection only for a transaction. With --db-lease query, a stream borrows one per query, so \
         {} need few.",
        count(plan.most_threads(), "thread"),
    );
    let conclusion = format!(
        "{} with {each} connections each fit into PostgreSQL's {ADMITTED}; server {servers} ended: {refusal}",
        count(fitting, "server"),
    );
    Ok(Played { claims, why, conclusion, main: 0 })
}

/// PostgreSQL, and the servers that are started on it.
struct ThirdPool<'a> {
    postgres: &'a PrivatePostgres,
    plan: &'a Plan,
    interrupt: &'a Interrupt,
}

impl<'a> ThirdPool<'a> {
    /// Starts the servers with the default pool. Returns what the last one said.
    fn without_a_remedy(&self, claims: &mut Claims) -> Result<String, ActError> {
        let ConnectionShares { each, fitting, servers, left, .. } = shares(self.plan);
        let admitted = self.number(ADMITS)?;
        claims
            .equal("connections that PostgreSQL admits of an ordinary role", ADMITTED, admitted)
            .says(format!("PostgreSQL admits {}", count(admitted, "connection")));
        let (fleet, refusal) = self.start(&self.postgres.url(), None, &[])?;
        let refusal = refusal.unwrap_or_else(|| "it started".to_owned());
        let backends = self.backends(fitting * each)?;
        claims.equal("servers that started", fitting, fleet.servers()).says(format!(
            "{} of {} started",
            fleet.servers(),
            count(servers, "server")
        ));
        claims
            .equal("connections of these servers", fitting * each, backends)
            .says(format!("they have {}", count(backends, "connection")));
        // If the first connection is refused, no part of the pool has been opened.
        let words =
            [format!("accepted only {left} "), "SQLSTATE 53300".to_owned(), "max_connections".to_owned()];
        claims
            .push(
                format!("message of server {servers}"),
                format!("accepted only {left} …, SQLSTATE 53300, … max_connections"),
                &refusal,
                words.iter().all(|words| refusal.contains(words)),
            )
            .says(format!("server {servers}: {refusal}"));
        Ok(refusal)
    }

    /// Starts the servers behind a pooler. Each creates a model, which each tab must receive once.
    fn behind_a_pooler(&self, claims: &mut Claims) -> Result<(), ActError> {
        let ConnectionShares { each, servers, .. } = shares(self.plan);
        self.wait_until_empty()?;
        // Each server also opens one for a moment, when it tests whether notifications arrive.
        let limits = PoolerLimits { backends: POOLED, clients: servers * (each + 1) };
        let pooler = Pooler::start(self.postgres, limits, self.interrupt).map_err(ClusterError::from)?;
        let (fleet, refusal) = self.start(pooler.url(), Some(self.postgres.url()), &[])?;
        self.claim_start(claims, "PgBouncer", &fleet, servers, refusal);
        let tabs = self.plan.tabs;
        let mut listeners = FleetTabs::open(&fleet, tabs, self.interrupt)?;
        let last = fleet.create_at_each()?.into_iter().max().unwrap_or_default();
        listeners.wait_for(last)?;
        let (complete, models) = (listeners.complete(last), fleet.servers());
        claims.equal("tabs that received a model of each server, once and in order", tabs, complete).says(
            format!(
                "{complete} of {} received a model of each of {} once and in order",
                count(tabs, "tab"),
                count(models, "server")
            ),
        );
        let backends = self.number(BACKENDS)?;
        let most = POOLED + servers;
        claims
            .push(
                "connections of PgBouncer and the listening servers",
                format!("at most {most}"),
                backends.to_string(),
                (servers + 1..=most).contains(&backends),
            )
            .says(format!("they share {} of PostgreSQL", count(backends, "connection")));
        Ok(())
    }

    /// Starts the servers with a small pool. The streams of one server hold no connection.
    fn with_a_small_pool(&self, claims: &mut Claims) -> Result<(), ActError> {
        let shares = shares(self.plan);
        self.wait_until_empty()?;
        let (fleet, refusal) = self.start(&self.postgres.url(), None, &small_pool_flags(shares))?;
        let flags = format!("--db-pool {}", shares.small_pool);
        self.claim_start(claims, &flags, &fleet, shares.small, refusal);
        let expected = shares.small * (shares.small_pool + BESIDE_THE_POOL);
        let backends = self.backends(expected)?;
        claims
            .equal(format!("{flags}: connections of these servers"), expected, backends)
            .says(format!("they have {}", count(backends, "connection")));
        let streams = self.plan.most_threads();
        let streaming = fleet.streams_at_the_first(streams)?;
        claims
            .equal(format!("{flags}: streams of one server that received a model"), streams, streaming)
            .says(format!("{} of one server received a model", count(streaming, "stream")));
        Ok(())
    }

    fn claim_start(
        &self,
        claims: &mut Claims,
        remedy: &str,
        fleet: &Fleet<'_>,
        expected: usize,
        refusal: Option<String>,
    ) {
        let started = fleet.servers();
        let refusal = refusal.map_or_else(String::new, |refusal| format!(": {refusal}"));
        claims.equal(format!("{remedy}: servers that started"), expected, started).begin_scene().says(
            format!("{remedy}: {started} of {} started{refusal}", count(shares(self.plan).servers, "server")),
        );
    }

    fn start(
        &self,
        database: &str,
        cable: Option<String>,
        flags: &[String],
    ) -> Result<(Fleet<'a>, Option<String>), ActError> {
        let plan = FleetPlan { plan: self.plan, database, cable, flags };
        Fleet::start(shares(self.plan).servers, &plan, self.interrupt)
    }

    fn number(&self, query: &str) -> Result<usize, ActError> {
        let numbers = self.postgres.ask(query, self.interrupt).map_err(ClusterError::from)?;
        Ok(numbers.first().and_then(|number| usize::try_from(*number).ok()).unwrap_or_default())
    }

    /// Waits until the servers have at most this many connections, because those of an ended server are closed a moment
    /// later. Returns the last number.
    fn backends(&self, expected: usize) -> Result<usize, ActError> {
        let deadline = Instant::now() + SETTLE_WITHIN;
        loop {
            let backends = self.number(BACKENDS)?;
            if backends <= expected || Instant::now() >= deadline {
                return Ok(backends);
            }
            self.interrupt.sleep(fleet::LOOK_EVERY)?;
        }
    }

    /// Waits until the connections of ended servers are closed.
    fn wait_until_empty(&self) -> Result<(), ActError> {
        self.backends(0).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::stage::Pace;

    fn of(threads: usize) -> ConnectionShares {
        shares(&Plan {
            program: "ninetabs".into(),
            threads: threads..=threads,
            tabs: 9,
            front: "puma".to_owned(),
            pace: Pace::FAST,
        })
    }

    #[test]
    fn the_number_of_servers_follows_from_the_threads() {
        let nine = ConnectionShares { each: 11, fitting: 8, servers: 9, left: 9, small_pool: 2, small: 9 };
        assert_eq!(of(8), nine);
        // With one thread per server, a smaller pool does not exist.
        let many = ConnectionShares { each: 4, fitting: 24, servers: 25, left: 1, small_pool: 1, small: 24 };
        assert_eq!(of(1), many);
        assert_eq!((of(200).fitting, of(200).servers, of(200).left), (0, 1, 97));
    }
}
