use super::*;

const MAX: usize = 112 * 1024;

/// Parses a head that must be complete.
pub fn head(text: &str) -> RequestHead {
    match parse(text.as_bytes(), MAX) {
        Parsed::Whole(head, length) => {
            assert_eq!(length, text.len());
            head
        }
        other => panic!("{text:?}: {other:?}"),
    }
}

fn status(bytes: &[u8]) -> Option<u16> {
    match parse(bytes, MAX) {
        Parsed::Whole(..) => Some(200),
        Parsed::NotYet => None,
        Parsed::Refused(refusal) => Some(refusal.status().as_u16()),
    }
}

/// Returns the status for a head. Asserts that it is the same when the bytes are received one by one.
fn outcome(bytes: &[u8]) -> Option<u16> {
    let whole = status(bytes);
    let mut scan = HeadScan::new(MAX);
    let single = (1..=bytes.len()).map(|end| scan.look(&bytes[..end])).find_map(|parsed| match parsed {
        Parsed::Whole(..) => Some(200),
        Parsed::NotYet => None,
        Parsed::Refused(refusal) => Some(refusal.status().as_u16()),
    });
    assert_eq!(single, whole, "byte by byte: {}", String::from_utf8_lossy(bytes));
    whole
}

/// One row per rule of the request target, for every method and both versions.
#[test]
fn targets_are_checked_the_same_for_every_method_and_version() {
    for (target, expected) in [
        ("/", 200),
        ("/up?a=%27%%27&x[]=1;y={z}|~", 200),
        ("/#fragment", 200),
        ("//up", 200),
        ("*", 200),
        ("http://a/b?c", 200),
        ("http://a", 200),
        ("http://a?b", 200),
        ("HTTPS://A:443/", 200),
        ("http://[::1]:1/", 200),
        ("http://a:/", 200),
        ("urn:a:b", 200),
        ("http://127.0.0.1:port/up", 400),
        ("http://127.0.0.1:80x/up", 400),
        ("http://a:65536/", 400),
        ("http://a:1:2/", 400),
        ("http://user@a/", 400),
        ("http://user:secret@a/", 400),
        ("http://@a/", 400),
        ("http:///up", 400),
        ("http://:80/", 400),
        ("http://", 400),
        ("http:/up", 400),
        ("http:up", 400),
        ("http://::1/", 400),
        ("http://[::1/", 400),
        ("http://[a]/", 400),
        ("http://[::1%25lo]/", 400),
        ("http://a%/", 400),
        ("http://a%zz/", 400),
        ("http://a\\b/", 400),
        ("http://a,b:c/", 400),
        ("http://caf\u{e9}/", 400),
        ("up", 400),
        ("a:1", 200),
        ("127.0.0.1:80", 400),
        ("://a/", 400),
        ("?a", 400),
        ("#a", 400),
        ("/a\"b", 400),
        ("/<a", 400),
        ("/\u{7f}", 400),
    ] {
        for method in METHODS {
            for version in ["HTTP/1.1", "HTTP/1.0"] {
                let head = format!("{method} {target} {version}\r\nHost: a\r\n\r\n");
                assert_eq!(outcome(head.as_bytes()), Some(expected), "{head:?}");
            }
        }
    }
}

