//! Serves one connection over HTTP/2, for clients that start with its preface.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};

use super::{Client, GAP, Slots};

/// The limits of one connection.
#[derive(Debug, Clone, Copy)]
pub struct Http2 {
    /// `SETTINGS_MAX_CONCURRENT_STREAMS`.
    pub announced: Option<u32>,
    /// How many streams deliver events.
    pub streams: usize,
    /// What happens to further streams.
    pub beyond: Beyond,
}

/// What happens to a stream beyond the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beyond {
    /// `REFUSED_STREAM`.
    Refused,
    /// No answer.
    Waits,
}

impl Client {
    /// Blocks until the first bytes arrive. Returns whether they are the HTTP/2 preface.
    pub fn speaks_http2(&self) -> bool {
        let mut first = [0; 3];
        loop {
            match self.socket().peek(&mut first) {
                Ok(0) | Err(_) => return false,
                Ok(3) => return &first == b"PRI",
                Ok(_) => std::thread::yield_now(),
            }
        }
    }

    /// Serves streams and pages until the client closes the connection or the server is stopped.
    pub fn http2(&mut self, limits: Http2) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let Ok(socket) = self.socket().try_clone() else { return };
        // An error means that the connection has ended.
        let _ = runtime.block_on(serve(socket, limits));
        // The flag is shared by all handles of the socket.
        let _ = self.socket().set_nonblocking(false);
    }
}

async fn serve(socket: std::net::TcpStream, limits: Http2) -> Result<(), Box<dyn std::error::Error>> {
    socket.set_nonblocking(true)?;
    let mut builder = h2::server::Builder::new();
    if let Some(most) = limits.announced {
        builder.max_concurrent_streams(most);
    }
    let mut connection = builder.handshake(tokio::net::TcpStream::from_std(socket)?).await?;
    let (streams, beyond) = (Arc::new(Slots::new(limits.streams)), limits.beyond);
    while let Some(accepted) = connection.accept().await {
        let (request, respond) = accepted?;
        let is_stream = request.uri().path().starts_with("/stream");
        let streams = Arc::clone(&streams);
        tokio::spawn(async move {
            // An error means that the client reset the stream.
            let _ = match is_stream {
                true => stream(respond, &streams, beyond).await,
                false => page(respond),
            };
        });
    }
    Ok(())
}

fn page(mut respond: SendResponse<Bytes>) -> Result<(), h2::Error> {
    let mut body = respond.send_response(http::Response::new(()), false)?;
    body.send_data(Bytes::from_static(b"up\n"), true)
}

async fn stream(mut respond: SendResponse<Bytes>, streams: &Slots, beyond: Beyond) -> Result<(), h2::Error> {
    let Some(_slot) = streams.try_take() else {
        match beyond {
            Beyond::Refused => respond.send_reset(Reason::REFUSED_STREAM),
            Beyond::Waits => _ = std::future::poll_fn(|context| respond.poll_reset(context)).await?,
        }
        return Ok(());
    };
    let mut head = http::Response::new(());
    head.headers_mut().insert("content-type", http::HeaderValue::from_static("text/event-stream"));
    ticks(respond.send_response(head, false)?).await
}

async fn ticks(mut body: SendStream<Bytes>) -> Result<(), h2::Error> {
    loop {
        body.send_data(Bytes::from_static(b"data: 1\n\n"), false)?;
        let reset = std::future::poll_fn(|context| body.poll_reset(context));
        if tokio::time::timeout(GAP.max(Duration::from_millis(1)), reset).await.is_ok() {
            return Ok(());
        }
    }
}
