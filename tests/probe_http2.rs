//! `probe --http2` against scripted HTTP/2 servers: a maximum in SETTINGS, refused streams, streams that wait.

use std::future::poll_fn;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use http::{Request, Response};
use ninetabs::lab::probe::http2::{INTERRUPTED, measure};
use ninetabs::lab::probe::measured::{Baseline, Http2, Http2Stop};
use ninetabs::lab::probe::plan::ProbePlan;
use ninetabs_server::threads::StopSignal;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use url::Url;

use crate::common::tls::server_config;
use crate::common::wire::{PATIENCE, Server, wait_until, write};

const EVENT_WITHIN: Duration = Duration::from_secs(3);

/// How a server treats a stream when all workers are busy.
#[derive(Clone, Copy)]
enum Beyond {
    Waits,
    Refused,
    NotFound,
}

#[derive(Clone, Copy)]
struct Script {
    /// SETTINGS_MAX_CONCURRENT_STREAMS.
    announced: Option<u32>,
    /// Maximum number of streams that get events at the same time, over all connections.
    workers: usize,
    beyond: Beyond,
    /// What each stream sends first.
    first: &'static str,
}

const USUAL: Script =
    Script { announced: None, workers: usize::MAX, beyond: Beyond::Waits, first: "data: 1\n\n" };

/// What the server observes.
#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    streaming: AtomicUsize,
    /// Number of streams and pages that were requested.
    requests: AtomicUsize,
}

struct Http2Server {
    address: SocketAddr,
    seen: Arc<Seen>,
}

impl Http2Server {
    fn start(script: Script) -> Http2Server {
        Http2Server::behind(script, None)
    }

    /// The server's thread ends with the test process.
    fn behind(script: Script, tls: Option<Arc<rustls::ServerConfig>>) -> Http2Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let seen = Arc::new(Seen::default());
        let server = Http2Server { address, seen: seen.clone() };
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    tokio::spawn(connection(stream, tls.clone(), script, seen.clone()));
                }
            });
        });
        server
    }

    fn plan(&self, scheme: &str) -> ProbePlan {
        let url =
            |path: &str| Url::parse(&format!("{scheme}://localhost:{}{path}", self.address.port())).unwrap();
        ProbePlan {
            tabs: 4,
            patience: Some(Duration::from_secs(3)),
            http2: true,
            headers: vec![("X-Given".to_owned(), b"1".to_vec())],
            cookie: Some("a=b".to_owned()),
            ..ProbePlan::new(url("/stream?tab={tab}"), vec![url("/page")], self.address)
        }
    }

    fn measure(&self, scheme: &str) -> Http2 {
        let mut requests = 0;
        let found =
            measure(&self.plan(scheme), &baseline(), EVENT_WITHIN, &StopSignal::never(), &mut requests);
        wait_until("every connection is closed", || self.seen.connections.load(Ordering::SeqCst) == 0);
        assert!(self.seen.requests.load(Ordering::SeqCst) <= requests);
        found
    }
}

fn baseline() -> Vec<Baseline> {
    vec![Baseline { path: "/page".to_owned(), status: 200, time: Duration::from_millis(1) }]
}

async fn connection(
    stream: TcpStream,
    tls: Option<Arc<rustls::ServerConfig>>,
    script: Script,
    seen: Arc<Seen>,
) {
    seen.connections.fetch_add(1, Ordering::SeqCst);
    match tls {
        None => serve(stream, script, &seen).await,
        Some(config) => {
            if let Ok(stream) = tokio_rustls::TlsAcceptor::from(config).accept(stream).await {
                serve(stream, script, &seen).await;
            }
        }
    }
    seen.connections.fetch_sub(1, Ordering::SeqCst);
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, script: Script, seen: &Arc<Seen>) {
    let mut builder = Builder::new();
    if let Some(most) = script.announced {
        builder.max_concurrent_streams(most);
    }
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else { return };
    while let Some(Ok((request, answer))) = connection.accept().await {
        seen.requests.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(respond(request, answer, script, seen.clone()));
    }
}

async fn respond<B>(request: Request<B>, mut answer: SendResponse<Bytes>, script: Script, seen: Arc<Seen>) {
    assert_eq!(
        (&request.headers()["x-given"], &request.headers()["cookie"]),
        (&"1".parse().unwrap(), &"a=b".parse().unwrap())
    );
    if request.uri().path() == "/page" {
        let mut body = answer.send_response(Response::new(()), false).unwrap();
        return drop(body.send_data(Bytes::from_static(b"up"), true));
    }
    assert!(request.uri().query().is_some_and(|query| query.starts_with("tab=") && !query.contains('{')));
    while seen.streaming.load(Ordering::SeqCst) >= script.workers {
        match script.beyond {
            Beyond::Refused => return answer.send_reset(h2::Reason::REFUSED_STREAM),
            Beyond::NotFound => {
                let response = Response::builder().status(404).body(()).unwrap();
                return drop(answer.send_response(response, true));
            }
            Beyond::Waits => {
                let canceled = poll_fn(|context| answer.poll_reset(context));
                if tokio::time::timeout(Duration::from_millis(5), canceled).await.is_ok() {
                    return;
                }
            }
        }
    }
    seen.streaming.fetch_add(1, Ordering::SeqCst);
    let response = Response::builder().header("content-type", "text/event-stream").body(()).unwrap();
    if let Ok(mut body) = answer.send_response(response, false) {
        let _ = body.send_data(Bytes::from_static(script.first.as_bytes()), false);
        let _ = poll_fn(|context| body.poll_reset(context)).await;
    }
    seen.streaming.fetch_sub(1, Ordering::SeqCst);
}

