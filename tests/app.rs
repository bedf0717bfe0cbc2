//! The app's answers: the page, the models, and the first bytes of a stream.

use std::fs;
use std::path::Path;

use crate::common::engines::{EngineKind, on_each_engine};
use crate::common::{
    self, Server, ask, call, create, get, json, open_stream, read_until, send, split, wait_for,
};
use serde_json::{Value, json};

on_each_engine! {
    the_page_shows_the_models_and_links_to_tabs_and_fixes,
    models_json_has_the_models_after_an_id,
    a_posted_model_is_created_or_refused_with_one_line,
    only_the_newest_models_are_kept,
    the_page_has_the_newest_models_and_links_to_the_older_ones,
    a_client_that_follows_the_links_of_models_json_gets_every_model_once,
    a_stream_begins_at_the_position_of_its_request,
    a_gap_after_a_position_is_reported_in_the_stream_and_counted,
    a_stream_begins_with_exactly_these_bytes,
    a_stream_sends_created_models,
}

fn ids(models: &Value) -> Vec<i64> {
    models.as_array().unwrap().iter().map(|model| model["id"].as_i64().unwrap()).collect()
}

/// Posts a body with these header lines, each with its line end.
fn post(server: &Server, headers: &str, body: &str) -> String {
    let length = body.len();
    ask(server.app, &format!("POST /models HTTP/1.0\r\n{headers}Content-Length: {length}\r\n\r\n{body}"))
}

#[test]
fn each_path_of_the_app_answers_with_its_status() {
    let server = Server::start(&[]);
    for (method, path, status, beginning) in [
        ("GET", "/", 200, "<!doctype html>"),
        ("GET", "/?tab=3", 200, "<!doctype html>"),
        ("GET", "/up", 200, "up\n"),
        ("GET", "/models.json", 200, "[]"),
        ("POST", "/models", 422, "name: "),
        ("GET", "/models", 404, "Not Found\n"),
        ("POST", "/", 404, "Not Found\n"),
        ("POST", "/up", 404, "Not Found\n"),
        ("DELETE", "/models", 404, "Not Found\n"),
        ("GET", "/models/", 404, "Not Found\n"),
        ("GET", "/UP", 404, "Not Found\n"),
        ("GET", "/../up", 404, "Not Found\n"),
        ("GET", "/views/application.css", 404, "Not Found\n"),
    ] {
        let (got, body) = call(server.app, method, path);
        assert_eq!(got, status, "{method} {path}");
        assert!(body.starts_with(beginning), "{method} {path}: {body:?}");
    }
}

fn the_page_shows_the_models_and_links_to_tabs_and_fixes(engine: EngineKind) {
    let server = engine.server(&[]);
    create(server.app, "<script>alert('x')</script>");
    create(server.app, "second");
    let port = server.app.port();
    let answer = ask(server.app, &format!("GET /?tab=4 HTTP/1.0\r\nHost: tab4.localhost:{port}\r\n\r\n"));
    let (status, page) = split(&answer);
    assert_eq!(status, 200);
    assert!(answer.contains("content-type: text/html; charset=utf-8\r\n"));
    assert!(page.contains("&lt;script&gt;alert(") && !page.contains("<script>alert("), "{page}");
    assert!(page.find("second").unwrap() < page.find("&lt;script&gt;").unwrap(), "the newest model is first");
    for wanted in
        ["data-newest-id=\"2\"", "data-tab=\"4\"", "<template id=\"model\">", "page:fetch", "pagehide"]
    {
        assert!(page.contains(wanted), "{wanted} is not in {page}");
    }
    for n in 1..=9 {
        let link = format!("<a href=\"http://tab{n}.localhost:{port}/?tab={n}\" target=\"_blank\"");
        assert_eq!(page.matches(&link).count(), 1, "{link}");
    }
    assert_eq!(page.matches("aria-current=\"page\"").count(), 1, "the link to the app is marked as current");
    assert_eq!(page.matches("aria-current=\"true\"").count(), 1, "the link to tab 4 is marked as current");
    let control = server.control;
    for link in [
        "<a href=\"/\" aria-current=\"page\">App</a>".to_owned(),
        format!("<a href=\"http:&#x2f;&#x2f;{control}/wall\" target=\"_blank\" rel=\"noopener\">Wall</a>"),
        format!("<a href=\"http:&#x2f;&#x2f;{control}/\" target=\"_blank\" rel=\"noopener\">Dashboard</a>"),
        "<a href=\"/fixes\">Fixes</a>".to_owned(),
        format!(
            "<a href=\"http:&#x2f;&#x2f;{control}/\" target=\"_blank\" rel=\"noopener\">See the threads</a>"
        ),
    ] {
        assert_eq!(page.matches(&link).count(), 1, "{link}: {page}");
    }

    let odd = ask(server.app, "GET /?tab=%22%3E%3Cscript%3E HTTP/1.0\r\nHost: localhost:1%22\r\n\r\n");
    assert!(odd.starts_with("HTTP/1.0 400 "), "a port that is not a number: {odd}");
    let odd = ask(server.app, "GET /?tab=%22%3E%3Cscript%3E HTTP/1.0\r\nHost: localhost:1\r\n\r\n");
    assert!(!odd.contains("\"><script>") && !odd.contains("%22"), "{odd}");
}

