//! Who may speak to the control server.
//!
//! Programs (pumactl, curl) send no `Origin`, `Referer` and `Sec-Fetch-Site`; a
//! browser does, whoever wrote the page that it shows. So with no token set,
//! programs are let in and pages are not, but for our own. A person may type an
//! address into the browser (`Sec-Fetch-Site: none`) or follow a link to a page of
//! ours, and so looks, and changes nothing. Our own pages look as well, and carry a
//! token, which comes back in a header with each change that they ask for: no other
//! page can read it there, or send that header here. A `Host` must be ours in any
//! case: a page that had its own name pointed here sends that name.

use url::form_urlencoded;

use crate::app::content_security_policy::Nonce;
use crate::app::host_authorization::HostAuthorization;
use crate::app::origin::{Origin, Said};
use crate::puma::{Request, Response};

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asks {
    ToLook,
    /// To look at a page of ours, which a link may lead to.
    ForPage,
    ToChange,
}

/// Lets a request pass, or answers 403.
pub struct Guard {
    hosts: HostAuthorization,
    token: Option<String>,
    page_token: String,
}

/// The header in which a page of ours brings its token back.
const TOKEN_HEADER: &str = "x-ninetabs-token";

impl Guard {
    /// For these hosts, and for whoever has the token, if there is one; else one is drawn
    /// for our own pages, from the system's randomness.
    pub fn new(hosts: HostAuthorization, token: Option<String>) -> Result<Self, getrandom::Error> {
        let page_token = match &token {
            Some(token) => token.clone(),
            None => Nonce::draw()?.as_str().to_owned(),
        };
        Ok(Guard { hosts, token, page_token })
    }

    /// The token that our own pages carry.
    pub(super) fn page_token(&self) -> &str {
        &self.page_token
    }

    /// What the address of a page of ours must have behind it.
    pub(super) fn query(&self) -> String {
        self.token.as_ref().map(|token| format!("?token={token}")).unwrap_or_default()
    }

    /// Lets the request pass, or answers 403.
    pub(super) fn check(&self, request: &Request, asks: Asks) -> Result<(), Response> {
        self.hosts.check(request)?;
        let brings = request.header(TOKEN_HEADER);
        let may = match (&self.token, asks) {
            (_, Asks::ToChange) if !is_program(request) => {
                is_ours(request) && brings == Some(&self.page_token)
            }
            (Some(token), _) => brings == Some(token) || has_token(request, token),
            (None, Asks::ToChange) => true,
            (None, Asks::ToLook) => is_program(request) || is_typed(request) || is_ours(request),
            (None, Asks::ForPage) => {
                is_program(request) || is_typed(request) || is_ours(request) || is_followed(request)
            }
        };
        if may { Ok(()) } else { Err(Response::new(403, "text/plain", "Invalid auth token")) }
    }
}

/// As Puma: one parameter of the query, split at `&` and `;`, undecoded. It may also stand
/// there as a form has it, which is how a page's script writes it.
fn has_token(request: &Request, token: &str) -> bool {
    let query = request.target.split_once('?').map_or("", |(_, query)| query);
    let in_a_form: String = form_urlencoded::byte_serialize(token.as_bytes()).collect();
    query
        .split(['&', ';'])
        .filter_map(|parameter| parameter.strip_prefix("token="))
        .any(|said| said == token || said == in_a_form)
}

fn is_program(request: &Request) -> bool {
    ["origin", "referer", "sec-fetch-site"].iter().all(|name| request.header(name).is_none())
}

fn is_typed(request: &Request) -> bool {
    request.header("origin").is_none() && request.header("sec-fetch-site") == Some("none")
}

/// Whether the browser says that a page of this very address asks.
fn is_ours(request: &Request) -> bool {
    let site = request.header("sec-fetch-site");
    match Origin::of(request) {
        Said::Of(origin) => {
            matches!(site, None | Some("same-origin")) && origin.is_http() && origin.is_same_host(request)
        }
        Said::Nothing => site == Some("same-origin"),
        Said::Foreign => false,
    }
}

/// Whether a person followed a link, so that the page that had it cannot read the answer.
fn is_followed(request: &Request) -> bool {
    request.header("origin").is_none()
        && request.header("sec-fetch-mode") == Some("navigate")
        && request.header("sec-fetch-dest") == Some("document")
}
