//! Request smuggling: the bytes after a request are answered as a second request only if every parser would read them
//! as one, whatever length the first request declares. Otherwise a proxy might have read the same bytes as a body.
//!
//! Each row is sent on its own socket, once in one piece and once split in two. The test compares the statuses of the
//! answers, and checks that no hidden request was served.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use crate::common::{PATIENCE, Server, create, get, json};

/// The hidden request. If it is ever served, it creates a model.
const HIDDEN: &str = "POST /models HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 13\r\nConnection: close\r\n\r\nname=smuggled";

/// The statuses of the answers to the bytes of a row, in order.
type Answers = &'static [u16];

/// A request with these fields, and the hidden one directly after its head.
fn behind_head(method: &str, fields: &str) -> Vec<u8> {
    format!("{method} /up HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n{HIDDEN}").into_bytes()
}

/// A chunked request with this body, followed by the hidden one.
fn behind_chunks(fields: &str, body: &str) -> Vec<u8> {
    let head = "POST /nothing HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n";
    format!("{head}{fields}\r\n{body}{HIDDEN}").into_bytes()
}

/// Fields that make the end of a request ambiguous.
fn fields() -> Vec<(String, Answers)> {
    let rows: &[(&str, Answers)] = &[
        // A length given twice.
        ("Content-Length: 0\r\nContent-Length: 0\r\n", &[400]),
        ("Content-Length: 0\r\nContent-Length: 120\r\n", &[400]),
        ("Content-Length: 120\r\ncontent-length: 0\r\n", &[400]),
        // Lists of lengths.
        ("Content-Length: 0, 0\r\n", &[400]),
        ("Content-Length: 0,120\r\n", &[400]),
        ("Content-Length: ,0\r\n", &[400]),
        // Signs, other bases, blanks, other digits.
        ("Content-Length: +0\r\n", &[400]),
        ("Content-Length: -1\r\n", &[400]),
        ("Content-Length: 0x0\r\n", &[400]),
        ("Content-Length: 0b0\r\n", &[400]),
        ("Content-Length: 0.0\r\n", &[400]),
        ("Content-Length: 0e1\r\n", &[400]),
        ("Content-Length: 0_0\r\n", &[400]),
        ("Content-Length: 0 0\r\n", &[400]),
        ("Content-Length: \"0\"\r\n", &[400]),
        ("Content-Length: ٠\r\n", &[400]),
        ("Content-Length:\r\n", &[400]),
        ("Content-Length: \t\r\n", &[400]),
        ("Content-Length: 0\0\r\n", &[400]),
        ("Content-Length: 0\x0b\r\n", &[400]),
        ("Content-Length: 0;x\r\n", &[400]),
        // Larger than a u64: a parser that wraps around would read 0.
        ("Content-Length: 18446744073709551616\r\n", &[413]),
        ("Content-Length: 340282366920938463463374607431768211456\r\n", &[413]),
        // Invalid field names and line endings.
        ("Content-Length : 0\r\n", &[400]),
        ("Content-Length\t: 0\r\n", &[400]),
        ("\tContent-Length: 0\r\n", &[400]),
        ("Content-Length\0: 0\r\n", &[400]),
        ("X: 1\nContent-Length: 120\r\n", &[400]),
        ("X: 1\rContent-Length: 120\r\n", &[400]),
        ("X: 1\n\r\n", &[400]),
        ("X: 1\0\r\n", &[400]),
        // Folded lines.
        ("Content-Length:\r\n 0\r\n", &[400]),
        ("X: 1\r\n Content-Length: 120\r\n", &[400]),
        ("Transfer-Encoding:\r\n chunked\r\n", &[400]),
        ("Transfer-Encoding: chunked\r\n ,identity\r\n", &[400]),
        // Transfer codings.
        ("Transfer-Encoding: identity\r\n", &[501]),
        ("Transfer-Encoding: xchunked\r\n", &[501]),
        ("Transfer-Encoding: chunked, identity\r\n", &[501]),
        ("Transfer-Encoding: identity, chunked\r\n", &[501]),
        ("Transfer-Encoding: chunked, chunked\r\n", &[400]),
        ("Transfer-Encoding: chunked, gzip\r\n", &[400]),
        ("Transfer-Encoding: gzip\r\n", &[400]),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", &[501]),
        ("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n", &[501]),
        ("Transfer-Encoding: \x0bchunked\r\n", &[400]),
        ("Transfer-Encoding: chunked\0\r\n", &[400]),
        ("Transfer-Encoding: \"chunked\"\r\n", &[501]),
        ("Transfer-Encoding: chunked;q=0\r\n", &[501]),
        ("Transfer-Encoding: chun ked\r\n", &[501]),
        ("Transfer-Encoding:\r\n", &[501]),
        ("Transfer-Encoding : chunked\r\n", &[400]),
        // The hidden request begins where the size of the first chunk should be.
        ("Transfer-Encoding: chunked\r\n", &[400]),
        ("Transfer-Encoding: cHuNkEd\r\nContent-Length: 120\r\n", &[400]),
        ("Content-Length: 120\r\nTransfer-Encoding: chunked\r\n", &[400]),
        // A second host.
        ("Host: elsewhere\r\n", &[400]),
    ];
    rows.iter().map(|(fields, answers)| ((*fields).to_owned(), *answers)).collect()
}

