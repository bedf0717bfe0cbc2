//! Starts all parts, watches them, and compares the models that the tabs received with the table.

use std::time::{Duration, Instant};

use super::super::claim::Claims;
use super::super::http;
use super::super::interrupt::Interrupt;
use super::super::model_ids;
use super::super::scratch::Scratch;
use super::super::tab::{Happens, Settings, Tab};
use super::super::wording::count;
use super::deliveries::Deliveries;
use super::haproxy::HaProxy;
use super::postgres::PrivatePostgres;
use super::servers::{ClusterServer, ServerView, ServersDatabase};
use super::{ClusterDatabase, ClusterError, ClusterNews, ClusterPlan, ClusterReport};

/// The stream of the tabs. It does not hold a thread, so any number of tabs can share a server.
const STREAM: &str = "/fixes/push/stream";
/// How often the events of the tabs are read and the processes are checked.
const LOOK_EVERY: Duration = Duration::from_millis(50);
const NUMBERS_EVERY: Duration = Duration::from_secs(1);
/// How long a server may take to answer with models.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How long the tabs may take to receive all models in the table.
const SETTLE_WITHIN: Duration = Duration::from_secs(30);

/// The interrupts of a cluster.
pub struct ClusterInterrupts {
    /// Ends the start or the listening of the tabs.
    pub first: Interrupt,
    /// Also ends the comparison with the table.
    pub second: Interrupt,
}

/// Prints a piece of news. An error ends the cluster.
pub type Tell<'a> = &'a mut dyn FnMut(ClusterNews) -> std::io::Result<()>;

/// A running cluster.
pub(in crate::lab) struct Cluster<'a> {
    // Fields are dropped in this order, clients first and the database last.
    tabs: Vec<Tab>,
    haproxy: Option<HaProxy>,
    servers: Vec<ClusterServer>,
    postgres: Option<PrivatePostgres>,
    folder: Option<Scratch>,
    plan: &'a ClusterPlan,
    interrupt: &'a Interrupt,
    deliveries: Deliveries,
    /// Tabs that gave up and do not reconnect.
    given_up: usize,
}

/// Runs a cluster until its time is over or the first interrupt comes. Blocks until all of its parts have ended.
pub fn run(
    plan: &ClusterPlan,
    interrupts: &ClusterInterrupts,
    tell: Tell<'_>,
) -> Result<ClusterReport, ClusterError> {
    let mut cluster = Cluster::empty(plan, &interrupts.first);
    cluster.start(tell)?;
    let first = cluster.newest()?;
    let began = Instant::now();
    cluster.open_tabs(first, tell)?;
    match cluster.watch(began, tell) {
        // The comparison comes next.
        Ok(()) | Err(ClusterError::Interrupted) => {}
        Err(error) => return Err(error),
    }
    let seconds = began.elapsed().as_secs_f64();
    // From here on, a program that has ended is started again until the second interrupt.
    cluster.interrupt = &interrupts.second;
    let claims = cluster.compare(first, tell)?.into_vec();
    let reconnects = cluster.tabs.iter().map(|tab| tab.progress().opened.saturating_sub(1)).sum();
    Ok(ClusterReport {
        servers: plan.servers,
        tabs: plan.tabs,
        seconds,
        models: cluster.deliveries.models(),
        reconnects,
        deliveries: cluster.deliveries.of_tabs().collect(),
        held: claims.iter().all(|claim| claim.held),
        claims,
    })
}

