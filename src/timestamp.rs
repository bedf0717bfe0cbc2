//! Formats times as RFC 3339 text in UTC: `1970-01-01T00:00:01.500Z`.
//!
//! RFC 3339 has four digits for the year. The clock, or another program that writes to our table, can produce a year
//! that does not fit, and this must not break an answer or panic a thread. A time outside the years 0 to 9999 is
//! therefore shown as the nearest time within them.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The first and the last time that have a text form, in microseconds since 1970.
pub const FIRST_US: i64 = -62_167_219_200_000_000;
pub const LAST_US: i64 = 253_402_300_799_999_999;

/// The calendar repeats every 400 years, so a time that is exactly 2,000 years later has the same month and day.
const SHIFT_YEARS: u32 = 2_000;
const SHIFT_US: i64 = 5 * 146_097 * 86_400 * 1_000_000;

/// Microseconds since 1970 (negative for earlier times), clamped to the years that have a text form.
pub fn micros(time: SystemTime) -> i64 {
    let us = match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos().div_ceil(1_000)).map_or(i64::MIN, |us| -us),
    };
    us.clamp(FIRST_US, LAST_US)
}

/// The time that is this many microseconds after 1970, or the nearest one that has a text form.
pub fn from_micros(us: i64) -> SystemTime {
    let us = us.clamp(FIRST_US, LAST_US);
    let distance = Duration::from_micros(us.unsigned_abs());
    if us < 0 { UNIX_EPOCH - distance } else { UNIX_EPOCH + distance }
}

/// With milliseconds, as Rails writes times in JSON.
pub fn millis(time: SystemTime) -> impl fmt::Display {
    Text { us: micros(time), with_millis: true }
}

/// With seconds.
pub fn seconds(time: SystemTime) -> impl fmt::Display {
    Text { us: micros(time), with_millis: false }
}

struct Text {
    us: i64,
    with_millis: bool,
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // humantime does not support years before 1970.
        let is_early = self.us < 0;
        let time = from_micros(if is_early { self.us + SHIFT_US } else { self.us });
        let write = |f: &mut dyn fmt::Write| match self.with_millis {
            true => write!(f, "{}", humantime::format_rfc3339_millis(time)),
            false => write!(f, "{}", humantime::format_rfc3339_seconds(time)),
        };
        if !is_early {
            return write(f);
        }
        let mut later = String::new();
        write(&mut later)?;
        let (year, rest) = later.split_at_checked(4).ok_or(fmt::Error)?;
        let year: u32 = year.parse().map_err(|_| fmt::Error)?;
        write!(f, "{:04}{rest}", year.saturating_sub(SHIFT_YEARS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_has_a_text_and_times_out_of_range_are_clamped() {
        for (us, text) in [
            (i64::MIN, "0000-01-01T00:00:00.000Z"),
            (FIRST_US - 1, "0000-01-01T00:00:00.000Z"),
            (FIRST_US, "0000-01-01T00:00:00.000Z"),
            (FIRST_US + 1_000, "0000-01-01T00:00:00.001Z"),
            (-1_000, "1969-12-31T23:59:59.999Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (0, "1970-01-01T00:00:00.000Z"),
            (1_500_000, "1970-01-01T00:00:01.500Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00.000Z"),
            (-2_203_891_200_000_000, "1900-03-01T00:00:00.000Z"),
            (LAST_US, "9999-12-31T23:59:59.999Z"),
            (LAST_US + 1, "9999-12-31T23:59:59.999Z"),
            (i64::MAX, "9999-12-31T23:59:59.999Z"),
        ] {
            let time = from_micros(us);
            assert_eq!(millis(time).to_string(), text, "{us}");
            assert_eq!(seconds(time).to_string(), format!("{}Z", &text[..19]), "{us}");
            assert_eq!(micros(time), us.clamp(FIRST_US, LAST_US));
        }
        // `SystemTime` has a larger range than microseconds in an `i64`.
        let far = Duration::from_secs(i64::MAX as u64 / 4);
        assert_eq!(micros(UNIX_EPOCH + far), LAST_US);
        assert_eq!(micros(UNIX_EPOCH - far), FIRST_US);
        assert_eq!(micros(UNIX_EPOCH - Duration::from_nanos(1)), -1);
    }
}
