//! Resolves host names, for the whole client half.
//!
//! `localhost` and every name under it resolve to this machine without a resolver, as in Chromium
//! and Firefox, so `tab3.localhost` needs no setup. They have two addresses, ::1 and 127.0.0.1,
//! which are tried in this order, because a server may listen on either. Other names are left to the
//! system's resolver, which may block without a limit.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

/// The addresses of a host, in the order in which to try them. `host` is a name or an address
/// without brackets.
pub fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if is_local(host) {
        let both = [IpAddr::from(Ipv6Addr::LOCALHOST), IpAddr::from(Ipv4Addr::LOCALHOST)];
        return Ok(both.map(|ip| SocketAddr::new(ip, port)).to_vec());
    }
    let found: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
    if found.is_empty() {
        Err(io::Error::other("the name does not resolve to an address"))
    } else {
        Ok(found)
    }
}

/// Whether the name is `localhost` or one under it.
pub fn is_local(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

/// `127.0.0.1:9292`, or, for a name, `tab1.localhost:9292 ([::1] and 127.0.0.1)`.
pub fn spoken(host: &str, port: u16, addresses: &[SocketAddr]) -> String {
    let ips: Vec<String> = addresses.iter().map(|address| bracketed(address.ip())).collect();
    if let Ok(ip) = host.parse::<IpAddr>() {
        return format!("{}:{port}", bracketed(ip));
    }
    match ips.as_slice() {
        [] => format!("{host}:{port}"),
        [one] => format!("{host}:{port} ({one})"),
        [first @ .., last] => format!("{host}:{port} ({} and {last})", first.join(", ")),
    }
}

fn bracketed(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

/// How long to try the next address. The time until the deadline is shared equally among the
/// addresses that have not been tried, so an address that never answers leaves time for the next.
/// `None` if no time is left.
pub fn share(deadline: Instant, untried: usize) -> Option<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    (!left.is_zero()).then(|| left / u32::try_from(untried.max(1)).unwrap_or(u32::MAX))
}

/// Chooses the most informative of several failures: a refusal shows that the machine can be
/// reached, whereas a disabled address family shows nothing.
pub fn most_telling(failures: Vec<io::Error>) -> Option<io::Error> {
    let telling = |error: &io::Error| match error.kind() {
        io::ErrorKind::ConnectionRefused => 3,
        io::ErrorKind::ConnectionReset => 2,
        io::ErrorKind::TimedOut => 1,
        _ => 0,
    };
    failures.into_iter().max_by_key(telling)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn localhost_and_names_under_it_resolve_to_both_loopback_addresses() {
        for name in ["localhost", "LOCALHOST.", "tab9.localhost", "a.b.Localhost."] {
            let found = resolve(name, 8).unwrap();
            assert_eq!(found, ["[::1]:8".parse().unwrap(), "127.0.0.1:8".parse().unwrap()], "{name}");
        }
        assert!(!is_local("notlocalhost") && !is_local("localhost.example"));
        assert_eq!(resolve("::1", 8).unwrap(), ["[::1]:8".parse().unwrap()]);
        assert_eq!(resolve("127.0.0.2", 8).unwrap(), ["127.0.0.2:8".parse().unwrap()]);
    }

    #[test]
    fn a_name_is_followed_by_all_of_its_addresses() {
        let both = resolve("tab1.localhost", 80).unwrap();
        assert_eq!(spoken("tab1.localhost", 80, &both), "tab1.localhost:80 ([::1] and 127.0.0.1)");
        assert_eq!(spoken("::1", 80, &both[..1]), "[::1]:80");
        assert_eq!(spoken("127.0.0.1", 80, &both[1..]), "127.0.0.1:80");
        assert_eq!(spoken("example.com", 80, &both[1..]), "example.com:80 (127.0.0.1)");
    }

    #[test]
    fn the_addresses_share_one_deadline() {
        let deadline = Instant::now() + Duration::from_secs(100);
        let first = share(deadline, 4).unwrap();
        assert!(first <= Duration::from_secs(25) && share(deadline, 1).unwrap() > first);
        assert_eq!(share(Instant::now(), 2), None);
    }

    #[test]
    fn a_refusal_takes_precedence_over_a_missing_address_family() {
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let missing = || io::Error::from(io::ErrorKind::AddrNotAvailable);
        for failures in [vec![refused(), missing()], vec![missing(), refused()]] {
            assert_eq!(most_telling(failures).unwrap().kind(), io::ErrorKind::ConnectionRefused);
        }
        assert!(most_telling(Vec::new()).is_none());
    }
}
