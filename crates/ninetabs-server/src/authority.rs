//! Parses the host to which a request is addressed: `uri-host [ ":" port ]`.
//!
//! A `Host` field and the authority of a target in absolute form have this grammar (RFC 9112 3.2, RFC 3986 3.2.2).
//! Anything that does not match it is refused with 400 before the app is called, so guards compare parsed hosts and
//! never text. This is our own parser because existing ones accept more: userinfo, a port that is not a number,
//! brackets around any text.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::fields::Fields;
use super::first_line::Version;
use super::refusal::Refusal;

/// A host as a URI spells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A registered name in lower case, with its percent escapes unchanged. It need not be a DNS name.
    Name(Box<str>),
    /// An IP address.
    Address(IpAddr),
    /// `[v1.…]`, a form reserved for future versions of IP.
    Future(Box<str>),
}

/// A host, and the port if one was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// The host: a name or an address.
    pub host: Host,
    /// The port, or `None` for the scheme's default.
    pub port: Option<u16>,
}

impl Authority {
    /// Parses `uri-host [ ":" port ]`. Returns `None` if the text does not match the grammar, the host is
    /// empty, or the port is above 65535.
    pub fn parse(text: &str) -> Option<Authority> {
        let end = match text.strip_prefix('[') {
            Some(rest) => rest.find(']')? + 2,
            None => text.bytes().position(|byte| byte == b':').unwrap_or(text.len()),
        };
        let (host, rest) = text.split_at(end);
        let port = match rest.strip_prefix(':') {
            // The grammar allows a colon without a port.
            Some("") => None,
            Some(digits) => Some(port(digits)?),
            None if rest.is_empty() => None,
            None => return None,
        };
        Some(Authority { host: Host::parse(host)?, port })
    }

    /// How many bytes of memory the text of the host takes.
    pub(super) fn held_bytes(&self) -> usize {
        match &self.host {
            Host::Name(text) | Host::Future(text) => text.len(),
            Host::Address(_) => 0,
        }
    }
}

impl Host {
    /// Parses `uri-host`, in which an IPv6 address is in brackets.
    pub fn parse(text: &str) -> Option<Host> {
        if let Some(literal) = text.strip_prefix('[') {
            return ip_literal(literal.strip_suffix(']')?);
        }
        if text.starts_with(|first: char| first.is_ascii_digit())
            && let Ok(address) = text.parse::<Ipv4Addr>()
        {
            return Some(Host::Address(address.into()));
        }
        is_registered_name(text).then(|| Host::Name(text.to_ascii_lowercase().into()))
    }

    /// Returns whether this is `localhost`, a name below it, or a loopback address.
    pub fn is_local(&self) -> bool {
        match self {
            Host::Name(name) => &**name == "localhost" || self.is_below(".localhost"),
            Host::Address(address) => address.is_loopback(),
            Host::Future(_) => false,
        }
    }

    /// Returns whether this is a name below `domain`, which must be in lower case and begin with a dot.
    pub fn is_below(&self, domain: &str) -> bool {
        match self {
            Host::Name(name) => name.strip_suffix(domain).is_some_and(|front| !front.is_empty()),
            Host::Address(_) | Host::Future(_) => false,
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => f.write_str(name),
            Host::Address(IpAddr::V4(address)) => address.fmt(f),
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Host::Future(literal) => write!(f, "[{literal}]"),
        }
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => self.host.fmt(f),
        }
    }
}

/// Parses digits, with leading zeros allowed, as a TCP port.
fn port(digits: &str) -> Option<u16> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

/// Parses the text between the brackets. A zone id (`%25eth0`) is not accepted: RFC 3986 does not define one, and it is
/// meaningful on one machine only.
fn ip_literal(text: &str) -> Option<Host> {
    if let Ok(address) = text.parse::<Ipv6Addr>() {
        return Some(Host::Address(address.into()));
    }
    let (version, rest) = text.strip_prefix(['v', 'V'])?.split_once('.')?;
    let is_future = !version.is_empty()
        && version.bytes().all(|byte| byte.is_ascii_hexdigit())
        && !rest.is_empty()
        && rest.bytes().all(|byte| byte == b':' || is_unreserved(byte) || is_sub_delimiter(byte));
    is_future.then(|| Host::Future(text.to_ascii_lowercase().into()))
}

fn is_registered_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    !bytes.is_empty()
        && bytes.iter().enumerate().all(|(at, byte)| match byte {
            b'%' => bytes.get(at + 1..at + 3).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit)),
            byte => is_unreserved(*byte) || is_sub_delimiter(*byte),
        })
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn is_sub_delimiter(byte: u8) -> bool {
    matches!(byte, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=')
}

/// A request target in absolute form, split into its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbsoluteForm<'a> {
    /// The part before the colon.
    pub scheme: &'a str,
    /// The part between `//` and the path, or `None` if there is no `//`.
    pub authority: Option<&'a str>,
    /// The path and the query.
    pub rest: &'a str,
}

/// Splits a target in absolute form, `scheme ":" [ "//" authority ] …`. Returns `None` if the target has another form.
pub fn absolute_form(target: &str) -> Option<AbsoluteForm<'_>> {
    // The usual form (origin form) is recognized by its first byte.
    if target.starts_with('/') {
        return None;
    }
    let (scheme, rest) = target.split_once(':')?;
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
    if !is_scheme {
        return None;
    }
    match rest.strip_prefix("//") {
        None => Some(AbsoluteForm { scheme, authority: None, rest }),
        Some(rest) => {
            let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
            Some(AbsoluteForm { scheme, authority: Some(authority), rest })
        }
    }
}

/// Determines the host to which a request is addressed, or why the request must be refused. Returns `Ok(None)` only for
/// an HTTP/1.0 request that names no host.
///
/// The authority of a target in absolute form takes precedence over `Host` (RFC 9112 3.2.2), but `Host` must
/// still be present and well-formed. Userinfo is refused (RFC 9110 4.2.4).
pub fn of_request(target: &str, version: Version, fields: &Fields) -> Result<Option<Authority>, Refusal> {
    let mut hosts = fields.values("host");
    let host = match (hosts.next(), hosts.next()) {
        (_, Some(_)) => return Err(Refusal::BadRequest("the request has more than one Host")),
        (None | Some(""), None) if version == Version::Http11 => {
            return Err(Refusal::BadRequest("an HTTP/1.1 request must have a Host"));
        }
        (None, None) => None,
        // HTTP/1.0 allows an empty `Host`. No guard accepts it as a host of this server.
        (Some(""), None) => Some(Authority { host: Host::Name("".into()), port: None }),
        (Some(text), None) => {
            let host = Authority::parse(text);
            Some(host.ok_or(Refusal::BadRequest("Host is malformed"))?)
        }
    };
    let Some(absolute) = absolute_form(target) else { return Ok(host) };
    let is_http = ["http", "https"].iter().any(|known| absolute.scheme.eq_ignore_ascii_case(known));
    match absolute.authority {
        None if is_http => Err(Refusal::BadRequest("the request target lacks an authority")),
        None => Ok(host),
        Some(text) => {
            let authority = Authority::parse(text);
            authority.map(Some).ok_or(Refusal::BadRequest("the request target's authority is malformed"))
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
