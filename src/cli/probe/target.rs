//! The addresses of a run: names are resolved once, and only loopback addresses are probed unless the user confirms
//! another host.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use url::{Host, Url};

use super::given::Wanted;
use super::mistake::{ProbeError, ProbeMistake};
use crate::cli::files::cause;
use crate::lab::http::address::resolve;
use crate::lab::probe::measured::ProbeTarget;
use crate::lab::probe::plan::{ControlAddress, ProbePlan};

/// How long each of several addresses is tried.
const TRY_WITHIN: Duration = Duration::from_secs(1);

/// A plan, and the addresses to choose from.
pub struct PlannedRun {
    plan: ProbePlan,
    addresses: Vec<SocketAddr>,
    is_this_machine: bool,
}

impl PlannedRun {
    /// The plan with the first of the addresses.
    pub fn plan(&self) -> &ProbePlan {
        &self.plan
    }

    /// Whether all addresses are loopback.
    pub fn is_this_machine(&self) -> bool {
        self.is_this_machine
    }

    /// Chooses the address: if the name has several, the first that accepts a connection. `localhost` has two, and a
    /// server may listen on only one of them. Blocks for at most 1 s per address.
    pub fn connected(self) -> ProbePlan {
        let PlannedRun { mut plan, addresses, .. } = self;
        if addresses.len() > 1 {
            let accepts = |address: &&SocketAddr| TcpStream::connect_timeout(address, TRY_WITHIN).is_ok();
            if let Some(address) = addresses.iter().find(accepts) {
                plan.address = *address;
            }
        }
        plan
    }
}

/// Resolves the names and applies the rule on hosts. The resolver may block without a limit.
pub fn plan(wanted: Wanted) -> Result<PlannedRun, ProbeError> {
    let host = wanted.url.host_str().unwrap_or_default().to_owned();
    let port = wanted.url.port_or_known_default().unwrap_or(80);
    let addresses = match addresses(wanted.url.host(), port) {
        Ok(addresses) => addresses,
        Err(error) => {
            let why = format!("cannot resolve {host}: {}", cause(&error));
            return Err(ProbeError::Unreachable { why });
        }
    };
    let is_this_machine = addresses.iter().all(|address| is_loopback(address.ip()));
    if !is_this_machine && !wanted.is_confirmed {
        return Err(ProbeMistake::NotThisMachine { host }.into());
    }
    let Some(address) = addresses.first().copied() else {
        let why = format!("cannot resolve {host}: it has no address");
        return Err(ProbeError::Unreachable { why });
    };
    let control = match &wanted.control {
        None => None,
        Some((host, port, token)) => {
            Some(ControlAddress { url: control(host, *port, wanted.is_confirmed)?, token: token.clone() })
        }
    };
    let Wanted { url, pages, tabs, patience, zombies, http10, http2, method, body, headers, .. } = wanted;
    let plan = ProbePlan {
        url,
        pages,
        address,
        tabs,
        patience,
        zombies,
        http10,
        http2,
        method,
        body,
        headers,
        cookie: wanted.cookie,
        other_cookie: wanted.other_cookie,
        is_insecure: wanted.is_insecure,
        control,
    };
    Ok(PlannedRun { plan, addresses, is_this_machine })
}

/// The control server's URL with an address instead of a name, so that the name is resolved only once.
fn control(host: &str, port: u16, is_confirmed: bool) -> Result<Url, ProbeMistake> {
    let unresolved = |why: String| ProbeMistake::ControlHost { host: host.to_owned(), why };
    let found = resolve(host, port).map_err(|error| unresolved(cause(&error)))?;
    if !is_confirmed && !found.iter().all(|address| is_loopback(address.ip())) {
        return Err(ProbeMistake::NotThisMachine { host: host.to_owned() });
    }
    let accepts = |address: &&SocketAddr| TcpStream::connect_timeout(address, TRY_WITHIN).is_ok();
    let chosen = if found.len() > 1 { found.iter().find(accepts) } else { None };
    let address = chosen.or(found.first()).ok_or_else(|| unresolved("it has no address".to_owned()))?;
    Url::parse(&format!("http://{address}")).map_err(|error| unresolved(error.to_string()))
}

fn addresses(host: Option<Host<&str>>, port: u16) -> std::io::Result<Vec<SocketAddr>> {
    match host {
        Some(Host::Ipv4(ip)) => Ok(vec![(ip, port).into()]),
        Some(Host::Ipv6(ip)) => Ok(vec![(ip, port).into()]),
        Some(Host::Domain(name)) => resolve(name, port),
        None => Ok(Vec::new()),
    }
}

/// Whether this is a loopback address, including an IPv4 address mapped to IPv6.
fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// The target in the output of a run that cannot begin.
pub fn unreached(wanted: &Wanted) -> ProbeTarget {
    ProbeTarget {
        url: wanted.url.to_string(),
        method: wanted.method.clone(),
        tabs: wanted.tabs,
        ..ProbeTarget::default()
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::super::given::tests::typed;
    use super::super::given::wanted;
    use super::*;

    fn planned(words: &[&str]) -> Result<PlannedRun, String> {
        plan(wanted(&typed(words)).unwrap()).map_err(|error| match error {
            ProbeError::Misused(mistake) => mistake.to_string(),
            ProbeError::Unreachable { why } => why,
        })
    }

    #[test]
    fn a_host_that_is_not_this_machine_needs_a_confirmation() {
        let expected = "cannot probe 192.0.2.7: it is not this machine; a probe makes its pages hang for up to a minute, \
                        so confirm with --i-own-this-host";
        assert_eq!(planned(&["http://192.0.2.7/s"]).err().as_deref(), Some(expected));
        for url in ["http://[2001:db8::7]/", "http://0.0.0.0/", "http://[::ffff:192.0.2.7]/"] {
            assert!(planned(&[url]).is_err_and(|said| said.contains("not this machine")), "{url}");
        }
        let planned =
            planned(&["http://192.0.2.7/s", "--i-own-this-host"]).unwrap_or_else(|said| panic!("{said}"));
        assert!(!planned.is_this_machine());
    }

    #[test]
    fn loopback_is_this_machine_in_every_notation() {
        for url in ["http://127.0.0.1/", "http://127.9.9.9/", "http://[::1]/", "http://[::ffff:127.0.0.1]/"] {
            assert!(planned(&[url]).is_ok_and(|planned| planned.is_this_machine()), "{url}");
        }
        for url in ["http://localhost/", "http://tab{tab}.localhost/"] {
            let url = url.replace("{tab}", "1");
            assert!(planned(&[&url]).is_ok_and(|planned| planned.addresses.len() == 2), "{url}");
        }
    }

    #[test]
    fn the_control_url_obeys_the_same_rule() {
        let url = "http://127.0.0.1/";
        let said = planned(&[url, "--control-url", "tcp://192.0.2.7:9293"]).err().unwrap_or_default();
        assert!(said.starts_with("cannot probe 192.0.2.7: it is not this machine"), "{said}");
        let words = [url, "--i-own-this-host", "--control-url", "tcp://192.0.2.7:9293"];
        let planned = planned(&words).unwrap_or_else(|said| panic!("{said}"));
        assert_eq!(planned.plan().control.as_ref().unwrap().url.as_str(), "http://192.0.2.7:9293/");
    }

    #[test]
    fn if_there_are_several_addresses_the_one_that_accepts_is_used() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let planned =
            planned(&[&format!("http://localhost:{port}/")]).unwrap_or_else(|said| panic!("{said}"));
        assert_eq!(planned.connected().address, listener.local_addr().unwrap());
    }
}