#[test]
fn the_first_sentence_of_the_page_follows_from_the_limits_in_force() {
    for (flags, words) in [
        (&[][..], "Each open tab holds one of this server&#x27;s 8 threads. Open nine; the ninth waits."),
        (&["--threads", "1"], "holds this server&#x27;s only thread. Open two; the second waits."),
        (&["--fix", "io-threads"], "one of this server&#x27;s 8 + 5 threads. Open 14; the 14th waits."),
        (&["--fix", "reaper"], "8 threads, for at most 5 s. Open nine; they take turns."),
        (&["--fix", "cap"], "and at most six may stream. Open seven; the seventh is refused at once."),
        (&["--fix", "more-threads"], "one of this server&#x27;s 64 threads. Open 65; the 65th waits."),
        (&["--db-pool", "5"], "one of 5 database connections. Open six; the sixth gets an empty answer."),
        (&["--fix", "other-server"], "is on another server, http:&#x2f;&#x2f;127.0.0.1:9294."),
    ] {
        let server = Server::start(flags);
        let page = get(server.app, "/").1;
        assert!(page.contains(words), "{flags:?}: {page}");
    }
    let server = Server::start(&[]);
    assert_eq!(json(server.control, "POST", "/resize?max=3&min=3").0, 200);
    assert_eq!(json(server.control, "POST", "/max-stream-age?secs=2.5").0, 200);
    let page = get(server.app, "/").1;
    assert!(page.contains("3 threads, for at most 2.5 s. Open four; they take turns."), "{page}");
}

fn models_json_has_the_models_after_an_id(engine: EngineKind) {
    let server = engine.server(&[]);
    for name in ["a", "b\"\n</script>", "ä🙂"] {
        assert_eq!(
            post(&server, "Content-Type: application/json\r\n", &json!({ "name": name }).to_string())
                .split(' ')
                .nth(1),
            Some("201")
        );
    }
    for (query, wanted) in [
        ("", vec![1, 2, 3]),
        ("?since=0", vec![1, 2, 3]),
        ("?since=1", vec![2, 3]),
        ("?since=3", vec![]),
        ("?since=99", vec![1, 2, 3]),
        ("?since=-5", vec![1, 2, 3]),
        ("?since=x", vec![1, 2, 3]),
        ("?other=2", vec![1, 2, 3]),
        ("?since=9223372036854775807", vec![1, 2, 3]),
    ] {
        let (status, models) = json(server.app, "GET", &format!("/models.json{query}"));
        assert_eq!((status, ids(&models)), (200, wanted), "{query}");
    }
    let models = json(server.app, "GET", "/models.json").1;
    assert_eq!((&models[1]["name"], &models[2]["name"]), (&json!("b\"\n</script>"), &json!("ä🙂")));
    let keys: Vec<_> = models[0].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys.len(), 3);
    let created_at = models[0]["created_at"].as_str().unwrap();
    assert!(
        created_at.len() == "2026-01-01T00:00:00.000Z".len() && created_at.ends_with('Z'),
        "{created_at}"
    );
}

