//! Durations as they are typed: `2`, `0.5`, `500ms`, `2s`.

use std::time::Duration;

/// Reads a duration; a bare number is seconds. The error says what would do.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let (number, scale) = if let Some(number) = text.strip_suffix("ms") {
        (number, 1e-3)
    } else {
        (text.strip_suffix('s').unwrap_or(text), 1.0)
    };
    // f64 would also take `inf`, `1e3` and `+1`, which nobody types on purpose.
    let plain = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let value = number.parse::<f64>().ok().filter(|_| plain);
    value
        .and_then(|value| Duration::try_from_secs_f64(value * scale).ok())
        .ok_or_else(|| "give a number of seconds, such as 2, 0.5, 2s or 500ms".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_four_forms() {
        for (text, ms) in [("2", 2000), ("0.5", 500), ("500ms", 500), ("2s", 2000), (".5s", 500), ("0", 0)] {
            assert_eq!(seconds(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn what_is_none_says_what_would_do() {
        for text in
            ["", "s", "ms", "-1", "+1", "1e3", "inf", "nan", "1m", "2 s", "1.2.3", "99999999999999999999999"]
        {
            assert!(seconds(text).is_err_and(|says| says.contains("500ms")), "{text}");
        }
    }
}