impl<'a> Cluster<'a> {
    pub fn empty(plan: &'a ClusterPlan, interrupt: &'a Interrupt) -> Cluster<'a> {
        Cluster {
            tabs: Vec::new(),
            haproxy: None,
            servers: Vec::new(),
            postgres: None,
            folder: None,
            plan,
            interrupt,
            deliveries: Deliveries::of(plan.tabs),
            given_up: 0,
        }
    }

    pub fn start(&mut self, tell: Tell<'_>) -> Result<(), ClusterError> {
        let mut line = |text: String| tell(ClusterNews::Line(text)).map_err(ClusterError::Output);
        match &self.plan.database {
            ClusterDatabase::PrivatePostgres => {
                let postgres = PrivatePostgres::start(self.interrupt)?;
                line(introduction(&postgres))?;
                self.postgres = Some(postgres);
            }
            ClusterDatabase::TemporaryFile => {
                let folder = Scratch::make("ninetabs")?;
                line(format!("SQLite: {}", folder.path().join("models.sqlite3").display()))?;
                self.folder = Some(folder);
            }
            ClusterDatabase::Url(_) => {}
        }
        for number in 1..=self.plan.servers {
            let server = self.with_database(|database| {
                ClusterServer::start(number, self.plan, database, self.interrupt)
            })?;
            line(server.introduction())?;
            self.servers.push(server);
        }
        let addresses: Vec<_> = self.servers.iter().map(ClusterServer::address).collect();
        self.haproxy = HaProxy::start(&addresses)?;
        line(match &self.haproxy {
            Some(haproxy) => format!("HAProxy (process {}): {}/", haproxy.id(), haproxy.url()),
            None => "HAProxy is not installed: the tabs get the addresses of the servers in turn".to_owned(),
        })
    }

    /// Calls a function with the database of the servers.
    fn with_database<T>(&self, call: impl FnOnce(ServersDatabase<'_>) -> T) -> T {
        match (&self.plan.database, &self.postgres, &self.folder) {
            (_, Some(postgres), _) => call(ServersDatabase::Url(&postgres.url())),
            (_, _, Some(folder)) => call(ServersDatabase::File(&folder.path().join("models.sqlite3"))),
            (ClusterDatabase::Url(url), ..) => call(ServersDatabase::Url(url)),
            // The private PostgreSQL has not been started.
            _ => call(ServersDatabase::Url("")),
        }
    }

    /// The id of the newest model, or 0.
    pub fn newest(&self) -> Result<i64, ClusterError> {
        let server = self.servers.first().map(ClusterServer::url).unwrap_or_default();
        let ids = ids_after(&server, 0).ok_or(ClusterError::NoModels)?;
        Ok(ids.last().copied().unwrap_or_default())
    }

    pub fn open_tabs(&mut self, after: i64, tell: Tell<'_>) -> Result<(), ClusterError> {
        for number in 1..=self.plan.tabs {
            let server = match &self.haproxy {
                Some(haproxy) => haproxy.url(),
                None => self.servers[(number - 1) % self.servers.len()].url(),
            };
            let settings = Settings {
                name: format!("tab {number}"),
                last_event_id: after.to_string(),
                ..Settings::default()
            };
            self.tabs.push(Tab::open(&format!("{server}{STREAM}?tab={number}"), settings)?);
        }
        let text = match self.plan.tabs {
            0 => "No tab listens".to_owned(),
            1 => format!("1 tab listens to {STREAM}"),
            tabs => format!("{tabs} tabs listen to {STREAM}"),
        };
        tell(ClusterNews::Line(text)).map_err(ClusterError::Output)
    }

    fn watch(&mut self, began: Instant, tell: Tell<'_>) -> Result<(), ClusterError> {
        let mut numbers_at = began;
        loop {
            for text in self.take_events() {
                tell(ClusterNews::Line(text)).map_err(ClusterError::Output)?;
            }
            self.look_after(tell)?;
            if numbers_at.elapsed() >= NUMBERS_EVERY {
                numbers_at = Instant::now();
                tell(ClusterNews::Numbers(self.numbers(began))).map_err(ClusterError::Output)?;
            }
            if self.plan.duration.is_some_and(|duration| began.elapsed() >= duration) {
                return Ok(());
            }
            self.interrupt.sleep(LOOK_EVERY)?;
        }
    }

    /// Reads the events of the tabs. Returns the lines to print about them.
    pub fn take_events(&mut self) -> Vec<String> {
        let mut news = Vec::new();
        for (number, tab) in self.tabs.iter().enumerate() {
            for happening in tab.happenings().try_iter() {
                match happening.what {
                    Happens::Event(event) if event.event_type == "message" => {
                        model_ids::in_json(event.data.as_bytes())
                            .into_iter()
                            .for_each(|id| self.deliveries.take(number, id));
                    }
                    Happens::Failed { reason } => {
                        self.given_up += 1;
                        news.push(format!("Tab {} has given up: {reason}", number + 1));
                    }
                    _ => {}
                }
            }
        }
        news
    }

    /// Restarts parts that have ended. The database comes first, because a server does not start without it.
    fn look_after(&mut self, tell: Tell<'_>) -> Result<(), ClusterError> {
        let mut line = |text: String| tell(ClusterNews::Line(text)).map_err(ClusterError::Output);
        if let Some(postgres) = &mut self.postgres {
            let status = postgres.status();
            if let Some(status) =
                status.map_err(|error| ClusterError::Watch { program: "PostgreSQL", error })?
            {
                line(format!("PostgreSQL ended with {status}"))?;
                postgres.start_again(self.interrupt)?;
                line(introduction(postgres))?;
            }
        }
        if let Some(haproxy) = &mut self.haproxy {
            let status = haproxy.status();
            if let Some(status) = status.map_err(|error| ClusterError::Watch { program: "HAProxy", error })? {
                line(format!("HAProxy ended with {status}"))?;
                haproxy.start_again()?;
                line(format!("HAProxy (process {}): {}/", haproxy.id(), haproxy.url()))?;
            }
        }
        let mut servers = std::mem::take(&mut self.servers);
        let looked_after = servers.iter_mut().try_for_each(|server| {
            let news =
                self.with_database(|database| server.look_after(self.plan, database, self.interrupt))?;
            news.map_or(Ok(()), &mut line)
        });
        self.servers = servers;
        looked_after
    }

    /// Creates a model through this server, and returns its id. Blocks until it is created. A request that is answered
    /// with 503 is repeated. It may have created a model as well, which every tab must then receive.
    pub fn create(&self, number: usize) -> Result<i64, ClusterError> {
        let not_created = |answered| ClusterError::NotCreated { number, answered };
        let url = format!("{}/models", self.url(number));
        let deadline = Instant::now() + SETTLE_WITHIN;
        loop {
            let form = "application/x-www-form-urlencoded";
            let answer = http::post(&url, form, "name=posted".to_owned(), ANSWER_WITHIN);
            let answer = answer.map_err(|error| not_created(error.to_string()))?;
            match answer.status() {
                201 => break answer.json().ok().and_then(|model| model["id"].as_i64()),
                503 if Instant::now() < deadline => self.interrupt.sleep(LOOK_EVERY * 4)?,
                status => return Err(not_created(status.to_string())),
            }
        }
        .ok_or_else(|| not_created("201 without an id".to_owned()))
    }

    /// Waits until every tab has received this model, and returns how many have. Restarts programs that have ended.
    pub fn wait_for_tabs(&mut self, id: i64) -> Result<usize, ClusterError> {
        let deadline = Instant::now() + SETTLE_WITHIN;
        loop {
            self.take_events();
            let tabs = self.deliveries.tabs_with(id);
            if tabs == self.plan.tabs || Instant::now() >= deadline {
                return Ok(tabs);
            }
            self.look_after(&mut |_| Ok(()))?;
            self.interrupt.sleep(LOOK_EVERY)?;
        }
    }

    /// How many tabs have received each model up to this one, once and in order.
    pub fn complete_tabs(&self, id: i64) -> usize {
        self.deliveries.complete_tabs(id)
    }

    /// How many models of the table no tab has received, up to the newest model of any tab.
    pub fn unseen(&mut self, table: &[i64]) -> usize {
        self.deliveries.compare_with(table)
    }

    /// Kills this server.
    pub fn kill(&mut self, number: usize) {
        if let Some(server) = self.servers.get_mut(number - 1) {
            server.kill();
        }
    }

    /// The address of this server, `http://HOST:PORT`.
    pub fn url(&self, number: usize) -> String {
        self.servers.get(number - 1).map(ClusterServer::url).unwrap_or_default()
    }

    /// The private PostgreSQL, if there is one.
    pub fn postgres(&self) -> Option<&PrivatePostgres> {
        self.postgres.as_ref()
    }

    /// How many tabs have opened their stream at least once. The others have received nothing, even if there is nothing
    /// to receive.
    fn connected(&self) -> usize {
        self.tabs.iter().filter(|tab| tab.progress().opened > 0).count()
    }

    fn numbers(&self, began: Instant) -> String {
        let tabs: Vec<String> = self.servers.iter().map(|server| tabs_of(server.view())).collect();
        let models = count(self.deliveries.models(), "model");
        format!("{:.0} s: {models}, tabs per server: {}", began.elapsed().as_secs_f64(), tabs.join(" "))
    }

    /// Reads the table, waits until the tabs have received its models, and makes the claims. Programs that have ended are
    /// started again: a program that was killed just before loses nothing, and its tabs reconnect.
    fn compare(&mut self, first: i64, tell: Tell<'_>) -> Result<Claims, ClusterError> {
        let mut claims = Claims::default();
        if self.plan.tabs == 0 {
            return Ok(claims);
        }
        let deadline = Instant::now() + SETTLE_WITHIN;
        let table = loop {
            let mut answering = self.servers.iter().filter(|server| server.view().answers);
            let table = answering.find_map(|server| ids_after(&server.url(), first));
            if table.is_some() || Instant::now() >= deadline {
                break table;
            }
            self.look_after(tell)?;
            self.interrupt.sleep(LOOK_EVERY)?;
        };
        let Some(table) = table else {
            claims.push("table", "read", "not read", false).says("no server answered with the models");
            return Ok(claims);
        };
        let last = table.last().copied().unwrap_or_default();
        let deadline = Instant::now() + SETTLE_WITHIN;
        loop {
            self.take_events();
            let are_settled =
                self.deliveries.tabs_with(last) == self.plan.tabs && self.connected() == self.plan.tabs;
            if are_settled || Instant::now() >= deadline {
                break;
            }
            self.look_after(tell)?;
            self.interrupt.sleep(LOOK_EVERY)?;
        }
        let unseen = self.deliveries.compare_with(&table);
        let tabs = self.plan.tabs;
        let right = self.deliveries.complete_tabs(last);
        let connected = self.connected();
        claims
            .equal("tabs that connected", tabs, connected)
            .says(format!("{connected} of {} connected", count(tabs, "tab")));
        claims
            .equal("tabs that received each model once and in order", tabs, right)
            .says(format!("{right} of {} received each model once and in order", count(tabs, "tab")));
        claims
            .equal("models in the table that no tab received", 0, unseen)
            .says(format!("{} in the table reached no tab", count(unseen, "model")));
        claims
            .equal("tabs that gave up", 0, self.given_up)
            .says(format!("{} gave up for good", count(self.given_up, "tab")));
        Ok(claims)
    }
}

