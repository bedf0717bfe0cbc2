//! The part of a response head that a run keeps.
//!
//! A server can send 256 KiB of fields with every response, which take several times as much memory once parsed.

use crate::lab::http::Head;

/// The fields that are used after the response has begun, in addition to [`CACHE_FIELDS`].
const FIELDS: [&str; 5] = ["content-encoding", "content-type", "server", "set-cookie", "via"];

/// Fields with which a cache identifies itself.
pub(super) const CACHE_FIELDS: &[&str] =
    &["age", "x-cache", "x-cache-status", "x-proxy-cache", "x-varnish", "cf-cache-status", "cache-status"];

/// Maximum number of values that are kept per field.
const MAX_VALUES: usize = 20;

/// Maximum number of bytes that are kept per value.
const MAX_VALUE_BYTES: usize = 512;

/// The fields that the run uses, truncated.
pub(super) fn kept(head: &Head) -> Head {
    let values = |name: &'static str| {
        let values = head.values(name).take(MAX_VALUES);
        values.map(move |value| (name.to_owned(), value[..value.len().min(MAX_VALUE_BYTES)].to_vec()))
    };
    let headers = FIELDS.iter().chain(CACHE_FIELDS).flat_map(|name| values(name)).collect();
    Head { status: head.status, headers, minor_version: head.minor_version }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_of_any_size_is_kept_in_a_few_kilobytes() {
        let field = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
        let mut headers = vec![field("Server", "nginx"), field("X-Other", "x"), field("AGE", "3")];
        headers.extend(vec![field("Set-Cookie", &"c".repeat(4000)); 1000]);
        let kept = kept(&Head { status: 200, headers, minor_version: 1 });
        assert_eq!((kept.status, kept.minor_version), (200, 1));
        assert_eq!(kept.header("server").as_deref(), Some("nginx"));
        assert_eq!((kept.header("age").as_deref(), kept.header("x-other")), (Some("3"), None));
        assert_eq!(kept.headers.len(), 2 + MAX_VALUES);
        assert!(kept.headers.iter().all(|(_, value)| value.len() <= MAX_VALUE_BYTES));
    }
}
