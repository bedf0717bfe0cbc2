//! The model: a row with a name, as `rails generate model Model name` makes it.
//!
//! [`super::adapters`] stores it, and [`super::database`] has the connections. Ids only grow, so that an id
//! can stand for "everything up to here".

use std::sync::Arc;
use std::time::SystemTime;

use serde::{Serialize, Serializer};

use crate::timestamp;

/// Maximum length of a name, in bytes.
pub const MAX_NAME_BYTES: usize = 16 * 1024;

/// One model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Model {
    pub id: i64,
    pub name: Arc<str>,
    #[serde(serialize_with = "as_iso8601")]
    pub created_at: SystemTime,
}

impl Model {
    /// The time of its creation, as Rails writes it in JSON.
    pub fn created_at_iso8601(&self) -> String {
        timestamp::millis(self.created_at).to_string()
    }
}

/// One model or several as JSON.
pub fn to_json(value: &impl Serialize) -> String {
    // A model has only text, numbers and string keys, so this cannot fail.
    serde_json::to_string(value).unwrap_or_else(|error| unreachable!("a model as JSON: {error}"))
}

fn as_iso8601<S: Serializer>(time: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&timestamp::millis(*time))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_model_is_serialized_as_in_rails() {
        let model =
            Model { id: 1, name: "a\"b".into(), created_at: UNIX_EPOCH + Duration::from_millis(1_500) };
        let json = r#"{"id":1,"name":"a\"b","created_at":"1970-01-01T00:00:01.500Z"}"#;
        assert_eq!(serde_json::to_string(&model).unwrap(), json);
    }
}