impl Drop for Cluster<'_> {
    fn drop(&mut self) {
        self.tabs.clear();
        // The table has been read, so nothing is lost.
        self.servers.iter_mut().for_each(ClusterServer::kill);
    }
}

fn introduction(postgres: &PrivatePostgres) -> String {
    let process = postgres.id().map(|id| format!(" (process {id})")).unwrap_or_default();
    format!("PostgreSQL {}{process}: {}", postgres.version(), postgres.url())
}

/// The tabs of a server as text, or a dash if it does not answer.
fn tabs_of(view: ServerView) -> String {
    if view.answers { view.listeners.to_string() } else { "-".to_owned() }
}

/// The ids of the models after this one, ascending, from this server (`http://HOST:PORT`). `None` if the server did not
/// answer with models.
fn ids_after(server: &str, after: i64) -> Option<Vec<i64>> {
    let mut all: Vec<i64> = Vec::new();
    loop {
        let since = all.last().copied().unwrap_or(after);
        let answer = http::get(&format!("{server}/models.json?since={since}"), ANSWER_WITHIN).ok()?;
        if answer.status() != 200 {
            return None;
        }
        all.extend(model_ids::in_json(&answer.body).into_iter().filter(|id| *id > since));
        // An answer has a maximum length. A Link header means that more models follow.
        if answer.head.header("link").is_none() || all.last().is_none_or(|last| *last <= since) {
            return Some(all);
        }
    }
}
