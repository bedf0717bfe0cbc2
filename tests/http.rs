//! The lab's HTTP client, with answers of every form and with servers that do not answer.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpListener;
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::tls::TlsServer;
use crate::common::wire::{PATIENCE, Server, reset, wait_for_close, wait_until, write};
use ninetabs::lab::http::{
    self, ClientRequest, Connection, Head, HttpError, Options, Schemes, Tls, Verification,
};

#[test]
fn a_page_is_read_completely_with_any_framing_and_within_its_deadline() {
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

/// Sends a GET with these options, and reads the whole answer.
fn get_with(url: &str, options: &Options) -> Result<(Head, Vec<u8>), HttpError> {
    let url = http::parse_url_of(url, Schemes::HttpOrHttps)?;
    let mut connection = Connection::open_with(&url, options, |_| true)?;
    connection.set_deadline(Some(Instant::now() + PATIENCE));
    connection.send(&url, &ClientRequest::default())?;
    connection.answer()
}

#[test]
fn streams_that_end_are_cut_off_or_are_reset_are_distinguished() {
    let (tell, has_read) = mpsc::channel();
    let has_read = Mutex::new(has_read);
    let server = Server::start(move |asked, stream| {
        write(stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n");
        has_read.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        match asked.path() {
            "/ended" => write(stream, "0\r\n\r\n"),
            "/cut" => {}
            _ => reset(stream),
        }
    });
    let end = |path: &str| {
        let url = http::parse_url(&server.url(path)).unwrap();
        let mut connection = Connection::open(&url, PATIENCE).unwrap();
        connection.set_deadline(Some(Instant::now() + PATIENCE));
        connection.send(&url, &ClientRequest::default())?;
        let (_, mut body) = connection.response()?;
        assert!(!body.ends_with_connection());
        body.read_exact(&mut [0; 2]).map_err(HttpError::from_body)?;
        tell.send(()).unwrap();
        body.read(&mut [0]).map_err(HttpError::from_body)
    };
    assert_eq!(end("/ended").unwrap(), 0);
    assert!(matches!(end("/cut"), Err(HttpError::EndedEarly)));
    assert!(matches!(end("/reset"), Err(HttpError::Reset { .. })));
}

#[test]
fn a_connection_uses_the_given_remote_and_local_addresses() {
    let server = Server::start(|asked, stream| {
        let peer = stream.peer_addr().unwrap().ip();
        let host = asked.header("host").unwrap().to_owned();
        write(stream, format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{peer} {host}"));
    });
    let options = Options {
        to: Some(([127, 0, 0, 1], server.port).into()),
        from: Some([127, 0, 0, 2].into()),
        receive_buffer: Some(4096),
        ..Options::within(PATIENCE)
    };
    let answer = get_with("http://no-such-name.invalid/", &options);
    if cfg!(target_os = "linux") {
        assert_eq!(answer.unwrap().1, b"127.0.0.2 no-such-name.invalid");
    }
}

#[test]
fn another_thread_can_end_a_connection_by_fin_or_by_rst() {
    let (tell, ends) = mpsc::channel();
    let server = Server::start(move |_, stream| {
        write(stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n");
        let end = stream.read(&mut [0]).map_err(|error| error.kind());
        tell.send(end).unwrap();
    });
    for (is_reset, seen) in [(false, Ok(0)), (true, Err(ErrorKind::ConnectionReset))] {
        let url = http::parse_url(&server.url("/")).unwrap();
        let mut connection = Connection::open(&url, PATIENCE).unwrap();
        connection.send(&url, &ClientRequest::default()).unwrap();
        let (_, mut body) = connection.response().unwrap();
        body.read_exact(&mut [0; 2]).unwrap();
        assert!(body.is_open());
        let closer = body.closer();
        let reader = thread::spawn(move || HttpError::from_body(body.read(&mut [0]).unwrap_err()));
        if is_reset {
            closer.reset()
        } else {
            closer.close()
        }
        assert!(matches!(reader.join().unwrap(), HttpError::EndedEarly));
        assert_eq!(ends.recv_timeout(PATIENCE).unwrap(), seen);
        // The connection has ended, so this does nothing.
        closer.reset();
    }
}

#[test]
fn a_connection_that_the_server_closed_is_not_open() {
    let (tell, go_on) = mpsc::channel::<()>();
    let go_on = Mutex::new(go_on);
    let server = Server::start(move |_, stream| {
        write(stream, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        let _ = go_on.lock().unwrap().recv_timeout(PATIENCE);
    });
    let url = http::parse_url(&server.url("/")).unwrap();
    let mut connection = Connection::open(&url, PATIENCE).unwrap();
    connection.send(&url, &ClientRequest::default()).unwrap();
    let (_, mut body) = connection.response().unwrap();
    body.read_to_string(&mut String::new()).unwrap();
    assert!(body.is_open());
    tell.send(()).unwrap();
    wait_until("the server's close arrives", || !body.is_open());
}

#[test]
fn a_self_signed_certificate_is_refused_unless_verification_is_skipped() {
    let server = TlsServer::start(|_, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nsecret");
    });
    let options = |verification| {
        let to = Some(([127, 0, 0, 1], server.port).into());
        Options { to, tls: Some(Tls::new(verification)), ..Options::within(PATIENCE) }
    };
    for host in ["localhost", "127.0.0.1", "[::1]", "other.test"] {
        let url = format!("https://{host}:{}/", server.port);
        let error = get_with(&url, &options(Verification::System)).unwrap_err();
        assert!(matches!(error, HttpError::Certificate { .. }) && error.is_final(), "{host}: {error}");
        assert!(error.to_string().contains("--insecure"), "{error}");
        let (head, body) = get_with(&url, &options(Verification::Skipped)).unwrap();
        assert_eq!((head.status, body.as_slice()), (200, &b"secret"[..]), "{host}");
    }
    let url = http::parse_url_of(&server.url("/"), Schemes::HttpOrHttps).unwrap();
    let refused = Connection::open(&url, PATIENCE);
    assert!(
        matches!(refused, Err(HttpError::NotHttp { .. })),
        "https is refused unless the caller allows it"
    );
}

#[test]
fn tls_has_the_same_ends_and_deadlines_as_a_plain_connection() {
    let (tell, has_read) = mpsc::channel();
    let has_read = Mutex::new(has_read);
    let server = TlsServer::start(move |asked, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n");
        let _ = stream.flush();
        has_read.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        match asked.path() {
            "/ended" => drop(stream.write_all(b"0\r\n\r\n")),
            "/reset" => reset(&stream.sock),
            "/silent" => drop(stream.read(&mut [0])),
            _ => {}
        }
    });
    let ask = |path: &str, deadline: Duration| {
        let options = Options { tls: Some(Tls::new(Verification::Skipped)), ..Options::within(PATIENCE) };
        let url = http::parse_url_of(&server.url(path), Schemes::HttpOrHttps).unwrap();
        let mut connection = Connection::open_with(&url, &options, |_| true).unwrap();
        connection.set_deadline(Some(Instant::now() + PATIENCE));
        connection.send(&url, &ClientRequest::default()).unwrap();
        let (_, mut body) = connection.response().unwrap();
        body.read_exact(&mut [0; 2]).unwrap();
        tell.send(()).unwrap();
        body.set_deadline(Some(Instant::now() + deadline));
        body.read(&mut [0]).map_err(HttpError::from_body)
    };
    assert_eq!(ask("/ended", PATIENCE).unwrap(), 0);
    assert!(matches!(ask("/cut", PATIENCE), Err(HttpError::EndedEarly)));
    assert!(matches!(ask("/silent", Duration::from_millis(50)), Err(HttpError::TimedOut)));
    let reset = ask("/reset", PATIENCE);
    assert!(matches!(reset, Err(HttpError::Reset { .. })), "{reset:?}");
}

#[test]
fn a_server_without_tls_and_one_that_never_answers_are_distinguished() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let tls = || Some(Tls::new(Verification::Skipped));
    let url = format!("https://{to}/");
    let silent = Options { tls: tls(), ..Options::within(Duration::from_millis(50)) };
    assert!(matches!(get_with(&url, &silent), Err(HttpError::ConnectTimedOut { .. })));
    let server = thread::spawn(move || {
        for (answer, stream) in
            [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b""].into_iter().zip(listener.incoming().skip(1))
        {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            write(&mut stream, answer);
        }
    });
    let patient = Options { tls: tls(), ..Options::within(PATIENCE) };
    assert!(matches!(get_with(&url, &patient), Err(HttpError::Tls { .. })));
    assert!(matches!(get_with(&url, &patient), Err(HttpError::NoAnswer)));
    server.join().unwrap();
}
