use http::StatusCode;

use super::*;

/// Values of `uri-host [ ":" port ]` and their text after parsing, grouped by the rules of the grammar.
pub const WELL_FORMED: &[(&str, &str)] = &[
    // reg-name: unreserved, pct-encoded, sub-delims.
    ("localhost", "localhost"),
    ("LocalHost", "localhost"),
    ("a-b_c~d.example.", "a-b_c~d.example."),
    ("a!$&'()*+,;=b", "a!$&'()*+,;=b"),
    ("%6c%6Fcalhost", "%6c%6fcalhost"),
    ("999.0.0.1", "999.0.0.1"),
    ("127.1", "127.1"),
    // IPv4address.
    ("127.0.0.1", "127.0.0.1"),
    // IP-literal.
    ("[::1]", "[::1]"),
    ("[0:0:0:0:0:0:0:1]", "[::1]"),
    ("[::FFFF:127.0.0.1]", "[::ffff:127.0.0.1]"),
    ("[v1.A:b]", "[v1.a:b]"),
    // port.
    ("localhost:", "localhost"),
    ("localhost:0", "localhost:0"),
    ("localhost:00080", "localhost:80"),
    ("localhost:65535", "localhost:65535"),
    ("[::1]:9292", "[::1]:9292"),
    ("[::1]:", "[::1]"),
];

pub const MALFORMED: &[&str] = &[
    // An empty host.
    ":",
    ":80",
    "[]",
    "[]:80",
    // userinfo.
    "user@localhost",
    "user:secret@localhost",
    "@localhost",
    "localhost@",
    "localhost:80@evil.example",
    // port.
    "localhost:port",
    "127.0.0.1:80x",
    "localhost:-1",
    "localhost:+80",
    "localhost:8 0",
    "localhost: 80",
    "localhost:80:80",
    "localhost::80",
    "localhost:0x50",
    "localhost:65536",
    "localhost:99999999999999999999",
    "localhost:٠",
    "[::1]:port",
    "[::1]:65536",
    // Characters that cannot appear in a host.
    "local host",
    "localhost,\tlocalhost",
    "localhost, evil.example",
    "localhost/",
    "localhost/up",
    "localhost?",
    "localhost#",
    "localhost\\",
    "local\"host",
    "local<host>",
    "local{host}",
    "local|host",
    "local^host",
    "local`host",
    "http://localhost",
    "h\u{f6}st",
    "\u{fffd}",
    // pct-encoded.
    "%",
    "localhost%",
    "localhost%2",
    "localhost%zz",
    "%%6c",
    // IP-literal.
    "::1",
    "0:0:0:0:0:0:0:1",
    "[::1",
    "::1]",
    "[[::1]]",
    "[::1]]",
    "[::1]x",
    "[::1]x:80",
    "x[::1]",
    "[localhost]",
    "[127.0.0.1]",
    "[:::1]",
    "[1:2:3]",
    "[12345::1]",
    "[::g]",
    "[::1%lo]",
    "[::1%25lo]",
    "[fe80::1%25eth0]:80",
    "[::1/64]",
    "[ ::1]",
    "[v1]",
    "[v1.]",
    "[v.x]",
    "[vg.x]",
    "[v1.a@b]",
];

#[test]
fn hosts_are_parsed_according_to_the_uri_grammar() {
    for (text, expected) in WELL_FORMED {
        let parsed = Authority::parse(text).map(|authority| authority.to_string());
        assert_eq!(parsed.as_deref(), Some(*expected), "{text}");
    }
    for text in MALFORMED {
        assert_eq!(Authority::parse(text), None, "{text}");
    }
    assert_eq!(Authority::parse(""), None);
}

#[test]
fn local_hosts_and_names_below_a_domain_are_recognized() {
    let host = |text: &str| Host::parse(text).unwrap();
    for local in ["127.0.0.1", "127.9.9.9", "[::1]", "localhost", "LOCALHOST", "tab1.localhost"] {
        assert!(host(local).is_local(), "{local}");
    }
    for other in [
        ".localhost",
        "evillocalhost",
        "localhost.evil.com",
        "127.0.0.1.evil.com",
        "10.0.0.1",
        "[::2]",
        "[v1.localhost]",
    ] {
        assert!(!host(other).is_local(), "{other}");
    }
    assert!(host("a.test").is_below(".test") && !host("test").is_below(".test"));
    assert!(!host(".test").is_below(".test"));
}