/// Chunked bodies that are invalid, or whose request has a Content-Length as well.
fn bodies() -> Vec<(&'static str, String, Answers)> {
    let large = "x".repeat(5_000);
    let rows: Vec<(&str, String, Answers)> = vec![
        ("", "0x0\r\n\r\n".into(), &[400]),
        ("", "+0\r\n\r\n".into(), &[400]),
        ("", "-0\r\n\r\n".into(), &[400]),
        ("", " 0\r\n\r\n".into(), &[400]),
        ("", "0 0\r\n\r\n".into(), &[400]),
        ("", "0_0\r\n\r\n".into(), &[400]),
        ("", "\r\n\r\n".into(), &[400]),
        ("", ";x\r\n\r\n".into(), &[400]),
        ("", "0\0\r\n\r\n".into(), &[400]),
        ("", "0\n\n".into(), &[400]),
        ("", "0\r\r\n\r\n".into(), &[400]),
        ("", "1\r\nx\n0\r\n\r\n".into(), &[400]),
        ("", "1\nx\r\n0\r\n\r\n".into(), &[400]),
        ("", "1\r\nxx\r\n0\r\n\r\n".into(), &[400]),
        ("", "1;a\nb\r\nx\r\n0\r\n\r\n".into(), &[400]),
        ("", "1;a\rb\r\nx\r\n0\r\n\r\n".into(), &[400]),
        ("", "0\r\nX: 1\n\r\n".into(), &[400]),
        ("", "10000000000000000\r\n\r\n".into(), &[413]),
        ("", "10000000000000001\r\nx\r\n0\r\n\r\n".into(), &[413]),
        // Extensions or trailers that are too long.
        ("", format!("1;{large}\r\nx\r\n0\r\n\r\n"), &[400]),
        ("", "1;xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\nx\r\n".repeat(2_000) + "0\r\n\r\n", &[400]),
        ("", format!("0\r\nX: {large}\r\n\r\n"), &[400]),
        ("", format!("0\r\n{}\r\n", "X: 1\r\n".repeat(5_000)), &[400]),
        // The request has a length as well. If the length is valid, the request is served, but nothing after it.
        ("Content-Length: 5\r\n", "0\r\n\r\n".into(), &[404]),
        ("Content-Length: 500\r\n", "0\r\n\r\n".into(), &[404]),
        ("Content-Length: 0\r\n", "1\r\nx\r\n0\r\n\r\n".into(), &[404]),
        ("Content-Length: 5, 5\r\n", "0\r\n\r\n".into(), &[400]),
        ("Content-Length: +5\r\n", "0\r\n\r\n".into(), &[400]),
    ];
    rows
}

/// Complete requests with the hidden request in their body, which must never be parsed as a request.
fn in_a_body() -> Vec<(Vec<u8>, Answers)> {
    let length = format!("Content-Length: {}\r\n", HIDDEN.len());
    let chunked = format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{HIDDEN}\r\n0\r\n\r\n", HIDDEN.len());
    let with = |method: &str, version: &str, rest: &str| {
        format!("{method} /up HTTP/{version}\r\nHost: localhost\r\n{rest}").into_bytes()
    };
    let mut rows: Vec<(Vec<u8>, Answers)> = Vec::new();
    for method in ["GET", "HEAD", "DELETE", "OPTIONS", "POST"] {
        let status: Answers = if matches!(method, "GET" | "HEAD") { &[200] } else { &[404] };
        rows.push((behind_head(method, &length), status));
        rows.push((with(method, "1.1", &chunked), status));
        rows.push((with(method, "1.0", &format!("Connection: keep-alive\r\n{chunked}")), status));
        rows.push((with(method, "1.1", &format!("Expect: 100-continue\r\n{length}\r\n{HIDDEN}")), status));
    }
    // A field name with an underscore is unknown, so the field is ignored.
    rows.push((with("GET", "1.1", &format!("Content_Length: 0\r\n{length}\r\n{HIDDEN}")), &[200]));
    rows.push((with("GET", "1.1", &format!("Transfer_Encoding: chunked\r\n{length}\r\n{HIDDEN}")), &[200]));
    // After a chunked body, an HTTP/1.0 connection serves nothing more.
    let kept = "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    rows.push((with("GET", "1.0", &format!("{kept}{HIDDEN}")), &[200]));
    rows
}

