//! Clients that hold no pool thread, as raw connections: listeners of `push`, and clients of `cable`.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;

use super::{Server, read_head, read_until, send};

/// A listener that has got its greeting.
pub fn listener(server: &Server) -> TcpStream {
    let mut stream = send(server.app, b"GET /fixes/push/stream HTTP/1.1\r\nHost: localhost\r\n\r\n");
    read_until(&mut stream, "a stream of models");
    stream
}

/// A client of `cable` that has got its welcome.
pub fn cable_client(server: &Server) -> TcpStream {
    let app = server.app;
    let request = format!(
        "GET /cable HTTP/1.1\r\nHost: {app}\r\nOrigin: http://{app}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    let mut stream = send(app, request.as_bytes());
    assert!(read_head(&mut stream).starts_with("HTTP/1.1 101 "));
    read_until(&mut stream, "welcome");
    stream
}

/// Discards the bytes that have arrived.
pub fn discard(stream: &mut TcpStream) {
    stream.set_nonblocking(true).unwrap();
    loop {
        match stream.read(&mut [0; 4096]) {
            Ok(count) => assert!(count > 0, "the connection ended"),
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    stream.set_nonblocking(false).unwrap();
}
