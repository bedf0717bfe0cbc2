//! Who may speak to the control server.
//!
//! Programs (pumactl, curl) send no `Origin`, `Referer` and `Sec-Fetch-Site`; a
//! browser does, whoever wrote the page that it shows. So with no token set,
//! programs are let in and pages are not; a person who types an address into the
//! browser (`Sec-Fetch-Site: none`) may look, and change nothing. A `Host` must
//! be ours in any case: a page that had its own name pointed here sends that name.

use crate::app::host_authorization::HostAuthorization;
use crate::puma::{Request, Response};

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asks {
    ToLook,
    ToChange,
}

/// Lets a request pass, or answers 403.
pub struct Guard {
    hosts: HostAuthorization,
    token: Option<String>,
}

impl Guard {
    /// For these hosts, and for whoever has the token, if there is one.
    pub fn new(hosts: HostAuthorization, token: Option<String>) -> Self {
        Guard { hosts, token }
    }

    /// Lets the request pass, or answers 403.
    pub(super) fn check(&self, request: &Request, asks: Asks) -> Result<(), Response> {
        self.hosts.check(request)?;
        match &self.token {
            Some(token) if has_token(request, token) => Ok(()),
            None if is_program(request) || (asks == Asks::ToLook && is_typed(request)) => Ok(()),
            _ => Err(Response::new(403, "text/plain", "Invalid auth token")),
        }
    }
}

/// As Puma: one parameter of the query, split at `&` and `;`, undecoded.
fn has_token(request: &Request, token: &str) -> bool {
    let query = request.target.split_once('?').map_or("", |(_, query)| query);
    query.split(['&', ';']).any(|parameter| parameter.strip_prefix("token=") == Some(token))
}

fn is_program(request: &Request) -> bool {
    ["origin", "referer", "sec-fetch-site"].iter().all(|name| request.header(name).is_none())
}

fn is_typed(request: &Request) -> bool {
    request.header("origin").is_none() && request.header("sec-fetch-site") == Some("none")
}