#[test]
fn an_announced_maximum_stops_streams_and_pages_on_one_connection_only() {
    let server = Http2Server::start(Script { announced: Some(3), ..USUAL });
    let expected = Http2 {
        error: None,
        announced: Some(3),
        reached: 3,
        stopped_by: Some(Http2Stop::Settings),
        page: Some(false),
        second_connection: Some(true),
        after_cancel: Some(true),
    };
    assert_eq!(server.measure("http"), expected);
}

#[test]
fn a_refused_stream_and_a_waiting_one_are_distinguished() {
    for (beyond, stop) in [
        (Beyond::Refused, Http2Stop::RefusedStream),
        (Beyond::Waits, Http2Stop::Waits),
        (Beyond::NotFound, Http2Stop::Reset),
    ] {
        let server = Http2Server::start(Script { workers: 2, beyond, ..USUAL });
        let expected = Http2 {
            error: None,
            announced: None,
            reached: 2,
            stopped_by: Some(stop),
            page: Some(true),
            second_connection: Some(false),
            after_cancel: Some(true),
        };
        assert_eq!(server.measure("http"), expected);
    }
}

#[test]
fn without_a_limit_every_tab_streams() {
    let server = Http2Server::start(USUAL);
    let found = server.measure("http");
    assert_eq!((found.reached, found.stopped_by, found.page), (4, None, Some(true)));
    assert_eq!((found.second_connection, found.after_cancel), (Some(true), Some(true)));
    // If no event arrives, a comment counts as a sign of life. An unfinished event does not.
    let server = Http2Server::start(Script { workers: 1, first: ":\n", ..USUAL });
    assert_eq!(server.measure("http").reached, 1);
    let server = Http2Server::start(Script { first: "data: 1\n", ..USUAL });
    let found = server.measure("http");
    assert_eq!((found.reached, found.stopped_by), (0, Some(Http2Stop::Waits)));
    assert_eq!((found.second_connection, found.after_cancel), (None, None));
}

#[test]
fn https_needs_a_valid_certificate_and_alpn() {
    let (config, _) = server_config(&[b"h2", b"http/1.1"]);
    let server = Http2Server::behind(Script { announced: Some(2), ..USUAL }, Some(config));
    let refused = server.measure("https").error.unwrap();
    assert!(refused.contains("cannot verify the certificate") && refused.contains("--insecure"), "{refused}");
    let plan = ProbePlan { is_insecure: true, ..server.plan("https") };
    let found = measure(&plan, &baseline(), EVENT_WITHIN, &StopSignal::never(), &mut 0);
    assert_eq!((found.error, found.announced, found.reached), (None, Some(2), 2));

    for protocols in [&[&b"http/1.1"[..]][..], &[]] {
        let (config, _) = server_config(protocols);
        let server = Http2Server::behind(USUAL, Some(config));
        let plan = ProbePlan { is_insecure: true, ..server.plan("https") };
        let found = measure(&plan, &baseline(), EVENT_WITHIN, &StopSignal::never(), &mut 0);
        assert!(found.error.is_some() && found.reached == 0, "{found:?}");
    }
}

#[test]
fn a_server_without_http2_is_an_error_and_not_a_limit() {
    let http1 = Server::start(|_, stream| write(stream, "HTTP/1.1 400 Bad Request\r\n\r\n"));
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    for address in [([127, 0, 0, 1], http1.port).into(), silent.local_addr().unwrap()] {
        let server = Http2Server { address, seen: Arc::default() };
        let found = server.measure("http");
        assert!(found.error.as_ref().is_some_and(|why| why.contains("HTTP/2")), "{found:?}");
        assert_eq!(found.reached, 0);
    }
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let found = Http2Server { address: free, seen: Arc::default() }.measure("http");
    assert!(found.error.unwrap().contains("cannot connect"));
}

#[test]
fn a_stop_signal_ends_the_experiment_and_closes_every_connection() {
    let server = Http2Server::start(Script { workers: 2, ..USUAL });
    let plan = ProbePlan { patience: Some(PATIENCE), ..server.plan("http") };
    let (stop, signal) = StopSignal::new();
    let (tell, ended) = mpsc::channel();
    let measuring = thread::spawn(move || {
        tell.send(measure(&plan, &baseline(), EVENT_WITHIN, &signal, &mut 0)).unwrap();
    });
    let streaming = || server.seen.streaming.load(Ordering::SeqCst);
    wait_until("two streams run", || streaming() == 2);
    drop(stop);
    let found = ended.recv_timeout(PATIENCE).unwrap();
    measuring.join().unwrap();
    assert_eq!(found.error.as_deref(), Some(INTERRUPTED));
    wait_until("the server has noticed the end of all streams", || streaming() == 0);
    wait_until("the connection is closed", || server.seen.connections.load(Ordering::SeqCst) == 0);
}
