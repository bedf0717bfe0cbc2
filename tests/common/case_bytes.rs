//! The bytes in the case files, as input to be mutated and split.
//!
//! Used by the property tests, and included by path in the program that makes the fuzz corpus.

use serde_json::Value;

/// The bytes that the case with this name sends.
pub struct Case {
    pub name: String,
    pub bytes: Vec<u8>,
}

/// Everything that each case of `puma_cases.json` sends on its connection.
pub fn requests() -> Vec<Case> {
    cases(include_str!("../data/puma_cases.json"), |case| {
        case["send"].as_array().expect("a case has a list `send`").iter().flat_map(sent).collect()
    })
}

/// The stream of each case of `eventsource_cases.json`.
pub fn event_streams() -> Vec<Case> {
    cases(include_str!("../data/eventsource_cases.json"), |case| {
        case["chunks_b64"]
            .as_array()
            .expect("a case has a list `chunks_b64`")
            .iter()
            .flat_map(base64_of)
            .collect()
    })
}

/// The chunked bodies in the bytes of [`requests`], from their first size line on.
pub fn chunked_bodies() -> Vec<Case> {
    let is_chunked = |head: &[u8]| {
        let head = String::from_utf8_lossy(head).to_ascii_lowercase();
        head.contains("transfer-encoding")
    };
    let body = |case: Case| {
        let end = case.bytes.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
        let (head, body) = case.bytes.split_at(end);
        is_chunked(head).then(|| Case { name: case.name.clone(), bytes: body.to_vec() })
    };
    requests().into_iter().filter_map(body).collect()
}

fn cases(json: &str, bytes: fn(&Value) -> Vec<u8>) -> Vec<Case> {
    let cases: Vec<Value> = serde_json::from_str(json).expect("a case file");
    let case =
        |case: &Value| Case { name: case["name"].as_str().expect("a name").to_owned(), bytes: bytes(case) };
    cases.iter().map(case).collect()
}

fn sent(step: &Value) -> Vec<u8> {
    let bytes = match step["text"].as_str() {
        Some(text) => text.as_bytes().to_vec(),
        None => base64_of(&step["bytes_b64"]),
    };
    bytes.repeat(step["repeat"].as_u64().unwrap_or(1) as usize)
}

fn base64_of(text: &Value) -> Vec<u8> {
    base64(text.as_str().expect("base64"))
}

pub fn base64(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::new();
    let (mut bits, mut held) = (0u32, 0);
    for digit in text.bytes().filter(|byte| *byte != b'=') {
        let value = ALPHABET.iter().position(|known| *known == digit).expect("a digit of base64");
        bits = bits << 6 | value as u32;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    bytes
}
