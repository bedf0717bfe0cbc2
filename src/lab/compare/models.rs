//! Creates and reads models on a server.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::super::http::{self, Answer, HttpError};
use super::super::subject::TestedServer;
use super::CompareError;
use super::figures::millis;

/// How long a server may take to answer.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The path to which a create is posted.
pub const MODELS: &str = "/models";

/// A model that was created.
#[derive(Debug, Clone, Copy)]
pub struct CreatedModel {
    pub id: i64,
    /// When the answer arrived.
    pub answered: SystemTime,
    /// The time from the commit to the answer, in milliseconds.
    pub after_commit_ms: f64,
}

/// Creates a model, and returns its id.
pub fn post(server: &TestedServer, name: &str) -> Result<i64, CompareError> {
    let answer = send(&server.url(MODELS), name, ANSWER_WITHIN)?;
    let model: Value = answer.json().unwrap_or_default();
    model["id"].as_i64().ok_or(CompareError::NoModel(answer.status()))
}

/// Creates a model at this URL of [`MODELS`]. `None` if the answer did not arrive in time.
pub fn create(url: &str, within: Duration) -> Option<CreatedModel> {
    let answer = send(url, "posted", within).ok()?;
    let answered = SystemTime::now();
    let model: Value = answer.json().ok()?;
    let after_commit = answered.duration_since(committed(&model)?).unwrap_or_default();
    Some(CreatedModel { id: model["id"].as_i64()?, answered, after_commit_ms: millis(after_commit) })
}

fn send(url: &str, name: &str, within: Duration) -> Result<Answer, HttpError> {
    http::post(url, "application/x-www-form-urlencoded", format!("name={name}"), within)
}

/// When each model of the table was created.
pub fn created(server: &TestedServer) -> Result<HashMap<i64, SystemTime>, CompareError> {
    let one = |model: &Value| Some((model["id"].as_i64()?, committed(model)?));
    let (mut all, mut since) = (HashMap::new(), 0);
    loop {
        let answer = http::get(&server.url(&format!("/models.json?since={since}")), ANSWER_WITHIN)?;
        let models: Vec<Value> = serde_json::from_slice(&answer.body).unwrap_or_default();
        all.extend(models.iter().filter_map(one));
        // The length of an answer is limited. An answer with a Link header is not the last one.
        let has_more = answer.head.header("link").is_some();
        match models.last().and_then(|model| model["id"].as_i64()) {
            Some(last) if has_more && last > since => since = last,
            _ => return Ok(all),
        }
    }
}

fn committed(model: &Value) -> Option<SystemTime> {
    humantime::parse_rfc3339(model["created_at"].as_str()?).ok()
}
