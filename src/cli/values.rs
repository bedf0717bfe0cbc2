//! Parses the values of flags. Every error message says which value to give instead.

use std::ffi::OsStr;
use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::TypedValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command};
use url::Url;

use super::duration;
use crate::app::host_authorization::HostAuthorization;
use crate::control::Token;
use crate::lab::acts::ACTS;
use ninetabs_server::thread_pool::PoolSize;

/// A duration, or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrOff(pub Option<Duration>);

/// A number, or `auto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrAuto(pub Option<usize>);

/// A number, or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AtMost(pub Option<usize>);

/// A control token, or `none`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrNoToken(pub Option<Token>);

/// The value that means no token, as in Puma.
pub const NO_TOKEN: &str = "none";
/// The default address of the control server.
pub const CONTROL_URL: &str = "tcp://127.0.0.1:9293";
/// The maximum number of threads or database connections.
pub const MOST: usize = 10_000;

/// `tcp://127.0.0.1:9292`; `localhost` is 127.0.0.1, and the scheme may be left out.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    let bare = without_scheme(text);
    let local = bare.strip_prefix("localhost:").and_then(|port| port.parse().ok());
    match local {
        Some(port) => Ok((IpAddr::V4(Ipv4Addr::LOCALHOST), port).into()),
        None => bare.parse().map_err(|_| "give an address such as tcp://127.0.0.1:9292".to_owned()),
    }
}

/// A value of TCP_USER_TIMEOUT, which exists on Linux only.
pub fn tcp_user_timeout(text: &str) -> Result<OrOff, String> {
    let value = time_or_off(text)?;
    if cfg!(not(target_os = "linux")) && value.0.is_some() {
        return Err("this option works on Linux only; leave it out".to_owned());
    }
    Ok(value)
}

/// The text without `tcp://`, or without `http://`, which the start-up message prints.
pub fn without_scheme(text: &str) -> &str {
    let bare = ["tcp://", "http://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    bare.map_or(text, |bare| bare.strip_suffix('/').unwrap_or(bare))
}

/// A control token, or `none`.
pub fn token(text: &str) -> Result<OrNoToken, String> {
    match text {
        NO_TOKEN => Ok(OrNoToken(None)),
        "" => Err(format!("give a token, or {NO_TOKEN}")),
        _ => Token::new(text).map(|token| OrNoToken(Some(token))),
    }
}

/// The parser of a flag whose value is a secret: its error does not repeat the value.
#[derive(Debug, Clone, Copy)]
pub struct SecretToken;

impl TypedValueParser for SecretToken {
    type Value = OrNoToken;

    fn parse_ref(
        &self,
        command: &Command,
        flag: Option<&Arg>,
        value: &OsStr,
    ) -> Result<OrNoToken, clap::Error> {
        let parsed = value.to_str().map_or_else(|| token("\u{fffd}"), token);
        parsed.map_err(|what| {
            let flag = flag.map_or_else(|| "the token".to_owned(), ToString::to_string);
            let text = format!("the value of '{flag}' cannot be a token: {what}\n");
            let mut error = clap::Error::raw(ErrorKind::ValueValidation, text).with_cmd(command);
            error.insert(ContextKind::InvalidArg, ContextValue::String(flag));
            error.insert(ContextKind::Custom, ContextValue::String(what));
            error
        })
    }
}

/// `MIN:MAX`, or one number for both.
pub fn pool_size(text: &str) -> Result<PoolSize, String> {
    let (min, max) = text.split_once(':').unwrap_or((text, text));
    let size = min.parse().ok().zip(max.parse().ok()).and_then(|(min, max)| PoolSize::new(min, max).ok());
    size.filter(|size| size.max() <= MOST).ok_or_else(|| {
        format!("give MIN:MAX, such as 8:8 or 0:5, with MAX from 1 to {MOST} and MIN at most MAX")
    })
}

/// A duration above 0.
pub fn some_time(text: &str) -> Result<Duration, String> {
    duration::more_than_none(text)
}

/// A duration above 0, or `off`.
pub fn time_or_off(text: &str) -> Result<OrOff, String> {
    match text {
        "off" => Ok(OrOff(None)),
        _ => some_time(text).map(|time| OrOff(Some(time))).map_err(|what| format!("{what}, or off")),
    }
}

/// Parses a percentage such as `10%`, as a fraction of 1.
pub fn percentage(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.strip_suffix('%').unwrap_or(text).parse().ok();
    number
        .filter(|percent| (0.0..=100.0).contains(percent))
        .map(|percent| percent / 100.0)
        .ok_or_else(|| "give a percentage from 0% to 100%".to_owned())
}

/// A number of connections, or `auto`.
pub fn number_or_auto(text: &str) -> Result<OrAuto, String> {
    match text.parse() {
        _ if text == "auto" => Ok(OrAuto(None)),
        Ok(number) if (1..=MOST).contains(&number) => Ok(OrAuto(Some(number))),
        _ => Err(format!("give a number from 1 to {MOST}, or auto")),
    }
}

/// Parses an origin, as in a page's `Origin` header.
pub fn origin(text: &str) -> Result<String, String> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    match url {
        Some(url)
            if url.has_host() && url.path() == "/" && url.query().is_none() && url.username().is_empty() =>
        {
            Ok(url.origin().ascii_serialization())
        }
        _ => Err("give a scheme, a host and a port, such as http://127.0.0.1:9294".to_owned()),
    }
}

