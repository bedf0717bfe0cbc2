//! The statistics of a control server: `/stats` of ninetabs or Puma.

use std::time::Duration;

use serde_json::Value;

use super::measured::StatFigures;
use super::plan::ControlAddress;
use crate::lab::http;

/// How long an answer may take. Later ones are none.
pub(super) const WITHIN: Duration = Duration::from_secs(2);

/// Asks for the statistics. `None` if no usable answer came in time, which is a finding and not an error. Blocks
/// for at most [`WITHIN`].
pub(super) fn ask(control: &ControlAddress) -> Option<StatFigures> {
    let mut url = control.url.clone();
    url.path_segments_mut().ok()?.pop_if_empty().push("stats");
    if let Some(token) = &control.token {
        url.query_pairs_mut().append_pair("token", token);
    }
    let answer = http::get(url.as_str(), WITHIN).ok()?;
    if answer.status() == 200 { figures(&answer.json().ok()?) } else { None }
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
    // Any other JSON is not of such a server.
    (figures.max_threads.is_some() || figures.backlog.is_some()).then_some(figures)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_single_puma_has_its_own_figures() {
        let stats = json!({"started_at": "2026-01-01T00:00:00Z", "backlog": 0, "running": 8,
            "pool_capacity": 3, "max_threads": 8, "requests_count": 17});
        let figures = figures(&stats).unwrap();
        assert_eq!((figures.program.as_str(), figures.max_threads), ("Puma", Some(8)));
        assert_eq!((figures.pool_capacity, figures.busy_threads), (Some(3), None));
    }

    #[test]
    fn a_cluster_is_summed_over_its_workers() {
        let worker = |backlog, capacity| {
            json!({"pid": 1, "index": 0, "booted": true,
                "last_status": {"backlog": backlog, "running": 5, "pool_capacity": capacity, "max_threads": 5}})
        };
        // A worker that has not reported yet has no figures.
        let stats = json!({"workers": 3, "phase": 0, "booted_workers": 2, "old_workers": 0,
            "worker_status": [worker(1, 0), worker(0, 4), {"pid": 3, "last_status": {}}]});
        let figures = figures(&stats).unwrap();
        assert_eq!((figures.max_threads, figures.backlog), (Some(10), Some(1)));
        assert_eq!(figures.pool_capacity, Some(4));
    }

    #[test]
    fn ninetabs_names_itself_and_another_json_is_no_answer() {
        let stats = json!({"backlog": 0, "max_threads": 8, "busy_threads": 2,
            "versions": {"puma": "8.0.2", "ninetabs": "0.1.0"}});
        let found = figures(&stats).unwrap();
        assert_eq!((found.program.as_str(), found.busy_threads), ("ninetabs", Some(2)));
        assert_eq!(figures(&json!({"status": "ok"})), None);
        assert_eq!(figures(&json!([1])), None);
    }
}
