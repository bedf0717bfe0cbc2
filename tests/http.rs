//! The lab's HTTP client with answers of every form, and with none.

use std::time::{Duration, Instant};

use crate::common::wire::{PATIENCE, Server, wait_for_close, write};
use ninetabs::lab::http::{self, HttpError};

#[test]
fn a_page_is_read_completely_with_any_framing_and_in_time() {
    let server = Server::start(|asked, stream| match asked.path() {
        "/counted" => write(stream, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more"),
        "/chunked" => write(
            stream,
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n",
        ),
        "/until-close" => write(stream, "HTTP/1.0 200 OK\r\n\r\nok"),
        "/short" => write(stream, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok"),
        "/no-http" => write(stream, "SSH-2.0-x\r\n\r\n"),
        "/half" => {
            write(stream, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok");
            wait_for_close(stream);
        }
        "/json" => write(stream, "HTTP/1.1 201 Created\r\nConnection: close\r\n\r\n{\"id\":1}"),
        _ => wait_for_close(stream),
    });
    let get = |path: &str, timeout| http::get(&server.url(path), timeout);
    for path in ["/counted", "/chunked", "/until-close"] {
        let answer = get(path, PATIENCE).unwrap();
        assert_eq!((answer.status(), answer.text().as_str()), (200, "ok"), "{path}");
    }
    let posted = http::post(&server.url("/json"), "application/json", "{}", PATIENCE).unwrap();
    assert_eq!((posted.status(), posted.json().unwrap()["id"].as_u64()), (201, Some(1)));
    assert!(matches!(get("/short", PATIENCE), Err(HttpError::EndedEarly)));
    assert!(matches!(get("/no-http", PATIENCE), Err(HttpError::BadHead { .. })));
    let little = Duration::from_millis(50);
    let began = Instant::now();
    assert!(matches!(get("/half", little), Err(HttpError::TimedOut)));
    assert!(matches!(get("/silent", little), Err(HttpError::NoFirstByte)));
    assert!(began.elapsed() < PATIENCE);
}