/// Sends these pieces, and returns the statuses of all answers until the server closes the connection or sends
/// nothing more.
fn answers(to: SocketAddr, pieces: &[&[u8]]) -> Vec<u16> {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    for piece in pieces {
        // The server may have answered and closed the connection before the last piece.
        if stream.write_all(piece).is_err() {
            break;
        }
        if pieces.len() > 1 {
            thread::sleep(Duration::from_millis(20));
        }
    }
    let mut answer = Vec::new();
    let mut buffer = [0; 4_096];
    // The server leaves a keep-alive connection open. All its answers arrive immediately, so the test closes the
    // connection when nothing more has arrived for 400 ms.
    stream.set_read_timeout(Some(Duration::from_millis(400))).unwrap();
    let mut patience = PATIENCE;
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => answer.extend_from_slice(&buffer[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                patience = patience.saturating_sub(Duration::from_millis(400));
                if !answer.is_empty() || patience.is_zero() {
                    break;
                }
            }
            Err(_) => break,
        }
    }
    // The connection is already gone if the server closed first.
    let _ = stream.shutdown(Shutdown::Both);
    let text = String::from_utf8_lossy(&answer);
    let statuses =
        text.match_indices("HTTP/1.").filter_map(|(at, _)| text[at..].split(' ').nth(1)?.parse().ok());
    statuses.filter(|status| *status != 100).collect()
}

/// Checks each row in one piece and in two. None of them may create a model.
fn check(rows: Vec<(Vec<u8>, Answers)>) {
    let server = Server::start(&["--front", "puma"]);
    for (bytes, expected) in &rows {
        let said = String::from_utf8_lossy(&bytes[..bytes.len().min(300)]);
        assert_eq!(answers(server.app, &[bytes]), *expected, "{said:?}");
        let (front, back) = bytes.split_at(bytes.len() - HIDDEN.len().min(bytes.len()) / 2);
        let cut = answers(server.app, &[front, back]);
        assert_eq!(cut, *expected, "split in two: {said:?}");
    }
    let models = json(server.app, "GET", "/models.json?since=0").1;
    assert_eq!(models, serde_json::json!([]), "a hidden request was served");
    // Sent as a request of their own, the same bytes do create a model.
    assert_eq!(create(server.app, "smuggled").0, 201);
    assert_eq!(answers(server.app, &[HIDDEN.as_bytes()]), [201]);
    assert_eq!(get(server.app, "/up").0, 200);
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

#[test]
fn nothing_is_served_after_a_post_request_whose_end_is_ambiguous() {
    check(fields().iter().map(|(fields, answers)| (behind_head("POST", fields), *answers)).collect());
}

#[test]
fn nothing_is_served_after_a_get_request_whose_end_is_ambiguous() {
    check(fields().iter().map(|(fields, answers)| (behind_head("GET", fields), *answers)).collect());
}

#[test]
fn nothing_is_served_after_chunks_whose_end_is_ambiguous() {
    let rows = bodies().into_iter().map(|(fields, body, answers)| (behind_chunks(fields, &body), answers));
    check(rows.collect());
}

#[test]
fn a_body_is_never_parsed_as_a_request() {
    check(in_a_body());
}

#[test]
fn a_second_request_that_every_parser_would_see_is_answered() {
    let server = Server::start(&["--front", "puma"]);
    for first in ["Content-Length: 0\r\n\r\n", "\r\n", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"] {
        let bytes = format!("GET /up HTTP/1.1\r\nHost: localhost\r\n{first}{HIDDEN}");
        assert_eq!(answers(server.app, &[bytes.as_bytes()]), [200, 201], "{first:?}");
    }
}
