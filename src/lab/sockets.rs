//! The limit of six connections that a browser opens to one host.
//!
//! Models what Chromium, Firefox and Safari do over HTTP/1.1: if all six are in use, a request waits, unnoticed by the
//! page, until one is free. A host is a combination of scheme, name and port: `tab1.localhost` and `tab2.localhost` are
//! two hosts. The order in which several waiting requests get a connection is unspecified, as in Chromium.
//!
//! A host is a bounded channel filled with six tokens. [`HostSockets::take`] blocks until it gets one or the stop
//! signal arrives.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded, select};
use ninetabs_server::threads::StopSignal;
use url::{Position, Url};

/// The HTTP/1.1 connections that a browser opens per host.
pub const CONNECTIONS_PER_HOST: usize = 6;

/// The connections of one browser; clones share them.
#[derive(Debug, Clone, Default)]
pub struct HostSockets {
    hosts: Arc<Mutex<HashMap<String, Tokens>>>,
}

#[derive(Debug, Clone)]
struct Tokens {
    put: Sender<()>,
    take: Receiver<()>,
}

/// One of a host's connections. Dropping it frees the connection.
#[derive(Debug)]
pub struct Slot(Sender<()>);

impl HostSockets {
    /// A connection to the URL's host, if one is free now.
    pub fn try_take(&self, url: &Url) -> Option<Slot> {
        let tokens = self.tokens(url);
        tokens.take.try_recv().ok().map(|()| Slot(tokens.put))
    }

    /// A connection to the URL's host. If none is free, calls `waiting` and blocks until one is. Returns `None` if
    /// `stop` arrives first.
    pub fn take(&self, url: &Url, stop: &StopSignal, waiting: impl FnOnce()) -> Option<Slot> {
        if let Some(slot) = self.try_take(url) {
            return Some(slot);
        }
        waiting();
        let tokens = self.tokens(url);
        select! {
            recv(tokens.take) -> token => token.ok().map(|()| Slot(tokens.put)),
            recv(stop.receiver()) -> _ => None,
        }
    }

    /// How many connections to the URL's host are in use.
    pub fn in_use(&self, url: &Url) -> usize {
        CONNECTIONS_PER_HOST - self.tokens(url).take.len()
    }

    fn tokens(&self, url: &Url) -> Tokens {
        let host = url[..Position::AfterPort].to_owned();
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let tokens = hosts.entry(host).or_insert_with(|| {
            let (put, take) = bounded(CONNECTIONS_PER_HOST);
            for _ in 0..CONNECTIONS_PER_HOST {
                // This cannot fail: the channel has a capacity of six.
                let _ = put.try_send(());
            }
            Tokens { put, take }
        });
        tokens.clone()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let _ = self.0.try_send(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_host_has_six_connections_of_its_own() {
        let sockets = HostSockets::default();
        let [one, other] =
            ["http://tab1.localhost:1/a", "http://tab2.localhost:1/a"].map(|u| Url::parse(u).unwrap());
        let six: Vec<Slot> = (0..6).map(|_| sockets.clone().try_take(&one).unwrap()).collect();
        assert!(sockets.try_take(&one).is_none());
        assert!(sockets.try_take(&other).is_some());
        assert_eq!((sockets.in_use(&one), sockets.in_use(&other)), (6, 0));

        let (stop, stopped) = StopSignal::new();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| sockets.take(&one, &stopped, || ()).is_some());
            drop(six);
            assert!(waiting.join().unwrap(), "a freed connection goes to a waiting request");
        });
        let _six: Vec<Slot> = (0..6).map(|_| sockets.try_take(&one).unwrap()).collect();
        drop(stop);
        assert!(sockets.take(&one, &stopped, || ()).is_none(), "a stopped request does not wait");
    }
}
