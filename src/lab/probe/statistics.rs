//! The statistics of a control server: `/stats` of ninetabs or Puma.

use std::io::Read;
use std::time::{Duration, Instant};

use serde_json::Value;
use url::Url;

use super::measured::StatFigures;
use super::plan::ControlAddress;
use super::requests::AGENT;
use crate::lab::http::{ClientRequest, Connection, field};

/// How long an answer may take. A later one counts as missing.
pub(super) const WITHIN: Duration = Duration::from_secs(2);

/// Maximum size of an answer. A larger one counts as missing, because parsed JSON takes up to sixteen times as much
/// memory.
const MAX_BYTES: u64 = 256 * 1024;

/// Requests the statistics. Returns `None` if no usable answer arrives in time, which is a finding and not an error.
/// Blocks for at most [`WITHIN`].
pub(super) fn ask(control: &ControlAddress) -> Option<StatFigures> {
    let mut url = control.url.clone();
    url.path_segments_mut().ok()?.pop_if_empty().push("stats");
    if let Some(token) = &control.token {
        url.query_pairs_mut().append_pair("token", token);
    }
    figures(&answer(&url)?)
}

fn answer(url: &Url) -> Option<Value> {
    let deadline = Instant::now() + WITHIN;
    let mut connection = Connection::open(url, WITHIN).ok()?;
    connection.set_deadline(Some(deadline));
    let headers = vec![field("Connection", "close"), field("User-Agent", AGENT)];
    connection.send(url, &ClientRequest { headers, ..ClientRequest::default() }).ok()?;
    let (head, body) = connection.response().ok()?;
    let mut bytes = Vec::new();
    body.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
    if head.status == 200 { serde_json::from_slice(&bytes).ok() } else { None }
}

/// Reads the figures of one process, or the sums of a cluster's workers.
fn figures(stats: &Value) -> Option<StatFigures> {
    let sources: Vec<&Value> = match stats.get("worker_status").and_then(Value::as_array) {
        Some(workers) => workers.iter().filter_map(|worker| worker.get("last_status")).collect(),
        None => vec![stats],
    };
    let sum = |name: &str| {
        let values = sources.iter().filter_map(|source| source.get(name)?.as_u64());
        values.fold(None, |sum: Option<u64>, value| Some(sum.unwrap_or(0).saturating_add(value)))
    };
    let is_ninetabs = stats.get("versions").is_some_and(|versions| versions.get("ninetabs").is_some());
    let figures = StatFigures {
        program: if is_ninetabs { "ninetabs" } else { "Puma" }.to_owned(),
        max_threads: sum("max_threads"),
        running: sum("running"),
        busy_threads: sum("busy_threads"),
        backlog: sum("backlog"),
        pool_capacity: sum("pool_capacity"),
    };
    // JSON without these figures is not from Puma or ninetabs.
    (figures.max_threads.is_some() || figures.backlog.is_some()).then_some(figures)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;

    use serde_json::json;

    use super::*;

    /// Queries a control server that answers with this body, and returns the figures and the request.
    fn asked(body: String) -> (Option<StatFigures>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let server = std::thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let read = client.read(&mut request).unwrap();
            // The client may close the connection before the end.
            let _ = client.write_all(format!("HTTP/1.1 200 OK\r\n\r\n{body}").as_bytes());
            String::from_utf8_lossy(&request[..read]).into_owned()
        });
        let figures = ask(&ControlAddress { url, token: None });
        (figures, server.join().unwrap())
    }

    #[test]
    fn an_answer_that_is_too_large_counts_as_missing() {
        let with = |number: usize| {
            format!("{{\"backlog\":0,\"max_threads\":5,\"list\":[{}0]}}", "0,".repeat(number))
        };
        let (figures, request) = asked(with(1000));
        assert_eq!(figures.and_then(|figures| figures.max_threads), Some(5));
        assert!(request.starts_with("GET /stats HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("User-Agent: ninetabs-probe/"), "{request}");
        assert_eq!(asked(with(1_000_000)).0, None);
    }

    #[test]
    fn the_figures_of_a_single_puma_are_read() {
        let stats = json!({"started_at": "2026-01-01T00:00:00Z", "backlog": 0, "running": 8,
            "pool_capacity": 3, "max_threads": 8, "requests_count": 17});
        let figures = figures(&stats).unwrap();
        assert_eq!((figures.program.as_str(), figures.max_threads), ("Puma", Some(8)));
        assert_eq!((figures.pool_capacity, figures.busy_threads), (Some(3), None));
    }

    #[test]
    fn the_figures_of_a_cluster_are_summed_over_its_workers() {
        let worker = |backlog, capacity| {
            json!({"pid": 1, "index": 0, "booted": true,
                "last_status": {"backlog": backlog, "running": 5, "pool_capacity": capacity, "max_threads": 5}})
        };
        // The figures of a worker that has not reported yet are missing.
        let stats = json!({"workers": 3, "phase": 0, "booted_workers": 2, "old_workers": 0,
            "worker_status": [worker(1, 0), worker(0, 4), {"pid": 3, "last_status": {}}]});
        let figures = figures(&stats).unwrap();
        assert_eq!((figures.max_threads, figures.backlog), (Some(10), Some(1)));
        assert_eq!(figures.pool_capacity, Some(4));
    }

    #[test]
    fn ninetabs_is_recognized_and_other_json_is_not_an_answer() {
        let stats = json!({"backlog": 0, "max_threads": 8, "busy_threads": 2,
            "versions": {"puma": "8.0.2", "ninetabs": "0.1.0"}});
        let found = figures(&stats).unwrap();
        assert_eq!((found.program.as_str(), found.busy_threads), ("ninetabs", Some(2)));
        assert_eq!(figures(&json!({"status": "ok"})), None);
        assert_eq!(figures(&json!([1])), None);
    }
}
