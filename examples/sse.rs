//! Server-sent events: a counter that resumes where its client was cut off.
//!
//! ```sh
//! cargo run --example sse
//! curl -N http://127.0.0.1:3000/ticks
//! curl -N -H 'Last-Event-ID: 41' http://127.0.0.1:3000/ticks
//! ```

use std::time::Duration;

use ninetabs_server::{Event, Response, Server};

fn main() -> std::io::Result<()> {
    Server::bind("127.0.0.1:3000").threads(0..=8).max_stream_age(Duration::from_secs(60)).serve(|request| {
        match request.path() {
            "/" => Response::text("hello"),
            "/ticks" => Response::events(|stream| {
                for n in stream.last_event_id::<u64>().unwrap_or(0).. {
                    stream.send(Event::data(n).id(n))?;
                    stream.sleep(Duration::from_secs(1))?;
                }
                Ok(())
            }),
            _ => Response::not_found(),
        }
    })
}
