//! The ids of the models in an answer, as the clients of the lab read them.

use serde_json::Value;

/// The ids of an array of models.
pub fn in_json(json: &[u8]) -> Vec<i64> {
    let models: Vec<Value> = serde_json::from_slice(json).unwrap_or_default();
    models.iter().filter_map(|model| model["id"].as_i64()).collect()
}

/// The ids of rows that were pushed as HTML.
pub fn in_html(html: &str) -> Vec<i64> {
    let rows = html.split("id=\"model_").skip(1);
    rows.filter_map(|row| row.split_once('"')?.0.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_models_have_ids() {
        assert_eq!(in_html("<li id=\"model_3\">3</li> <li id=\"model_x\"><li id=\"model_14\">"), [3, 14]);
        assert_eq!(in_json(br#"[{"id":1,"name":"a"},{"id":2}]"#), [1, 2]);
        assert_eq!(in_json(b"{}"), [0; 0]);
    }
}
