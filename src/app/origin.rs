//! `Origin`, as a browser sends it: `scheme "://" host [ ":" port ]`, or `null`.

use ninetabs_server::{Authority, Request};

/// The origin of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    is_https: bool,
    authority: Authority,
}

/// What a request says of the origin that it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// There is no `Origin` field.
    Nothing,
    Of(Origin),
    /// `null`, another scheme, malformed, or several fields: the origin of no page of ours.
    Foreign,
}

impl Origin {
    /// Parses the serialization of an origin of http or https.
    pub fn parse(text: &str) -> Option<Origin> {
        let (scheme, authority) = text.split_once("://")?;
        let is_https = match scheme {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        Some(Origin { is_https, authority: Authority::parse(authority)? })
    }

    /// What this request says.
    pub fn of(request: &Request) -> Said {
        match (request.header("origin"), request.only_header("origin")) {
            (None, _) => Said::Nothing,
            (_, only) => only.and_then(Origin::parse).map_or(Said::Foreign, Said::Of),
        }
    }

    /// Whether a page of this origin came from the host that the request is for: the same
    /// host and the same port, where none is the scheme's own. The scheme itself may differ,
    /// since a proxy may speak https in front of this server.
    pub fn is_same_host(&self, request: &Request) -> bool {
        let own_port = if self.is_https { 443 } else { 80 };
        let port = |authority: &Authority| authority.port.unwrap_or(own_port);
        request.authority().is_some_and(|authority| {
            authority.host == self.authority.host && port(authority) == port(&self.authority)
        })
    }

    /// Whether its pages came without TLS, as this server sends them.
    pub fn is_http(&self) -> bool {
        !self.is_https
    }
}
