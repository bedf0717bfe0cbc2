use super::*;

/// A request for tests, without a body or headers: request 1 on thread 1.
pub fn get(target: &str) -> Request {
    Request {
        subject: Subject { connection: 1, port: 40_001, request: 1 },
        thread: 1,
        method: Method::GET,
        target: target.into(),
        version: Version::Http11,
        body: RequestBody::default(),
        authority: None,
        headers: Fields::default(),
        mark: None,
    }
}

#[test]
fn a_built_request_cannot_have_a_field_that_clients_cannot_send() {
    let built = |name: &str, value: &str| Request::builder().header(name, value).build().map(drop);
    for (name, value) in [("x", ""), ("X-Name", "a\tb é"), ("a_b", "dropped, as from a connection")] {
        assert_eq!(built(name, value), Ok(()), "{name}: {value}");
    }
    let long = "x".repeat(head::MAX_NAME_BYTES + 1);
    for (name, value) in [
        ("", "a"),
        ("a name", "a"),
        ("a:b", "a"),
        ("a\r\nb", "a"),
        ("a", "b\r\nc: d"),
        ("a", "b\r\n\r\n"),
        ("a", "\0"),
        (&long, "a"),
    ] {
        assert!(built(name, value).is_err(), "{name:?}: {value:?}");
    }
}

#[test]
fn the_value_of_a_token_is_not_logged() {
    for (query, expected) in [
        ("a=1&token=s3cret&b=2", "a=1&token=…&b=2"),
        ("a=1;token=s3cret&b=2", "a=1;token=…&b=2"),
        // `param()` treats all of this as the value.
        ("token=s3c;ret=#?&b=2", "token=…&b=2"),
        ("token=;s3cret", "token=…"),
        ("%74oken=s3cret", "%74oken=…"),
        ("tok%65n=s3%63ret&%74%6F%6b%65%6E=s3cret", "tok%65n=…&%74%6F%6b%65%6E=…"),
        ("tab=1&tokens=2&x=token=", "tab=1&tokens=2&x=token="),
        ("token&token=", "token&token=…"),
    ] {
        let shown = format!("{:?}", get(&format!("/stats?{query}")));
        assert_eq!(shown, format!("GET /stats?{expected} (request 1 of connection 1)"));
    }
    assert!(format!("{:?}", get("/token=1")).starts_with("GET /token=1 ("));
}

#[test]
fn the_path_is_found_in_every_form_of_target() {
    for (target, path) in [
        ("/", "/"),
        ("/models.json?since=3", "/models.json"),
        ("http://127.0.0.1:9292/up?x=1", "/up"),
        ("http://127.0.0.1:9292", "/"),
        ("http://127.0.0.1:9292?x=/y", "/"),
        ("HTTP://127.0.0.1:9292/up", "/up"),
        ("/redirect?to=http://elsewhere/x", "/redirect"),
        ("/a://b", "/a://b"),
        ("urn:a:b", "urn:a:b"),
        ("*", "*"),
    ] {
        assert_eq!(get(target).path(), path, "{target}");
    }
}

#[test]
fn a_logged_request_is_free_of_control_characters() {
    let request = get("/models?\u{9b}31mEVIL\u{202e}\r\nname='a'");
    let said = format!("{request:?}");
    let target = "/models?\\u{9b}31mEVIL\\u{202e}\\r\\nname='a'";
    assert_eq!(said, format!("GET {target} (request 1 of connection 1)"));
}

#[test]
fn parameters_are_decoded_and_the_last_wins() {
    assert_eq!(get("/?a=1&a=1%20b&b=3").param("a").as_deref(), Some("1 b"));
    assert_eq!(get("/?a").param("a").as_deref(), Some(""));
    assert_eq!(get("/?b=1").param("a"), None);
    assert_eq!(get("/").param("a"), None);
}

#[test]
fn close_wins_over_keep_alive_in_every_version() {
    for (lines, is_kept_by_11, is_kept_by_10) in [
        (&[][..], true, false),
        (&["keep-alive"], true, true),
        (&["Keep-Alive"], true, true),
        (&["TE, keep-alive"], true, true),
        (&["TE"], true, false),
        (&["close"], false, false),
        (&["TE, Close"], false, false),
        (&["close, keep-alive"], false, false),
        (&["keep-alive, close"], false, false),
        (&["close", "keep-alive"], false, false),
        (&["keep-alive", "close"], false, false),
        (&["keep-alive", "TE", ", ,CLOSE,"], false, false),
        (&["clo, se"], true, false),
        (&["keep-alive-not"], true, false),
    ] {
        for (version, expected) in [(Version::Http11, is_kept_by_11), (Version::Http10, is_kept_by_10)] {
            let mut request = get("/");
            request.version = version;
            lines.iter().for_each(|line| request.headers.push("Connection", line.as_bytes()));
            assert_eq!(request.keeps_alive(), expected, "{version:?} {lines:?}");
        }
    }
}

#[test]
fn the_value_of_a_repeated_header_that_is_not_a_list_is_none() {
    let mut request = get("/");
    request.headers.push("Content-Type", b"application/json; charset=utf-8");
    assert!(request.is_of_type("application/json"));
    request.headers.push("content-type", b"application/json");
    assert!(!request.is_of_type("application/json"));
    assert_eq!(request.only_header("content-type"), None);
    assert_eq!(request.header("Content-Type"), Some("application/json; charset=utf-8"));
}
