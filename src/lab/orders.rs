//! The labels of orders in a picture. Orders in quick succession share one label.

/// Orders within this time of the first share a label.
const SHARED_US: u64 = 200_000;

/// The labels, with the time of the first order of each. `orders` are in the order of their times.
pub fn labels(orders: &[(u64, String)]) -> Vec<(u64, String)> {
    let mut groups: Vec<(u64, Vec<&str>)> = Vec::new();
    for (at_us, text) in orders {
        match groups.last_mut() {
            Some((first_us, texts)) if at_us - *first_us < SHARED_US => texts.push(text),
            _ => groups.push((*at_us, vec![text])),
        }
    }
    groups.into_iter().map(|(at_us, texts)| (at_us, shared(&texts))).collect()
}

/// Merges texts into one label, such as `opened tab 1, 2, 3, reap ×2`.
fn shared(texts: &[&str]) -> String {
    let mut words: Vec<(&str, Vec<&str>, usize)> = Vec::new();
    for text in texts {
        let (what, number) = split(text);
        match words.iter_mut().find(|(known, ..)| *known == what) {
            Some((_, numbers, count)) => {
                numbers.extend(number);
                *count += 1;
            }
            None => words.push((what, Vec::from_iter(number), 1)),
        }
    }
    let label = |(what, numbers, count): (&str, Vec<&str>, usize)| match (numbers.is_empty(), count) {
        (false, _) => format!("{what} {}", numbers.join(", ")),
        (true, 1) => what.to_owned(),
        (true, count) => format!("{what} ×{count}"),
    };
    words.into_iter().map(label).collect::<Vec<_>>().join(", ")
}

/// Splits a text into the part before its last word and that word, if the word is a number.
fn split(text: &str) -> (&str, Option<&str>) {
    let is_number = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    match text.rsplit_once(' ') {
        Some((what, number)) if is_number(number) => (what, Some(number)),
        _ => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_within_a_fifth_of_a_second_share_a_label() {
        let orders = [
            (0, "opened tab 1"),
            (50_000, "opened tab 2"),
            (190_000, "reap"),
            (199_999, "reap"),
            (200_000, "max age 5 s"),
            (900_000, "closed tab 3"),
        ];
        let orders: Vec<_> = orders.map(|(at_us, text)| (at_us, text.to_owned())).into();
        let expected = [(0, "opened tab 1, 2, reap ×2"), (200_000, "max age 5 s"), (900_000, "closed tab 3")];
        assert_eq!(labels(&orders), expected.map(|(at_us, text)| (at_us, text.to_owned())));
        assert!(labels(&[]).is_empty());
    }
}
