//! Servers on one database, which are started one after the other until one does not start, and their tabs.

use std::time::{Duration, Instant};

use crate::lab::cluster::ClusterError;
use crate::lab::cluster::deliveries::Deliveries;
use crate::lab::http;
use crate::lab::interrupt::Interrupt;
use crate::lab::model_ids;
use crate::lab::stage::{ActError, Plan, in_seconds};
use crate::lab::subject::{ChildServer, FREE_PORT, Launch, SubjectError};
use crate::lab::tab::{Happens, Settings, Tab};

/// How long the tabs may take to receive all models, and PostgreSQL to close the connections of ended servers.
pub const SETTLE_WITHIN: Duration = Duration::from_secs(30);
pub const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long a server may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// The servers have a connection for their producers, but these produce nothing: an hour.
const PRODUCE_EVERY: &str = "3600";
/// The act counts connections and measures no times, so a server may take its time to open them.
const QUERY_TIMEOUT: &str = "30";
/// The stream of the tabs. It does not hold a thread.
const STREAM: &str = "/fixes/push/stream";
/// The stream that holds a thread.
const LIVE_STREAM: &str = "/models/live_stream";

/// How to start the servers.
pub struct FleetPlan<'a> {
    pub plan: &'a Plan,
    pub database: &'a str,
    /// The URL to listen at, if it differs.
    pub cable: Option<String>,
    pub flags: &'a [String],
}

/// The running servers. Dropping this stops them, and blocks until they have ended.
pub struct Fleet<'a> {
    servers: Vec<ChildServer>,
    interrupt: &'a Interrupt,
}

impl<'a> Fleet<'a> {
    /// Starts up to this many servers, each after the previous one listens for commits. Also returns what the first
    /// server said that did not start.
    pub fn start(
        count: usize,
        plan: &FleetPlan<'_>,
        interrupt: &'a Interrupt,
    ) -> Result<(Fleet<'a>, Option<String>), ActError> {
        let FleetPlan { plan, database, cable, flags } = plan;
        let ours = [
            ("--threads", format!("{}:{}", plan.threads.start(), plan.threads.end())),
            ("--produce-every", PRODUCE_EVERY.to_owned()),
            ("--update-rate", in_seconds(plan.pace.update_rate)),
            ("--retry", in_seconds(plan.pace.retry)),
            ("--db-query-timeout", QUERY_TIMEOUT.to_owned()),
        ];
        let ours = ours.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
        let flags: Vec<String> = ours.chain(flags.iter().cloned()).collect();
        let mut variables = vec![("NINETABS_DATABASE", (*database).to_owned())];
        variables.extend(cable.iter().map(|url| ("NINETABS_CABLE_DATABASE", url.clone())));
        let mut fleet = Fleet { servers: Vec::new(), interrupt };
        for number in 1..=count {
            let launch = Launch {
                program: &plan.program,
                bind: FREE_PORT,
                database: None,
                flags: &flags,
                variables: &variables,
            };
            match ChildServer::start(launch, interrupt) {
                Ok(server) => fleet.servers.push(server),
                Err(SubjectError::Ended(said)) => {
                    let said = said.strip_prefix("ninetabs: ").unwrap_or(&said).to_owned();
                    return Ok((fleet, Some(said)));
                }
                Err(SubjectError::Interrupted) => return Err(ActError::Interrupted),
                Err(error) => return Err(ClusterError::Server { number, error }.into()),
            }
            fleet.wait_until_last_listens()?;
        }
        Ok((fleet, None))
    }

    /// A server that has just started opens one more connection for a moment, to test whether notifications arrive. It
    /// listens once that is over.
    fn wait_until_last_listens(&self) -> Result<(), ActError> {
        let Some(server) = self.servers.last() else { return Ok(()) };
        let url = format!("{}/stats", server.control());
        let deadline = Instant::now() + SETTLE_WITHIN;
        while Instant::now() < deadline {
            let stats = http::get(&url, ANSWER_WITHIN)?.json();
            if stats.is_ok_and(|stats| stats["engine"]["listening"] == true) {
                break;
            }
            self.interrupt.sleep(LOOK_EVERY)?;
        }
        Ok(())
    }

    /// The number of servers that run.
    pub fn servers(&self) -> usize {
        self.servers.len()
    }

