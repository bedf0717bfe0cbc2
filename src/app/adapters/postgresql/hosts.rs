//! The hosts of a URL, of which one accepts writes.
//!
//! tokio-postgres can try several hosts, but it gives all of the time to a host that accepts the connection and then
//! does not answer. Here each host has its share, and the host that worked last is the first to be tried.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio_postgres::Config;
use tokio_postgres::config::{Host, LoadBalanceHosts, TargetSessionAttrs};

use super::super::Failure;
use super::connection::CallLimit;

/// One configuration per host.
#[derive(Debug)]
pub(super) struct DatabaseHosts {
    configs: Vec<Config>,
    /// The index of the host that worked last.
    last: AtomicUsize,
}

impl DatabaseHosts {
    /// The hosts in the given order, or with `load_balance_hosts=random`, in a random order.
    pub fn new(mut configs: Vec<Config>) -> DatabaseHosts {
        if configs.iter().any(|it| it.get_load_balance_hosts() == LoadBalanceHosts::Random) {
            fastrand::shuffle(&mut configs);
        }
        DatabaseHosts { configs, last: AtomicUsize::new(0) }
    }

    /// Whether only a host that accepts writes is wanted.
    pub fn must_accept_writes(&self) -> bool {
        self.configs.iter().any(|it| it.get_target_session_attrs() == TargetSessionAttrs::ReadWrite)
    }