#[test]
fn targets_in_absolute_form_are_split() {
    let form = |scheme, authority, rest| Some(AbsoluteForm { scheme, authority, rest });
    for (target, expected) in [
        ("/", None),
        ("/redirect?to=http://elsewhere/x", None),
        ("*", None),
        ("1http://a/", None),
        ("http://a/b?c", form("http", Some("a"), "/b?c")),
        ("HTTP://a", form("HTTP", Some("a"), "")),
        ("http://a?b=/c", form("http", Some("a"), "?b=/c")),
        ("http:///b", form("http", Some(""), "/b")),
        ("http:/b", form("http", None, "/b")),
        ("urn:a:b", form("urn", None, "a:b")),
    ] {
        assert_eq!(absolute_form(target), expected, "{target}");
    }
}

/// One row per way to name a host, and one column per HTTP version.
#[test]
fn the_host_of_a_request_depends_on_target_fields_and_version() {
    let refused = || Err(StatusCode::BAD_REQUEST);
    let is = |host: &str| Ok(Some(host.to_owned()));
    for (target, hosts, by_11, by_10) in [
        // Origin form and asterisk form: Host.
        ("/", &["localhost:9292"][..], is("localhost:9292"), is("localhost:9292")),
        ("*", &["localhost"], is("localhost"), is("localhost")),
        ("/", &[], refused(), Ok(None)),
        ("/", &[""], refused(), is("")),
        ("/", &["a", "a"], refused(), refused()),
        ("/", &["a", ""], refused(), refused()),
        ("/", &["user@a"], refused(), refused()),
        ("/a://b/c", &["localhost"], is("localhost"), is("localhost")),
        // Absolute form: its authority wins, but Host must still be well-formed.
        ("http://a/", &["b"], is("a"), is("a")),
        ("http://a", &["b"], is("a"), is("a")),
        ("HTTPS://A:1?x", &["b"], is("a:1"), is("a:1")),
        ("ftp://[::1]/", &["b"], is("[::1]"), is("[::1]")),
        ("http://a/", &[], refused(), is("a")),
        ("http://a/", &[""], refused(), is("a")),
        ("http://a/", &["b:x"], refused(), refused()),
        ("http://a/", &["b", "b"], refused(), refused()),
        // A malformed authority, or a missing one although the scheme requires it.
        ("http://", &["b"], refused(), refused()),
        ("http:///up", &["b"], refused(), refused()),
        ("http://?x", &["b"], refused(), refused()),
        ("http:/up", &["b"], refused(), refused()),
        ("http:up", &["b"], refused(), refused()),
        ("https:", &["b"], refused(), refused()),
        ("ftp:///up", &["b"], refused(), refused()),
        // Other schemes do not require an authority.
        ("urn:a:b", &["b"], is("b"), is("b")),
    ] {
        let mut fields = Fields::default();
        hosts.iter().for_each(|host| fields.push("Host", host.as_bytes()));
        for (version, expected) in [(Version::Http11, by_11), (Version::Http10, by_10)] {
            let host = of_request(target, version, &fields);
            let host = host.map(|host| host.map(|host| host.to_string())).map_err(Refusal::status);
            assert_eq!(host, expected, "{version:?} {target} {hosts:?}");
        }
    }
    for text in MALFORMED {
        for version in [Version::Http11, Version::Http10] {
            let mut fields = Fields::default();
            fields.push("Host", text.as_bytes());
            assert_eq!(
                of_request("/", version, &fields).map_err(Refusal::status),
                Err(StatusCode::BAD_REQUEST),
                "{text}"
            );
            // A character that ends the authority would make this a different target.
            if !text.contains(['/', '?', '#']) {
                let mut fields = Fields::default();
                fields.push("Host", b"localhost");
                let host = of_request(&format!("http://{text}/up"), version, &fields);
                assert_eq!(host.map_err(Refusal::status), Err(StatusCode::BAD_REQUEST), "{text}");
            }
        }
    }
}
