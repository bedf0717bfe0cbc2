//! Clients that request a fix's stream and never read.

use std::io;
use std::net::TcpStream;

use tungstenite::WebSocket;

use super::{Way, handshake};
use crate::lab::http::HttpError;
use crate::lab::zombies::Zombie;

/// A connection that requested a fix's stream and is never read.
pub enum Abandoned {
    Request(#[allow(dead_code, reason = "kept open, never read")] Zombie),
    Socket(#[allow(dead_code, reason = "kept open, never read")] WebSocket<TcpStream>),
}

impl Abandoned {
    /// Sends the request, and never reads the answer.
    pub fn open(way: Way, server: &str, number: usize) -> Result<Abandoned, HttpError> {
        let path = match way {
            Way::Stream(path, _) => path,
            Way::Poll(_) => "/fixes/poll/models.json",
            Way::LongPoll => "/fixes/long-poll/poll",
            Way::Page(..) => "/models/live_stream",
            Way::Cable => {
                let socket = handshake(server.trim_start_matches("http://"), None);
                let connect = |error: tungstenite::Error| HttpError::Connect {
                    to: server.to_owned(),
                    source: io::Error::other(error.to_string()),
                };
                return socket.map(|(socket, _)| Abandoned::Socket(socket)).map_err(connect);
            }
        };
        let query = if let Way::Poll(rung) = way { format!("&rung={rung}") } else { String::new() };
        Zombie::open(&format!("{server}{path}?tab={number}{query}")).map(Abandoned::Request)
    }
}