    /// Makes an attempt with each host in turn, until one succeeds. Each attempt gets an equal share of the time that is
    /// left, and must keep to it.
    pub fn first_that_works<T>(
        &self,
        limit: &CallLimit<'_>,
        attempt: impl Fn(&Config, &CallLimit<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let last = self.last.load(Ordering::Relaxed);
        let (before, after) = self.configs.split_at(last.min(self.configs.len()));
        let mut failures = Vec::new();
        for (turn, config) in after.iter().chain(before).enumerate() {
            let share = limit.share(self.configs.len() - turn);
            match attempt(config, &share) {
                Ok(done) => {
                    self.last.store((last + turn) % self.configs.len(), Ordering::Relaxed);
                    return Ok(done);
                }
                Err(failure) if may_be_of_the_host(&failure) => failures.push((name(config), failure)),
                Err(failure) => return Err(failure),
            }
        }
        Err(all_of(failures))
    }
}

/// Whether another host may not have this failure.
fn may_be_of_the_host(failure: &Failure) -> bool {
    matches!(failure, Failure::Lost(_) | Failure::TimedOut(_) | Failure::Setup(_))
}

/// One failure for the failures of all hosts.
fn all_of(mut failures: Vec<(String, Failure)>) -> Failure {
    if failures.len() == 1
        && let Some((_, failure)) = failures.pop()
    {
        return failure;
    }
    let texts: Vec<String> = failures.iter().map(|(host, failure)| format!("{host}: {failure}")).collect();
    let text = texts.join("; ");
    if failures.iter().any(|(_, failure)| matches!(failure, Failure::Setup(_))) {
        Failure::Setup(text)
    } else {
        Failure::Lost(text.into())
    }
}

/// The host and its port, if the URL names one.
fn name(config: &Config) -> String {
    let host = match (config.get_hosts().first(), config.get_hostaddrs().first()) {
        (Some(Host::Unix(folder)), _) => return folder.display().to_string(),
        (Some(Host::Tcp(host)), _) => host.clone(),
        (None, address) => address.map(ToString::to_string).unwrap_or_default(),
    };
    match config.get_ports().first() {
        Some(port) if host.contains(':') => format!("[{host}]:{port}"),
        Some(port) => format!("{host}:{port}"),
        None => host,
    }
}

/// Divides a configuration into one per host. If the numbers of hosts, addresses and ports do not match, it is returned as
/// it is, and the attempt to connect reports that.
pub(super) fn each(all: &Config) -> Vec<Config> {
    let (hosts, addresses, ports) = (all.get_hosts(), all.get_hostaddrs(), all.get_ports());
    let count = hosts.len().max(addresses.len());
    let matches = [hosts.len(), addresses.len()].iter().all(|it| [0, count].contains(it))
        && (ports.len() <= 1 || ports.len() == count);
    if count < 2 || !matches {
        return vec![all.clone()];
    }
    let configs = (0..count).map(|index| {
        let mut one = without_hosts(all);
        match hosts.get(index) {
            Some(Host::Tcp(host)) => _ = one.host(host),
            Some(Host::Unix(folder)) => _ = one.host_path(folder),
            None => {}
        }
        if let Some(address) = addresses.get(index) {
            one.hostaddr(*address);
        }
        if let Some(port) = ports.get(index).or(ports.first()) {
            one.port(*port);
        }
        one
    });
    configs.collect()
}

/// All settings but the hosts, their addresses and their ports.
fn without_hosts(all: &Config) -> Config {
    let mut one = Config::new();
    if let Some(user) = all.get_user() {
        one.user(user);
    }
    if let Some(name) = all.get_dbname() {
        one.dbname(name);
    }
    if let Some(options) = all.get_options() {
        one.options(options);
    }
    if let Some(name) = all.get_application_name() {
        one.application_name(name);
    }
    if let Some(password) = all.get_password() {
        one.password(password);
    }
    one.ssl_mode(all.get_ssl_mode()).ssl_negotiation(all.get_ssl_negotiation());
    one.channel_binding(all.get_channel_binding()).target_session_attrs(all.get_target_session_attrs());
    one.load_balance_hosts(all.get_load_balance_hosts());
    one.keepalives(all.get_keepalives()).keepalives_idle(all.get_keepalives_idle());
    if let Some(time) = all.get_keepalives_interval() {
        one.keepalives_interval(time);
    }
    if let Some(retries) = all.get_keepalives_retries() {
        one.keepalives_retries(retries);
    }
    if let Some(time) = all.get_connect_timeout() {
        one.connect_timeout(*time);
    }
    if let Some(time) = all.get_tcp_user_timeout() {
        one.tcp_user_timeout(*time);
    }
    one
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::time::Duration;

    use super::*;

    const OPTIONS: &str = "user=me&password=x&dbname=d&options=-c%20a&application_name=n&sslmode=disable\
        &channel_binding=disable&target_session_attrs=read-write&load_balance_hosts=random&keepalives=0\
        &keepalives_idle=3&keepalives_interval=4&keepalives_retries=5&connect_timeout=6&tcp_user_timeout=7";

    fn of(hosts: &str) -> Vec<Config> {
        each(&format!("postgresql://{hosts}/?{OPTIONS}").parse().unwrap())
    }

    #[test]
    fn each_host_has_its_port_and_all_other_settings_of_the_url() {
        let one = |host: &str| of(host).remove(0);
        assert_eq!(of("a:1,b:2"), [one("a:1"), one("b:2")]);
        assert_eq!(of("a,%2Ftmp%2Fb"), [one("a:5432"), one("%2Ftmp%2Fb:5432")]);
        let names: Vec<String> = of("a:1,[::1],%2Ftmp%2Fb").iter().map(name).collect();
        assert_eq!(names, ["a:1", "[::1]:5432", "/tmp/b"]);
        let mut addresses = Config::new();
        addresses.hostaddr([127, 0, 0, 1].into()).hostaddr([127, 0, 0, 2].into()).port(7);
        let [first, second] = &each(&addresses)[..] else { panic!("two addresses") };
        assert_eq!((first.get_hostaddrs(), first.get_ports()), (&addresses.get_hostaddrs()[..1], &[7][..]));
        assert_eq!(second.get_hostaddrs(), &addresses.get_hostaddrs()[1..]);
        // The attempt to connect reports that they do not match.
        addresses.port(8).port(9);
        assert_eq!(each(&addresses), [addresses]);
    }

    #[test]
    fn hosts_are_tried_from_the_one_that_worked_last_and_each_gets_a_share_of_the_time() {
        let hosts = DatabaseHosts::new(each(&"host=a,b,c".parse().unwrap()));
        let tried = RefCell::new(Vec::new());
        let first = |works: &'static str, failure: fn() -> Failure| {
            tried.take();
            let limit = CallLimit::new(Duration::from_secs(30), None);
            hosts.first_that_works(&limit, |config, share| {
                let host = name(config);
                tried.borrow_mut().push(host.clone());
                let hosts_left = 4 - u32::try_from(tried.borrow().len()).unwrap();
                assert!(share.lock_wait() <= Duration::from_secs(24) / hosts_left);
                if host == works { Ok(host) } else { Err(failure()) }
            })
        };
        let lost: fn() -> Failure = || Failure::Lost("gone".into());
        assert_eq!(first("b", lost).unwrap(), "b");
        assert_eq!(*tried.borrow(), ["a", "b"]);
        assert_eq!(first("a", || Failure::TimedOut(Duration::ZERO)).unwrap(), "a");
        assert_eq!(*tried.borrow(), ["b", "c", "a"]);
        assert_eq!(first("", lost).unwrap_err().to_string(), "a: gone; b: gone; c: gone");
        // Another host would have the same failure, or the call must end now.
        assert!(matches!(first("b", || Failure::Interrupted), Err(Failure::Interrupted)));
        assert_eq!(*tried.borrow(), ["a"]);
        let refused = first("", || Failure::Setup("no".to_owned())).unwrap_err();
        assert!(matches!(&refused, Failure::Setup(text) if text == "a: no; b: no; c: no"), "{refused}");
    }
}
