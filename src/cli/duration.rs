//! Durations as typed on the command line: `2`, `0.5`, `500ms`, `2s`.

use std::time::Duration;

/// The longest duration in seconds, which is below what [`Duration`] can hold.
const MOST_SECONDS: f64 = 1e19;
const EXAMPLES: &str = "such as 5 or 500ms";

/// Parses a duration; a bare number is seconds. The error message says what to give instead.
pub fn seconds(text: &str) -> Result<Duration, String> {
    read(text)?.ok_or_else(|| format!("give seconds, {EXAMPLES}"))
}

/// Like [`seconds`], for a duration of more than 0.
pub fn more_than_none(text: &str) -> Result<Duration, String> {
    let time = read(text)?.filter(|time| !time.is_zero());
    time.ok_or_else(|| format!("give seconds above 0, {EXAMPLES}"))
}

/// Returns `None` if the text is not a duration. For a duration that is too long, the error names the
/// limit.
fn read(text: &str) -> Result<Option<Duration>, String> {
    let (number, scale) = if let Some(number) = text.strip_suffix("ms") {
        (number, 1e-3)
    } else {
        (text.strip_suffix('s').unwrap_or(text), 1.0)
    };
    // f64 would also accept `inf`, `1e3` and `+1`, which are usually mistakes.
    let plain = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    match number.parse::<f64>().ok().filter(|_| plain).map(|value| value * scale) {
        Some(value) if value > MOST_SECONDS => {
            Err(format!("give at most {MOST_SECONDS} seconds, {EXAMPLES}"))
        }
        value => Ok(value.and_then(|value| Duration::try_from_secs_f64(value).ok())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_written_in_one_of_four_forms() {
        for (text, ms) in [("2", 2000), ("0.5", 500), ("500ms", 500), ("2s", 2000), (".5s", 500), ("0", 0)] {
            assert_eq!(seconds(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn a_refusal_gives_an_example() {
        for text in ["", "s", "ms", "-1", "+1", "1e3", "inf", "nan", "1m", "2 s", "1.2.3"] {
            assert!(seconds(text).is_err_and(|says| says.contains("500ms")), "{text}");
        }
    }

    #[test]
    fn a_duration_beyond_the_limit_is_refused_with_the_limit() {
        let limit = "10000000000000000000";
        for read in [seconds, more_than_none] {
            assert_eq!(read(limit), Ok(Duration::from_secs(10_000_000_000_000_000_000)));
            for text in ["18446744073709551615", "99999999999999999999999s", "99999999999999999999999ms"] {
                let refusal = read(text).unwrap_err();
                assert!(refusal.starts_with(&format!("give at most {limit} seconds")), "{text}: {refusal}");
            }
        }
    }
}
