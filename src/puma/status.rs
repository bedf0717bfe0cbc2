//! The words that go with a status.

use std::borrow::Cow;

/// Every status that this program sends, with the words that Puma gives it.
const REASONS: [(u16, &str); 23] = [
    (100, "100 Continue"),
    (101, "101 Switching Protocols"),
    (200, "200 OK"),
    (201, "201 Created"),
    (202, "202 Accepted"),
    (204, "204 No Content"),
    (303, "303 See Other"),
    (304, "304 Not Modified"),
    (400, "400 Bad Request"),
    (401, "401 Unauthorized"),
    (403, "403 Forbidden"),
    (404, "404 Not Found"),
    (405, "405 Method Not Allowed"),
    (408, "408 Request Timeout"),
    (413, "413 Payload Too Large"),
    (414, "414 URI Too Long"),
    (422, "422 Unprocessable Content"),
    (429, "429 Too Many Requests"),
    (431, "431 Request Header Fields Too Large"),
    (500, "500 Internal Server Error"),
    (501, "501 Not Implemented"),
    (503, "503 Service Unavailable"),
    (505, "505 HTTP Version Not Supported"),
];

/// A status as its line says it, number and words. A code that is not in the table says
/// `CUSTOM`, as Puma's unknown ones do; a test finds every status of this program in it.
pub(super) fn code_and_reason(status: u16) -> Cow<'static, str> {
    match REASONS.iter().find(|(code, _)| *code == status) {
        Some((_, line)) => Cow::Borrowed(line),
        None => format!("{status} CUSTOM").into(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;

    /// What stands in the sources before the number of a status.
    const BEFORE: [&str; 11] = [
        "Response::new(",
        "Response::line(",
        "Response::status(",
        "Refusal::new(",
        "with_status_code(",
        "json(",
        "status = ",
        "status: ",
        "=> ",
        "HTTP/1.1 ",
        "HTTP/1.0 ",
    ];

    fn sources(folder: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
    }

    /// Numbers of three digits right behind one of those words.
    fn statuses(text: &str) -> Vec<u16> {
        let behind = BEFORE.iter().flat_map(|word| text.split(word).skip(1));
        let numbers = behind.filter_map(|rest| {
            let digits = rest.trim_start().split(|c: char| !c.is_ascii_digit()).next()?;
            digits.parse().ok().filter(|_| digits.len() == 3)
        });
        numbers.filter(|status| (100..600).contains(status)).collect()
    }

    #[test]
    fn every_status_that_is_sent_has_its_words() {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut seen = 0;
        for file in sources(&src).iter().filter(|file| file.extension().is_some_and(|it| it == "rs")) {
            // The lab is a client, and sends none.
            if file.starts_with(src.join("lab")) || file.ends_with("status.rs") {
                continue;
            }
            let text = fs::read_to_string(file).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            for status in statuses(code) {
                seen += 1;
                let words = code_and_reason(status);
                assert!(!words.ends_with("CUSTOM"), "{}: {words}", file.display());
            }
        }
        assert!(seen > 30, "only {seen} were found");
        assert_eq!(code_and_reason(202), "202 Accepted");
        assert_eq!(code_and_reason(299), "299 CUSTOM");
    }

    #[test]
    fn each_line_begins_with_its_code() {
        assert!(REASONS.iter().all(|(code, line)| line.starts_with(&format!("{code} "))));
        assert!(REASONS.is_sorted_by_key(|(code, _)| code));
    }
}
