//! The `Origin` field, as a browser sends it: `scheme "://" host [ ":" port ]`, or `null`.

use ninetabs_server::{Authority, Request};

/// The origin of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    is_https: bool,
    authority: Authority,
}

/// The origin that a request states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// There is no `Origin` field.
    Nothing,
    Of(Origin),
    /// `null`, another scheme, a malformed value, or several fields: none of our pages has such an
    /// origin.
    Foreign,
}

impl Origin {
    /// Parses the serialization of an http or https origin.
    pub fn parse(text: &str) -> Option<Origin> {
        let (scheme, authority) = text.split_once("://")?;
        let is_https = match scheme {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        Some(Origin { is_https, authority: Authority::parse(authority)? })
    }

    /// The origin that this request states.
    pub fn of(request: &Request) -> Said {
        match (request.header("origin"), request.only_header("origin")) {
            (None, _) => Said::Nothing,
            (_, only) => only.and_then(Origin::parse).map_or(Said::Foreign, Said::Of),
        }
    }

    /// Whether this origin has the host and port that the request is for. A missing port is the scheme's
    /// default. The scheme may differ, since a proxy in front of this server may use https.
    pub fn is_same_host(&self, request: &Request) -> bool {
        let own_port = if self.is_https { 443 } else { 80 };
        let port = |authority: &Authority| authority.port.unwrap_or(own_port);
        request.authority().is_some_and(|authority| {
            authority.host == self.authority.host && port(authority) == port(&self.authority)
        })
    }

    /// Its host and port.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Whether its pages were served without TLS, as this server's are.
    pub fn is_http(&self) -> bool {
        !self.is_https
    }
}