#[test]
fn request_lines_are_checked_against_the_grammar() {
    for (line, expected) in [
        ("GET / HTTP/1.1", 200),
        ("GET / HTTP/1.0", 200),
        ("get / HTTP/1.1", 400),
        ("get_lost / HTTP/1.1", 400),
        ("PUMA / HTTP/1.1", 501),
        ("CONNECT a:1 HTTP/1.1", 501),
        ("AAAAAAAAAAAAAAAAAAAAA / HTTP/1.1", 400),
        ("G@T / HTTP/1.1", 400),
        ("G@T / HTTP/2.0", 400),
        ("GET  / HTTP/1.1", 400),
        ("GET /  HTTP/1.1", 400),
        ("GET\t/ HTTP/1.1", 400),
        ("GET /a b HTTP/1.1", 400),
        ("GET /\0 HTTP/1.1", 400),
        ("GET / HTTP/1.1 ", 400),
        (" GET / HTTP/1.1", 400),
        ("GET /", 400),
        ("GET", 400),
        ("GET / http/1.1", 400),
        ("GET / HTTP/1.a", 400),
        ("GET / HTTP/1.10", 400),
        ("GET / HTTP/10.0", 400),
        ("GET / HTTP/01.1", 400),
        ("GET / HTTP/2", 400),
        ("GET / HTTP/1.2", 505),
        ("GET / HTTP/2.0", 505),
        ("GET / HTTP/0.9", 505),
        ("PRI * HTTP/2.0", 505),
        ("\r\nGET / HTTP/1.1", 200),
        ("\r\n\r\nGET / HTTP/2.0", 505),
        ("\nGET / HTTP/2.0", 400),
        ("\rGET / HTTP/1.1", 400),
        ("\r\r\nGET / HTTP/1.1", 400),
    ] {
        let head = format!("{line}\r\nHost: a\r\n\r\n");
        assert_eq!(outcome(head.as_bytes()), Some(expected), "{line:?}");
    }
    assert_eq!(outcome(b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n"), Some(400));
    assert_eq!(outcome(b"GET /\xff HTTP/2.0\r\nHost: a\r\n\r\n"), Some(400));
    assert_eq!(outcome(b"\x16\x03\x01"), Some(400), "a TLS handshake must be refused at its first bytes");
    assert_eq!(&*head("GET /a#b HTTP/1.0\r\n\r\n").target, "/a");
}

#[test]
fn fields_are_checked_against_the_grammar() {
    for (fields, by_11, by_10) in [
        (&b"Host: a\r\nX-A:1\r\n"[..], 200, 200),
        (b"Host:a\r\nX-A:\r\n", 200, 200),
        (b"hOST: a\r\nX-A: caf\xe9\r\n", 200, 200),
        (b"Host: \ta\t \r\n", 200, 200),
        (b"", 400, 200),
        (b"Host:\r\n", 400, 200),
        (b"Host: \t \r\n", 400, 200),
        (b"Host: a\r\nHost: a\r\n", 400, 400),
        (b"Host: a\r\nhost:\r\n", 400, 400),
        (b"Host: a b\r\n", 400, 400),
        (b"Host: caf\xe9\r\n", 400, 400),
        (b"Host: a:80x\r\n", 400, 400),
        (b"Host_: a\r\nHost: a\r\n", 200, 200),
        (b"Host : a\r\n", 400, 400),
        (b" Host: a\r\n", 400, 400),
        (b"Host: a\r\n b\r\n", 400, 400),
        (b"Host: a\r\nX\r\n", 400, 400),
        (b"Host: a\r\n: 1\r\n", 400, 400),
        (b"Host: a\r\nX-\xc3\xa4: 1\r\n", 400, 400),
        (b"Host: a\r\nX\0A: 1\r\n", 400, 400),
        (b"Host: a\r\nX-A: a\0b\r\n", 400, 400),
        (b"Host: a\r\nX-A: a\x01b\r\n", 400, 400),
        (b"Host: a\r\nX-A: a\x7fb\r\n", 400, 400),
        (b"Host: a\r\nX-A: 1\rX-B: 2\r\n", 400, 400),
        (b"Host: a\r\nX-A: 1\r\r\n", 400, 400),
        (b"Host: a\nX-A: 1\r\n", 400, 400),
    ] {
        for (version, expected) in [(&b"GET / HTTP/1.1\r\n"[..], by_11), (b"GET / HTTP/1.0\r\n", by_10)] {
            let head = [version, fields, b"\r\n"].concat();
            assert_eq!(outcome(&head), Some(expected), "{}", String::from_utf8_lossy(&head));
        }
    }
    assert_eq!(head("GET / HTTP/1.0\r\nX_A: 1\r\nX-A: 2\r\n\r\n").fields.iter().count(), 1);
}

#[test]
fn an_expectation_is_found_in_a_list_on_any_number_of_lines() {
    for (lines, expected) in [
        (&["100-continue"][..], true),
        (&["100-Continue"], true),
        (&["a=b, 100-continue"], true),
        (&["a=b", "100-continue"], true),
        (&["a=\"100-continue\""], false),
        (&["100-continue=x"], false),
        (&["100"], false),
        (&[], false),
    ] {
        let fields: String = lines.iter().map(|line| format!("Expect: {line}\r\n")).collect();
        let head = head(&format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        assert_eq!(head.expects_continue(), expected, "{lines:?}");
    }
}

#[test]
fn targets_fields_and_heads_over_their_limits_are_refused() {
    let over = |text: String| status(text.as_bytes());
    let long = "a".repeat(MAX_TARGET_BYTES);
    assert_eq!(over(format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n")), Some(414));
    assert_eq!(over(format!("GET /{}", "a".repeat(20_000))), Some(414));
    assert_eq!(over(format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "v".repeat(90_000))), Some(431));
    assert_eq!(over(format!("GET / HTTP/1.1\r\nHost: a\r\n{}: 1\r\n\r\n", "n".repeat(257))), Some(431));
    assert_eq!(over(format!("GET / HTTP/1.1\r\n{}", "X-Drip: 1\r\n".repeat(20_000))), Some(431));
    let line_over = format!("{} /{} HTTP/1.1", "A".repeat(100), "a".repeat(MAX_TARGET_BYTES - 50));
    assert_eq!(outcome(format!("{line_over}\r\nHost: a\r\n\r\n").as_bytes()), Some(414));
    let many = "X: 1\r\n".repeat(10_000);
    assert_eq!(over(format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n")), Some(200));
}

#[test]
fn an_incomplete_head_has_no_result_until_it_is_certain() {
    let text = "\r\n\r\nGET /up HTTP/1.1\r\nHost: a\r\n\r\n";
    for end in 0..text.len() {
        assert_eq!(status(&text.as_bytes()[..end]), None, "{end}");
    }
    assert_eq!(status(text.as_bytes()), Some(200));
    let other = "GET / HTTP/2.0\r\n\r\n";
    for end in 0..other.len() {
        let expected = (end >= "GET / HTTP/2.0".len()).then_some(505);
        assert_eq!(status(&other.as_bytes()[..end]), expected, "{end}");
    }
}