/// A host that a request can name, or a dot and a domain for all names below it.
pub fn allowed_host(text: &str) -> Result<String, String> {
    if HostAuthorization::can_allow(text) {
        return Ok(text.to_owned());
    }
    Err("give a host without a scheme and a port, such as ninetabs.test, or .ninetabs.test for all names below it".to_owned())
}

/// A maximum of at least 1, or `off`.
pub fn number_or_off(text: &str) -> Result<AtMost, String> {
    match text.parse() {
        _ if text == "off" => Ok(AtMost(None)),
        Ok(number) if (1..=MOST).contains(&number) => Ok(AtMost(Some(number))),
        _ => Err(format!("give a number from 1 to {MOST}, or off")),
    }
}

/// A number in this range.
pub fn number<N>(range: RangeInclusive<N>) -> impl Fn(&str) -> Result<N, String> + Clone + Send + Sync
where
    N: FromStr + PartialOrd + Display + Clone + Send + Sync,
{
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| format!("give a number from {} to {}", range.start(), range.end()))
    }
}

/// A number that is at least this one.
pub fn number_from<N>(least: N) -> impl Fn(&str) -> Result<N, String> + Clone + Send + Sync
where
    N: FromStr + PartialOrd + Display + Clone + Send + Sync,
{
    move |text| {
        let number = text.parse().ok().filter(|number| *number >= least);
        number.ok_or_else(|| format!("give {least} or more"))
    }
}

/// An act of `reproduce`.
pub fn act(text: &str) -> Result<u8, String> {
    let last = ACTS.len() as u8;
    let act = text.parse().ok().filter(|act| (1..=last).contains(act));
    act.ok_or_else(|| format!("give an act from 1 to {last}"))
}

/// Parses a number of threads, which may be 0.
pub fn threads(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| *count <= MOST);
    count.ok_or_else(|| format!("give a number from 0 to {MOST}"))
}

/// A number of rows or bytes that is at least 1.
pub fn one_or_more(text: &str) -> Result<u64, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| "give 1 or more, such as 1000 or 1048576".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hosts_that_a_request_can_name_are_accepted() {
        for host in ["ninetabs.test", ".test", "192.0.2.7", "::1", "[2001:db8::7]", "under_score.test"] {
            assert_eq!(allowed_host(host), Ok(host.to_owned()));
        }
        for wrong in ["", ".", "http://a.test", "a.test:80", ".a.test:80", "*.test", "a b", "a/b"] {
            assert!(allowed_host(wrong).is_err_and(|said| said.contains("give a host")), "{wrong}");
        }
    }

    #[test]
    fn each_kind_of_value_is_parsed() {
        assert_eq!(address("tcp://127.0.0.1:0"), Ok(([127, 0, 0, 1], 0).into()));
        assert_eq!(address("localhost:80"), Ok(([127, 0, 0, 1], 80).into()));
        assert!(address("tcp://127.0.0.1").is_err() && address("unix://x").is_err());
        assert_eq!(token("none"), Ok(OrNoToken(None)));
        assert!(token("").is_err(), "an empty shell variable must not start a server without a token");
        assert!(token("s3cret").is_ok_and(|token| token.0.is_some()) && token("a b").is_err());
        assert_eq!(pool_size("0:5"), Ok(PoolSize::new(0, 5).unwrap()));
        assert_eq!(pool_size("3"), Ok(PoolSize::new(3, 3).unwrap()));
        for wrong in ["", ":", "5:1", "0:0", "0", "a:b", "1:99999", "-1:2"] {
            assert!(pool_size(wrong).is_err(), "{wrong}");
        }
        assert_eq!(time_or_off("off"), Ok(OrOff(None)));
        assert_eq!(time_or_off("5s"), Ok(OrOff(Some(Duration::from_secs(5)))));
        assert!(time_or_off("0").is_err() && some_time("0ms").is_err());
        assert_eq!(percentage("10%"), Ok(0.1));
        assert!(percentage("101").is_err() && percentage("nan").is_err());
        assert_eq!(number_or_auto("auto"), Ok(OrAuto(None)));
        assert!(number_or_auto("0").is_err());
        assert_eq!((number_or_off("off"), number_or_off("6")), (Ok(AtMost(None)), Ok(AtMost(Some(6)))));
        assert_eq!(origin("http://127.0.0.1:9294/"), Ok("http://127.0.0.1:9294".to_owned()));
        assert_eq!(origin("HTTP://Localhost:80"), Ok("http://localhost".to_owned()));
        for wrong in
            ["127.0.0.1:9294", "ftp://x", "http://a/b", "http://a?b", "http://", "http://u@a", "http://a; b"]
        {
            assert!(origin(wrong).is_err(), "{wrong}");
        }
        assert!(number_or_off("0").is_err() && number_or_off("auto").is_err());
        assert_eq!((threads("0"), one_or_more("1")), (Ok(0), Ok(1)));
        assert!(threads("10001").is_err() && one_or_more("0").is_err() && one_or_more("1k").is_err());
    }
}
