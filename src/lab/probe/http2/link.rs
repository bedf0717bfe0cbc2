//! One HTTP/2 connection: negotiated by ALPN for https, with prior knowledge for http.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use socket2::{SockRef, Socket};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;

use crate::lab::http::connection::host;
use crate::lab::http::{HttpError, MAX_HEAD_BYTES, Tls, Verification, tls};
use crate::lab::probe::plan::ProbePlan;

/// How long connecting and negotiating HTTP/2 may take.
pub(super) const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// How long the server may take to announce its settings.
pub(super) const SETTINGS_WITHIN: Duration = Duration::from_secs(3);
const SETTINGS_CHECK: Duration = Duration::from_millis(2);

/// Stands for the maximum number of streams before the server's SETTINGS have arrived. No server can announce this
/// number, because it does not fit into 32 bits. SETTINGS without a maximum set it to `usize::MAX`.
const UNKNOWN: usize = usize::MAX - 1;

/// An HTTP/2 connection. It is closed when it and its runtime are dropped.
pub(super) struct Http2Link {
    pub(super) sender: SendRequest<Bytes>,
    driver: JoinHandle<Result<(), h2::Error>>,
}

impl Http2Link {
    /// Connects to the plan's address and negotiates HTTP/2. Adds a handle to the socket to `sockets`.
    pub(super) async fn open(plan: &ProbePlan, sockets: &mut Vec<Socket>) -> Result<Http2Link, String> {
        let to = plan.address.to_string();
        let opening = async {
            let stream = TcpStream::connect(plan.address).await;
            let stream = stream.map_err(|error| format!("cannot connect to {to}: {error}"))?;
            let prepared = stream.set_nodelay(true).and_then(|()| SockRef::from(&stream).try_clone());
            sockets.push(prepared.map_err(|error| format!("cannot connect to {to}: {error}"))?);
            if plan.url.scheme() == "https" { secure(plan, stream, &to).await } else { agree(stream).await }
        };
        let opened = timeout(CONNECT_WITHIN, opening).await;
        opened.unwrap_or_else(|_| Err(format!("{to} did not agree on HTTP/2 within {CONNECT_WITHIN:?}")))
    }

    /// Waits for SETTINGS, and returns the announced maximum of concurrent streams.
    pub(super) async fn announced(&mut self) -> Result<Option<u32>, String> {
        let began = Instant::now();
        loop {
            match self.sender.current_max_send_streams() {
                UNKNOWN if self.driver.is_finished() => {
                    let ended = (&mut self.driver).await;
                    let why = match ended {
                        Ok(Err(error)) => format!(": {error}"),
                        _ => String::new(),
                    };
                    return Err(format!("the server does not speak HTTP/2{why}"));
                }
                UNKNOWN if began.elapsed() > SETTINGS_WITHIN => {
                    return Err(format!("the server sent no HTTP/2 settings within {SETTINGS_WITHIN:?}"));
                }
                UNKNOWN => sleep(SETTINGS_CHECK).await,
                most => return Ok(u32::try_from(most).ok()),
            }
        }
    }

    /// Sends GOAWAY and closes the connection. Waits for at most `within`.
    pub(super) async fn close(self, within: Duration) {
        drop(self.sender);
        let mut driver = self.driver;
        if timeout(within, &mut driver).await.is_err() {
            driver.abort();
        }
    }
}

async fn secure(plan: &ProbePlan, stream: TcpStream, to: &str) -> Result<Http2Link, String> {
    let verification = if plan.is_insecure { Verification::Skipped } else { Verification::System };
    let words = |error: HttpError| error.to_string();
    let config = Tls::new(verification).config(&[b"h2"], to).map_err(words)?;
    let name = tls::server_name(&host(&plan.url), to).map_err(words)?;
    let secured = TlsConnector::from(config).connect(name, stream).await;
    let secured = secured.map_err(|error: io::Error| tls::handshake_error(error, to).to_string())?;
    match secured.get_ref().1.alpn_protocol() {
        Some(b"h2") => agree(secured).await,
        _ => Err("the server did not choose HTTP/2 (ALPN)".to_owned()),
    }
}

async fn agree<T>(stream: T) -> Result<Http2Link, String>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let head = u32::try_from(MAX_HEAD_BYTES).unwrap_or(u32::MAX);
    let agreed = Builder::new()
        .enable_push(false)
        .initial_max_send_streams(UNKNOWN)
        .max_header_list_size(head)
        .handshake::<_, Bytes>(stream)
        .await;
    let (sender, connection) = agreed.map_err(|error| format!("cannot agree on HTTP/2: {error}"))?;
    Ok(Http2Link { sender, driver: tokio::spawn(connection) })
}