fn a_posted_model_is_created_or_refused_with_one_line(engine: EngineKind) {
    let server = engine.server(&[]);
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let as_json = "Content-Type: application/json; charset=utf-8\r\n";
    let page = "Content-Type: application/x-www-form-urlencoded\r\nAccept: text/html,*/*;q=0.8\r\n";
    let json_page = "Content-Type: application/json\r\nAccept: text/html\r\n";
    let no_page = "Accept: text/html;q=0, application/json\r\n";
    let page_on_two_lines = "Accept: application/json\r\nAccept: text/html;q=0.1\r\n";
    let (longest, too_long) = ("x".repeat(16 * 1024), "x".repeat(16 * 1024 + 1));
    let (longest_form, longest_json) = (format!("name={longest}"), json!({ "name": longest }).to_string());
    let (too_long_form, too_long_json) =
        (format!("name={too_long}"), json!({ "name": too_long }).to_string());
    for (headers, body, status, name) in [
        (form, "name=one", 201, "one"),
        (form, "x=1&name=other&name=a+b%26%C3%A4", 201, "a b&ä"),
        (form, "name=first&name=", 422, ""),
        (as_json, r#"{"name":"first","name":"last"}"#, 201, "last"),
        // Invalid UTF-8 is replaced; any body that is not JSON is read as a form.
        (form, "name=%FF", 201, "\u{fffd}"),
        ("Content-Type: text/plain\r\n", "name=plain", 201, "plain"),
        ("Content-Type: text/plain, application/json\r\n", "name=list", 201, "list"),
        ("Content-Type: text/plain\r\nContent-Type: application/json\r\n", "name=twice", 201, "twice"),
        ("Content-Type: Application/JSON ; charset=utf-8\r\n", r#"{"name":"case"}"#, 201, "case"),
        (form, "name=%00", 422, ""),
        (form, "name=a%00b", 422, ""),
        (as_json, "{\"name\":\"a\\u0000\"}", 422, ""),
        (no_page, "name=a+program", 201, "a program"),
        (page_on_two_lines, "name=a+page", 303, "a page"),
        ("", "name=untyped", 201, "untyped"),
        (as_json, r#"{"name":"two","id":7}"#, 201, "two"),
        (json_page, r#"{"name":"three"}"#, 201, "three"),
        (form, &longest_form, 201, &longest),
        (as_json, &longest_json, 201, &longest),
        (page, "name=four", 303, "four"),
        (form, "name=", 422, ""),
        (page, "name=", 422, ""),
        (form, "", 422, ""),
        (form, "nam=x", 422, ""),
        (form, &too_long_form, 422, ""),
        (as_json, &too_long_json, 422, ""),
        (as_json, r#"{"name":""}"#, 422, ""),
        (as_json, r#"{"name":7}"#, 422, ""),
        (as_json, r#"{"nam":"x"}"#, 422, ""),
        (as_json, r#"["name"]"#, 422, ""),
        (as_json, "{", 422, ""),
        (as_json, "name=x", 422, ""),
    ] {
        let newest = json(server.app, "GET", "/models.json").1.as_array().unwrap().last().cloned();
        let answer = post(&server, headers, body);
        let (got, text) = split(&answer);
        assert_eq!(got, status, "{headers}{body}");
        let now = json(server.app, "GET", "/models.json").1.as_array().unwrap().last().cloned();
        match status {
            201 => {
                let model: Value = serde_json::from_str(&text).unwrap();
                assert_eq!((&model["name"], Some(&model)), (&json!(name), now.as_ref()));
                assert!(answer.contains("content-type: application/json; charset=utf-8\r\n"));
            }
            303 => {
                assert!(answer.contains("\r\nlocation: /\r\n"), "{answer}");
                assert_eq!(now.unwrap()["name"], name);
            }
            _ => {
                assert_eq!(now, newest, "{body} created a model");
                assert!(text.starts_with("name: ") && text.lines().count() == 1, "{text}");
            }
        }
    }
}

#[test]
fn forms_of_other_origins_and_for_other_hosts_are_refused() {
    let server = Server::start(&["--allow-host", "example.com"]);
    let own = format!("Host: {}\r\n", server.app);
    let origin = |origin: &str| format!("{own}Origin: {origin}\r\n");
    let site = |site: &str| format!("{own}Sec-Fetch-Site: {site}\r\n");
    for (headers, status) in [
        (String::new(), 201),
        (own.clone(), 201),
        (origin(&format!("http://{}", server.app)), 201),
        (origin(&format!("http://{}", server.app)) + "Sec-Fetch-Site: same-origin\r\n", 201),
        ("Host: example.com\r\nOrigin: http://example.com\r\n".into(), 201),
        (site("same-origin"), 201),
        (site("none"), 201),
        (site("cross-site"), 403),
        (origin("http://evil.example"), 403),
        (origin("http://127.0.0.1"), 403),
        (origin(&format!("http://{}.evil.example", server.app)), 403),
        (origin("null"), 403),
        (origin("null") + "Sec-Fetch-Site: same-origin\r\n", 403),
        ("Origin: null\r\n".into(), 403),
        ("Origin: http://evil.example\r\n".into(), 403),
        ("Host: evil.example\r\n".into(), 403),
        ("Host: evil.example\r\nOrigin: http://evil.example\r\n".into(), 403),
    ] {
        let (got, body) = split(&post(&server, &headers, "name=x"));
        assert_eq!(got, status, "{headers}: {body}");
    }
    assert_eq!(json(server.app, "GET", "/models.json").1.as_array().unwrap().len(), 7);
}

#[test]
fn a_foreign_host_gets_no_page() {
    let server = Server::start(&["--allow-host", "example.com,.test", "--allow-host", "other.example"]);
    let paths = ["/", "/models.json", "/models/live_stream", "/nowhere"];
    for (host, is_ours) in [
        ("localhost", true),
        ("tab9.localhost:1", true),
        ("127.0.0.1:9292", true),
        ("[::1]:9292", true),
        ("EXAMPLE.com:80", true),
        ("a.test", true),
        ("other.example", true),
        ("evil.example", false),
        ("sub.example.com", false),
        ("test", false),
        ("10.0.0.1", false),
        ("localhost.evil.example", false),
        ("", false),
    ] {
        for path in paths.iter().filter(|path| !is_ours || **path == "/") {
            let (status, body) =
                split(&ask(server.app, &format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n")));
            assert_eq!(status, if is_ours { 200 } else { 403 }, "{host} {path}: {body}");
            assert!(is_ours || (body.contains("--allow-host") && body.lines().count() == 1), "{body}");
        }
        let up = ask(server.app, &format!("GET /up HTTP/1.0\r\nHost: {host}\r\n\r\n"));
        assert_eq!(split(&up), (200, "up\n".into()), "a health check from {host}");
    }
}

fn only_the_newest_models_are_kept(engine: EngineKind) {
    // The default is 1000. PostgreSQL then deletes older ones only at each hundredth id.
    for (flags, theirs, created, kept) in
        [(&["--keep-models", "3"][..], 0, 5, 3..=5), (&[], 1_090, 10, 101..=1_100)]
    {
        let server = engine.server(flags);
        server.other_program().insert(theirs, "theirs");
        for n in 1..=created {
            assert_eq!(create(server.app, &format!("model {n}")).0, 201);
        }
        let models = Value::Array(common::all_models(server.app));
        assert_eq!(ids(&models), kept.collect::<Vec<_>>(), "{flags:?}");
    }
}

/// The ids in the rows of the page of models.
fn ids_of_page(page: &str) -> Vec<i64> {
    let rows = page.split("<tr><td>").skip(1);
    rows.filter_map(|row| row.split_once('<')?.0.parse().ok()).collect()
}

fn the_page_has_the_newest_models_and_links_to_the_older_ones(engine: EngineKind) {
    let server = engine.server(&[]);
    let theirs = server.other_program();
    let insert = |count: usize, bytes: usize| theirs.insert(count, &"x".repeat(bytes));
    assert!(!get(server.app, "/").1.contains("/?before="));
    insert(100, 10);
    assert!(!get(server.app, "/").1.contains("/?before="), "all 100 models fit on one page");
    insert(50, 10);
    insert(40, 16 * 1024);
    let (mut all, mut next, mut pages) = (Vec::new(), Some("/".to_owned()), 0);
    while let Some(path) = next {
        let (status, page) = get(server.app, &path);
        assert!(status == 200 && page.len() < 400 * 1024, "{path}: {status}, {} bytes", page.len());
        let ids = ids_of_page(&page);
        assert!((1..=100).contains(&ids.len()), "{path}: {ids:?}");
        // A page of older models does not open a stream.
        assert_eq!(page.contains("data-before=\"\""), path == "/", "{path}");
        all.extend(ids);
        pages += 1;
        let link = page.split_once("<a href=\"/?before=").map(|(_, rest)| rest);
        next = link.and_then(|rest| rest.split_once('"')).map(|(id, _)| format!("/?before={id}"));
    }
    assert_eq!(all, (1..=190).rev().collect::<Vec<_>>());
    assert_eq!(pages, 4, "two pages of 16 long names, one of 8 long and 92 short names, and the rest");
    assert_eq!(get(server.app, "/?before=x").0, 422);
    assert_eq!(ids_of_page(&get(server.app, "/?before=3").1), [2, 1]);
    assert_eq!(ids_of_page(&get(server.app, "/?before=-9223372036854775808").1), [0; 0]);
}

fn a_client_that_follows_the_links_of_models_json_gets_every_model_once(engine: EngineKind) {
    let server = engine.server(&[]);
    let theirs = server.other_program();
    if !engine.is_sqlite3() {
        theirs.execute("ALTER TABLE models DROP CONSTRAINT models_name_check");
    }
    for bytes in [10, engine.times(300_000, 50_000), 16 * 1024, 1] {
        theirs.insert(30, &"x".repeat(bytes));
    }
    let models = common::all_models(server.app);
    let ids: Vec<_> = models.iter().map(|model| model["id"].as_i64().unwrap()).collect();
    assert_eq!(ids, (1..=120).collect::<Vec<_>>());
    let longest = models.iter().map(|model| model["name"].as_str().unwrap().len()).max();
    assert_eq!(longest, Some(16 * 1024), "a longer name that another program wrote is truncated");
    let first = ask(server.app, "GET /models.json HTTP/1.0\r\n\r\n");
    assert!(first.contains("\r\nlink: </models.json?since="), "{}", &first[..300]);
    let last = ask(server.app, "GET /models.json?since=100 HTTP/1.0\r\n\r\n");
    assert!(!last.contains("\r\nlink: "), "{}", &last[..300]);
}

fn a_stream_begins_at_the_position_of_its_request(engine: EngineKind) {
    let server = engine.server(&["--update-rate", "50ms"]);
    for name in ["a", "b", "c"] {
        create(server.app, name);
    }
    let warning = "a client requested the models after 99";
    for (header, param, wanted) in [
        (None, None, &[][..]),
        (None, Some("1"), &[2, 3]),
        (None, Some("0"), &[1, 2, 3]),
        (None, Some("3"), &[]),
        (None, Some("x"), &[]),
        (None, Some(""), &[]),
        (None, Some("-1"), &[]),
        (None, Some("1.5"), &[]),
        (None, Some("99999999999999999999"), &[]),
        (Some("1"), None, &[2, 3]),
        (Some("2"), Some("0"), &[3]),
        (Some("0"), Some("2"), &[1, 2, 3]),
        (Some("x"), Some("0"), &[]),
        (Some(""), Some("0"), &[]),
        (Some("99"), None, &[1, 2, 3]),
        (None, Some("99"), &[1, 2, 3]),
    ] {
        let case = format!("header {header:?}, parameter {param:?}");
        let logged = server.log().matches(warning).count();
        let query = param.map(|id| format!("?last_event_id={id}")).unwrap_or_default();
        let header_line = header.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        let request = format!("GET /models/live_stream{query} HTTP/1.0\r\n{header_line}\r\n");
        let mut stream = send(server.app, request.as_bytes());
        let text = read_until(&mut stream, "]\n\n");
        let line = |field: &str| text.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        let models = serde_json::from_str(line("data: ")).unwrap();
        assert_eq!((ids(&models).as_slice(), line("id: ")), (wanted, "3"), "{case}");
        let is_beyond = [header, param].contains(&Some("99"));
        // A separate thread writes the log.
        wait_for(&case, || {
            (server.log().matches(warning).count() - logged >= usize::from(is_beyond)).then_some(())
        });
        assert_eq!(server.log().matches(warning).count() - logged, usize::from(is_beyond), "{case}");
    }
}

#[test]
fn repeated_log_messages_are_limited_and_the_omitted_ones_are_counted() {
    let server = Server::start(&[]);
    for (position, message) in
        [("9223372036854775807", "a client requested the models after"), ("x", "is not the id of a model")]
    {
        for _ in 0..300 {
            let request = format!("HEAD /models.json?since={position} HTTP/1.0\r\n\r\n");
            ask(server.app, &request);
        }
        let left_out = |line: &&str| line.contains(message) && line.contains("were left out");
        wait_for("the number of omitted lines", || {
            server.log().lines().any(|line| left_out(&line)).then_some(())
        });
        let lines = server.log().lines().filter(|line| line.contains(message)).count();
        assert!(lines < 100, "{lines} lines of {message}");
    }
}

fn a_gap_after_a_position_is_reported_in_the_stream_and_counted(engine: EngineKind) {
    let server = engine.server(&["--keep-models", "3"]);
    for n in 1..=10 {
        create(server.app, &format!("model {n}"));
    }
    let gap = ": the table has no models with ids from 3 to 7\n";
    for (n, path) in
        ["/models/live_stream", "/fixes/short-stream/stream", "/fixes/push/stream"].iter().enumerate()
    {
        for (position, has_gap) in [("2", true), ("7", false), ("10", false), ("99", false)] {
            let request = format!("GET {path} HTTP/1.0\r\nLast-Event-ID: {position}\r\n\r\n");
            let until = if position == "10" { "]\n\n" } else { "id: 10\n" };
            let text = read_until(&mut send(server.app, request.as_bytes()), until);
            assert_eq!(text.contains(gap), has_gap, "{path} from {position}: {text}");
        }
        assert_eq!(server.stats()["gaps"], n + 1, "{path}");
    }
}

fn a_stream_begins_with_exactly_these_bytes(engine: EngineKind) {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n\
                x-accel-buffering: no\r\nvary: origin\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunk = |bytes: &str| format!("{:x}\r\n{bytes}\r\n", bytes.len());
    for (flags, first, second) in [
        (&[][..], ": a stream of models\nretry: 3000\nid: 1\ndata: []\n\n", "id: 1\ndata: []\n\n"),
        (
            &["--retry", "1500ms"],
            ": a stream of models\nretry: 1500\nid: 1\ndata: []\n\n",
            "id: 1\ndata: []\n\n",
        ),
        (&["--loop", "faithful"], "data: []\n\n", "data: []\n\n"),
    ] {
        let flags = [flags, &["--update-rate", "200ms"]].concat();
        let server = engine.server(&flags);
        create(server.app, "before");
        let mut stream = send(server.app, b"GET /models/live_stream HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let wanted = format!("{head}{}{}", chunk(first), chunk(second));
        let mut got = vec![0; wanted.len()];
        std::io::Read::read_exact(&mut stream, &mut got).unwrap();
        assert_eq!(String::from_utf8_lossy(&got), wanted, "{flags:?}");
    }
}

fn a_stream_sends_created_models(engine: EngineKind) {
    for flags in [&[][..], &["--loop", "faithful"]] {
        let server = engine.server(&[flags, &["--update-rate", "50ms"]].concat());
        let mut stream = open_stream(server.app);
        // The faithful loop queries in time slices, and loses models that are created between a query and the next
        // slice.
        let text = wait_for("the new model in the stream", || {
            create(server.app, "new\nline");
            let text = read_until(&mut stream, "]\n\n");
            text.contains("new").then_some(text)
        });
        assert!(text.contains("\"name\":\"new\\nline\""), "one line of JSON: {text:?}");
        assert_eq!(text.contains("id: "), flags.is_empty(), "{text:?}");
    }
}

#[test]
fn a_stream_logs_one_line_when_it_opens_and_one_when_its_client_closes() {
    let server = Server::start(&["--update-rate", "100ms"]);
    let stream = open_stream(server.app);
    assert!(server.log().contains("stream opened on thread "), "{}", server.log());
    assert!(!server.log().contains("freed after"));
    drop(stream);
    wait_for("the end of the stream", || server.log().contains("freed after").then_some(()));
    let log = server.log();
    let at = |words: &str| log.find(words).unwrap_or_else(|| panic!("no {words} in {log}"));
    let thread = log.split_once("opened on thread ").unwrap().1.lines().next().unwrap();
    let freed = format!(", thread {thread} freed after ");
    assert!(at("stream opened") < at(" failed (") && at(" failed (") < at(&freed));
    assert!(log.lines().all(|line| line.contains(" INFO")), "{log}");
    let stats = server.wait_for_stats("freed thread", |stats| stats["busy_threads"] == 0);
    assert_eq!((&stats["streams"]["disconnected"], &stats["streams"]["open"]), (&json!(1), &json!(0)));
}

#[test]
fn views_are_read_at_each_request() {
    let folder = tempfile::tempdir().unwrap();
    let views = Path::new(env!("CARGO_MANIFEST_DIR")).join("views");
    let copy = |name: &Path| fs::copy(views.join(name), folder.path().join(name)).unwrap();
    copy(Path::new("application.css"));
    copy(Path::new("palette.css"));
    for below in ["models", "control", "control/steps"] {
        fs::create_dir(folder.path().join(below)).unwrap();
        for entry in fs::read_dir(views.join(below)).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                copy(&Path::new(below).join(entry.file_name()));
            }
        }
    }
    let server = Server::start(&["--views", folder.path().to_str().unwrap()]);
    create(server.app, "<b>bold</b>");
    let embedded = Server::start(&[]);
    create(embedded.app, "<b>bold</b>");
    // The page without the parts that differ between the servers: times, nonces and the control server's address.
    let what_stays = |server: &Server| -> String {
        let page = get(server.app, "/").1.replace(&server.control.to_string(), "");
        let page: Vec<_> = page.lines().filter(|line| !line.contains("<tr><td>")).collect();
        let page = page.join("\n");
        let nonce = page.split_once("nonce=\"").unwrap().1.split_once('"').unwrap().0;
        page.replace(nonce, "")
    };
    assert_eq!(what_stays(&server), what_stays(&embedded));

    let index = folder.path().join("models/index.html");
    for (source, status, body) in [
        ("edited: {% for model in models %}{{ model.name }}{% endfor %}", 200, "edited: &lt;b&gt;bold&lt;"),
        ("{{ newest_id }} {% include \"application.css\" %}", 200, "1 "),
        ("{% if %}", 500, "Internal Server Error\n"),
        ("{% include \"../../../etc/passwd\" %}", 500, "Internal Server Error\n"),
        ("{% include \"nowhere.css\" %}", 500, "Internal Server Error\n"),
        ("mended", 200, "mended"),
    ] {
        fs::write(&index, source).unwrap();
        let (got, page) = get(server.app, "/");
        assert_eq!(got, status, "{source}: {page}");
        assert!(page.starts_with(body), "{source}: {page}");
    }
    fs::remove_file(&index).unwrap();
    assert_eq!(get(server.app, "/"), (500, "Internal Server Error\n".into()));
    assert_eq!(server.log().matches("ERROR").count(), 4, "each failure is logged once: {}", server.log());
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

/// One row per kind of answer, with its `Cache-Control`. Every answer also forbids content type sniffing.
#[test]
fn json_text_and_pages_state_how_they_may_be_cached() {
    let server = Server::start(&["--produce-every", "off", "--database", ":memory:"]);
    let request = |line: &str, fields: &str| format!("{line} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
    for (to, request, status, cached) in [
        (server.app, request("GET /", ""), 200, "no-cache, private"),
        (server.app, request("GET /models.json", ""), 200, "no-cache"),
        (server.app, request("GET /fixes/poll/models.json?rung=etag", ""), 200, "no-cache"),
        (
            server.app,
            request("GET /fixes/poll/models.json?rung=etag", "If-None-Match: *\r\n"),
            304,
            "no-cache",
        ),
        (server.app, request("GET /nowhere", ""), 404, "no-store"),
        (server.app, request("GET /cable", ""), 404, "no-store"),
        (server.app, request("GET /", "Host: localhost\r\n"), 400, "no-store"),
        (server.app, request("POST /models", ""), 422, "no-store"),
        (server.app, request("PUMA /", ""), 501, "no-store"),
        (server.app, "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n".to_owned(), 403, "no-store"),
        (server.app, request("POST /models", "Content-Length: 6\r\n") + "name=x", 201, "no-store"),
        (
            server.app,
            request("POST /models", "Accept: text/html\r\nContent-Length: 6\r\n") + "name=x",
            303,
            "no-store",
        ),
        (server.control, request("GET /stats", ""), 200, "no-store"),
        (server.control, request("GET /threads", ""), 200, "no-store"),
        (server.control, request("GET /timeline", ""), 200, "no-store"),
        (server.control, request("GET /timeline?after=x", ""), 422, "no-store"),
        (server.control, request("GET /nowhere", ""), 404, "no-store"),
        (server.control, request("GET /gc", ""), 404, "no-store"),
    ] {
        let mut client = send(to, request.as_bytes());
        let head = common::read_head(&mut client);
        assert!(head.contains(&format!(" {status} ")), "{request:?}: {head}");
        for field in ["x-content-type-options: nosniff".to_owned(), format!("cache-control: {cached}")] {
            assert_eq!(head.matches(&format!("\r\n{field}\r\n")).count(), 1, "{request:?}: {field}: {head}");
        }
        assert_eq!(head.matches("\r\ncache-control:").count(), 1, "{head}");
    }
}