    /// Creates a model through each server. Returns their ids.
    pub fn create_at_each(&self) -> Result<Vec<i64>, ActError> {
        (0..self.servers.len()).map(|index| self.create(index)).collect()
    }

    fn create(&self, index: usize) -> Result<i64, ActError> {
        let number = index + 1;
        let not_created = |answered: String| ClusterError::NotCreated { number, answered };
        let Some(server) = self.servers.get(index) else { return Err(not_created("nothing".into()).into()) };
        let form = "application/x-www-form-urlencoded";
        let answer = http::post(&server.url("/models"), form, "name=posted".to_owned(), ANSWER_WITHIN)?;
        let id = answer.json().ok().filter(|_| answer.status() == 201).and_then(|model| model["id"].as_i64());
        Ok(id.ok_or_else(|| not_created(answer.status().to_string()))?)
    }

    /// Opens this many streams of the first server, each of which holds a thread. Returns how many receive a model that
    /// was created before.
    pub fn streams_at_the_first(&self, count: usize) -> Result<usize, ActError> {
        let Some(server) = self.servers.first() else { return Ok(0) };
        let id = self.create(0)?;
        let tabs = (1..=count).map(|number| {
            let url = server.url(&format!("{LIVE_STREAM}?tab={number}"));
            Ok(Tab::open(&url, settings(number, id - 1))?)
        });
        let mut tabs = FleetTabs::of(tabs.collect::<Result<_, ActError>>()?, self.interrupt);
        tabs.wait_for(id)
    }
}

impl Drop for Fleet<'_> {
    fn drop(&mut self) {
        // All stop at the same time. Each is waited for when it is dropped.
        self.servers.iter_mut().for_each(ChildServer::ask_to_stop);
    }
}

fn settings(number: usize, after: i64) -> Settings {
    Settings { name: format!("tab {number}"), last_event_id: after.to_string(), ..Settings::default() }
}

/// Tabs, and the models that they have received.
pub struct FleetTabs<'a> {
    tabs: Vec<Tab>,
    deliveries: Deliveries,
    interrupt: &'a Interrupt,
}

impl<'a> FleetTabs<'a> {
    fn of(tabs: Vec<Tab>, interrupt: &'a Interrupt) -> FleetTabs<'a> {
        let deliveries = Deliveries::of(tabs.len());
        FleetTabs { tabs, deliveries, interrupt }
    }

    /// Opens this many tabs, on the servers in turn. Blocks until each has an open stream.
    pub fn open(
        fleet: &Fleet<'_>,
        count: usize,
        interrupt: &'a Interrupt,
    ) -> Result<FleetTabs<'a>, ActError> {
        let servers = fleet.servers.iter().cycle().zip(1..=count);
        let tabs = servers.map(|(server, number)| {
            Ok(Tab::open(&server.url(&format!("{STREAM}?tab={number}")), settings(number, 0))?)
        });
        let tabs = FleetTabs::of(tabs.collect::<Result<_, ActError>>()?, interrupt);
        let deadline = Instant::now() + SETTLE_WITHIN;
        while tabs.tabs.iter().any(|tab| tab.progress().opened == 0) && Instant::now() < deadline {
            interrupt.sleep(LOOK_EVERY)?;
        }
        Ok(tabs)
    }

    /// Waits until every tab has received this model. Returns how many have.
    pub fn wait_for(&mut self, id: i64) -> Result<usize, ActError> {
        let deadline = Instant::now() + SETTLE_WITHIN;
        loop {
            self.take_events();
            let tabs = self.deliveries.tabs_with(id);
            if tabs == self.tabs.len() || Instant::now() >= deadline {
                return Ok(tabs);
            }
            self.interrupt.sleep(LOOK_EVERY)?;
        }
    }

    /// How many tabs have received each model up to this one, once and in order.
    pub fn complete(&self, id: i64) -> usize {
        self.deliveries.complete_tabs(id)
    }

    fn take_events(&mut self) {
        for (number, tab) in self.tabs.iter().enumerate() {
            for happening in tab.happenings().try_iter() {
                if let Happens::Event(event) = happening.what
                    && event.event_type == "message"
                {
                    model_ids::in_json(event.data.as_bytes())
                        .into_iter()
                        .for_each(|id| self.deliveries.take(number, id));
                }
            }
        }
    }
}
