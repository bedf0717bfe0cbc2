use super::*;

fn ask(method: &'static str, target: &str) -> Result<Given, Wrong> {
    let request = Request::builder().method(method).path(target).build().unwrap();
    of_path(request.path()).unwrap().read(&request)
}

#[test]
fn every_path_that_is_read_is_documented() {
    let text = include_str!("../../../docs/puma.md");
    for order in ALL.iter().filter(|order| order.method == Method::Get) {
        let is_there = ["`", "?"].iter().any(|end| text.contains(&format!("`GET {}{end}", order.path)));
        assert!(is_there, "docs/puma.md lacks GET {}", order.path);
    }
}

#[test]
fn every_row_refuses_unknown_input_and_says_what_it_accepts() {
    for order in ALL {
        let (path, method) = (order.path, order.method.as_str());
        let and = if order.parameters.is_empty() {
            "none".to_owned()
        } else {
            order.usage()[path.len() + 1..].replace('&', " and ")
        };
        for unknown in ["older", "MIN", "a%0Ab", "token2"] {
            let wrong = ask(method, &format!("{path}?{unknown}=60")).unwrap_err();
            assert_eq!(wrong.status, 400, "{path}");
            assert!(wrong.text.starts_with("unknown parameter \""), "{}", wrong.text);
            assert!(
                wrong.text.ends_with(&format!("{path} takes {and}")) && wrong.text.lines().count() == 1,
                "{}",
                wrong.text
            );
        }
        let other = if order.method == Method::Get { "POST" } else { "GET" };
        let wrong = ask(other, path).unwrap_err();
        assert_eq!((wrong.status.as_u16(), wrong.allow), (405, Some(order.method.allow())), "{path}");
        assert_eq!(wrong.text, format!("{path} takes {}", order.method.allow()));
        for Parameter { name, takes, is_needed } in order.parameters {
            for text in ["", "x", "-1", "NaN", "99999999999999999999999", "1e300", "0x5", "%C3%A4"] {
                if let Err(wrong) = ask(method, &format!("{path}?{name}={text}")) {
                    assert_eq!(wrong.status, 422, "{path}");
                    assert!(wrong.text.starts_with(&format!("{name}: give ")), "{}", wrong.text);
                    assert!(wrong.text.contains(&takes.says()), "{}", wrong.text);
                } else {
                    // Longer than any stream lives, but still a valid number of seconds.
                    assert!(!matches!(takes, Takes::Number { .. }) && text.starts_with('9'), "{path} {text}");
                }
            }
            let works = match takes {
                Takes::Name(names) => names[0],
                _ => "5",
            };
            assert!(ask(method, &format!("{path}?{name}={works}&token=x")).is_ok(), "{path}");
            let twice = ask(method, &format!("{path}?{name}={works}&{name}={works}")).unwrap_err();
            assert_eq!((twice.status.as_u16(), twice.text.contains("once")), (400, true), "{path}");
            assert_eq!(
                ask(method, path).is_err(),
                *is_needed || order.parameters.iter().any(|it| it.is_needed)
            );
        }
    }
}

#[test]
fn valid_values_are_read() {
    let given = ask("POST", "/resize?max=10000&min=0").unwrap();
    assert_eq!(
        (given.number("min"), given.number("max"), given.seconds("min")),
        (Some(0), Some(10_000), None)
    );
    assert!(ask("POST", "/resize?max=0").is_err() && ask("POST", "/resize?max=10001").is_err());
    assert_eq!(ask("POST", "/max-stream-age?secs=off").unwrap().seconds("secs"), None);
    assert_eq!(
        ask("POST", "/max-stream-age?secs=0.5").unwrap().seconds("secs"),
        Some(Duration::from_millis(500))
    );
    assert!(ask("POST", "/max-stream-age?secs=0").is_err());
    assert_eq!(ask("HEAD", "/timeline?after=18446744073709551615").unwrap().number("after"), Some(u64::MAX));
}
