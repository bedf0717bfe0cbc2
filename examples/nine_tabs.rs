//! Nine tabs on eight threads, in one file.
//!
//! Each tab holds a stream, and each stream holds a thread of the pool. The first eight tabs stream; the
//! ninth waits, and so does every page. The optional second argument is a maximum age in seconds: the reaper
//! ends streams that are older, and the tabs take turns.
//!
//! ```sh
//! cargo run --example nine_tabs
//! cargo run --example nine_tabs 127.0.0.1:3000 5
//! ```

use std::env;
use std::thread;
use std::time::Duration;

use ninetabs_server::{Event, Response, Server};

/// Threads of the pool: one fewer than there are tabs.
const THREADS: usize = 8;

/// A tab: it shows the last number that its stream sent. A browser opens at most six connections per host
/// name, so each tab has its own host name; all names below `localhost` resolve to this machine.
const TAB: &str = "<!doctype html><title>a tab</title><p id=n>waits for a thread</p>
<script>new EventSource('/numbers').onmessage = e => { document.getElementById('n').textContent = e.data }</script>";

fn main() -> std::io::Result<()> {
    let address = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let max_age = env::args().nth(2).and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);

    let mut server = Server::bind(address).threads(THREADS..=THREADS);
    if let Some(age) = max_age {
        server = server.max_stream_age(age);
    }
    let server = server.start(|request| match request.path() {
        "/" => Response::html(tabs(request.authority().and_then(|it| it.port).unwrap_or(80))),
        "/tab" => Response::html(TAB),
        "/numbers" => Response::events(|stream| {
            for n in stream.last_event_id::<u64>().map_or(1, |last| last + 1).. {
                stream.send(Event::data(n).id(n))?;
                stream.sleep(Duration::from_secs(1))?;
            }
            Ok(())
        }),
        _ => Response::not_found(),
    })?;

    println!("Open http://{}/ and then its nine tabs.", server.addr());
    loop {
        thread::sleep(Duration::from_secs(1));
        let (stats, streams) = (server.glance(), server.streams().stats());
        println!(
            "{} streams hold {} of {THREADS} threads, {} requests wait",
            streams.open,
            stats.pool.running - stats.pool.waiting,
            stats.pool.backlog
        );
    }
}

/// A page of links to the nine tabs.
fn tabs(port: u16) -> String {
    let link = |n| format!("<li><a target=_blank href=http://tab{n}.localhost:{port}/tab>tab {n}</a>");
    format!("<!doctype html><title>nine tabs</title><ol>{}</ol>", (1..=9).map(link).collect::<String>())
}
