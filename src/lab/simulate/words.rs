//! Formats numbers and times for reading.

/// A number with a comma between thousands.
pub fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of things.
pub fn many(count: u64, thing: &str) -> String {
    format!("{} {thing}{}", number(count), if count == 1 { "" } else { "s" })
}

/// Formats a duration, given in seconds, in the two units that fit it.
pub fn time(seconds: f64) -> String {
    let minutes = (seconds / 60.0).floor();
    let hours = (minutes / 60.0).floor();
    match seconds {
        _ if seconds < 0.000_95 => format!("{:.2} ms", seconds * 1e3),
        _ if seconds < 0.099_5 => format!("{:.1} ms", seconds * 1e3),
        _ if seconds < 119.95 => {
            let text = format!("{seconds:.1}");
            format!("{} s", text.strip_suffix(".0").unwrap_or(&text))
        }
        _ if minutes < 120.0 => two(minutes, "min", (seconds - minutes * 60.0).floor(), "s"),
        _ if hours < 48.0 => two(hours, "h", minutes - hours * 60.0, "min"),
        _ => format!("{:.1} days", hours / 24.0),
    }
}

fn two(large: f64, unit: &str, small: f64, below: &str) -> String {
    if small == 0.0 { format!("{large} {unit}") } else { format!("{large} {unit} {small} {below}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_have_the_units_that_fit_them() {
        for (value, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (12_345_678, "12,345,678")] {
            assert_eq!(number(value), text);
        }
        for (seconds, text) in [
            (0.000_05, "0.05 ms"),
            (0.012_34, "12.3 ms"),
            (0.5, "0.5 s"),
            (5.0, "5 s"),
            (119.0, "119 s"),
            (125.0, "2 min 5 s"),
            (600.0, "10 min"),
            (31_200.0, "8 h 40 min"),
            (400_000.0, "4.6 days"),
        ] {
            assert_eq!(time(seconds), text);
        }
        assert_eq!((many(1, "tab"), many(2_000, "tab")), ("1 tab".into(), "2,000 tabs".into()));
    }
}
