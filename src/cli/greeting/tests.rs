use super::*;

fn greeting() -> Greeting<'static> {
    Greeting {
        app: ([127, 0, 0, 1], 9292).into(),
        control: ([127, 0, 0, 1], 9293).into(),
        needs_token: false,
        allowed_hosts: &[],
        threads: PoolSize::new(8, 8).unwrap(),
        max_io_threads: 0,
        fix: None,
        stream_cap: None,
        max_stream_age: None,
        reap_every: Duration::from_secs(1),
        retry: Duration::from_secs(3),
        leased_connections: Some(8),
        checkout_timeout: Duration::from_secs(5),
        streams_at: None,
        is_tiny_http: false,
        notices_by_poll: false,
        has_own_threads: false,
        is_faithful: false,
        database: "ninetabs.sqlite3".to_owned(),
        database_note: "kept; 412 rows from earlier runs".to_owned(),
    }
}

/// The message for the default settings after `change` has modified them.
fn with(change: impl FnOnce(&mut Greeting)) -> String {
    let mut it = greeting();
    change(&mut it);
    it.text(None)
}

/// The line of the message that begins with these words.
fn line<'a>(text: &'a str, words: &str) -> &'a str {
    text.lines().find(|line| line.starts_with(words)).unwrap_or_else(|| panic!("no {words:?} in {text}"))
}

#[test]
fn the_defaults_are_exhausted_by_nine_tabs_or_by_seven_on_one_address() {
    let wanted = format!(
        "\
ninetabs {}: a model of Puma 8 with 8 threads
  Wall       http://127.0.0.1:9293/wall   (start here)
  Dashboard  http://127.0.0.1:9293/
  App        http://127.0.0.1:9292/       fixes: /fixes
  Database   ninetabs.sqlite3             kept; 412 rows from earlier runs
Open nine tabs. 8 stream; tab 9 waits for a thread:
  http://tab1.localhost:9292/?tab=1 … http://tab9.localhost:9292/?tab=9
On one address, tab 7 waits in the browser (six connections per host).
Ctrl-C stops.",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(greeting().text(None), wanted);
    assert_eq!(greeting().text(Some(80)), wanted, "no line is wrapped at 80 columns");
}

#[test]
fn three_threads_are_exhausted_by_four_tabs_below_the_browsers_limit() {
    let text = with(|it| it.threads = PoolSize::new(3, 3).unwrap());
    assert_eq!(line(&text, "Open"), "Open 4 tabs. 3 stream; tab 4 waits for a thread:");
    assert!(text.contains("with 3 threads\n") && text.contains("tab4.localhost"), "{text}");
    assert!(!text.contains("On one address"), "{text}");
    let text = with(|it| it.threads = PoolSize::new(1, 1).unwrap());
    assert_eq!(line(&text, "Open"), "Open 2 tabs. 1 streams; tab 2 waits for a thread:");
    assert!(with(|it| it.threads = PoolSize::new(0, 8).unwrap()).contains("with 0 to 8 threads\n"));
}

#[test]
fn io_bound_threads_raise_the_number_of_streams() {
    let text = with(|it| (it.max_io_threads, it.leased_connections) = (5, Some(13)));
    assert_eq!(
        line(&text, "Open"),
        "Open 14 tabs. 13 stream (8 threads + 5 IO-bound); tab 14 waits for a thread:"
    );
}

#[test]
fn with_more_threads_than_a_user_would_open_tabs_all_nine_stream() {
    let text = with(|it| (it.threads, it.leased_connections) = (PoolSize::new(64, 64).unwrap(), None));
    line(&text, "All nine tabs stream; the limit is 64.");
    assert!(text.contains("http://tab9.localhost:9292/?tab=9"), "{text}");
}

#[test]
fn a_stream_cap_refuses_the_next_tab_and_leaves_threads_for_pages() {
    let text = with(|it| (it.stream_cap, it.fix) = (Some(6), Some("cap".to_owned())));
    line(
        &text,
        "6 tabs stream. Tab 7 is refused at once and retries after 3 s; 2 threads stay available for pages.",
    );
    line(&text, "  Fix        http://127.0.0.1:9292/fixes/cap");
    let text = with(|it| (it.stream_cap, it.retry) = (Some(7), Duration::from_millis(500)));
    line(
        &text,
        "7 tabs stream. Tab 8 is refused at once and retries after 0.5 s; 1 thread stays available for pages.",
    );
    let text = with(|it| (it.stream_cap, it.max_io_threads, it.leased_connections) = (Some(6), 5, Some(13)));
    assert!(text.contains("7 threads stay available"), "five of the six streams are on IO threads: {text}");
    let text = with(|it| (it.stream_cap, it.is_faithful) = (Some(1), true));
    line(&text, "1 tab streams. Tab 2 is refused at once and retries later;");
    line(&with(|it| it.stream_cap = Some(8)), "Open nine tabs. 8 stream; tab 9 waits for a thread:");
}

#[test]
fn a_maximum_stream_age_makes_tabs_take_turns() {
    let text = with(|it| it.max_stream_age = Some(Duration::from_secs(5)));
    line(&text, "Open nine tabs. Tabs beyond 8 take turns of at most 5 s. The reaper checks every 1 s.");
    assert!(!text.contains("waits"), "{text}");
    let capped = with(|it| (it.max_stream_age, it.stream_cap) = (Some(Duration::from_secs(5)), Some(6)));
    line(&capped, "A stream ends after 5 s, and its tab reconnects.");
}

#[test]
fn fewer_database_connections_than_threads_fail_a_tab_instead_of_letting_it_wait() {
    let text = with(|it| it.leased_connections = Some(5));
    line(
        &text,
        "5 database connections for 8 threads: tab 6 gets an empty 200 after 5 s, and pages get a 500.",
    );
    assert!(text.contains("tab6.localhost") && !text.contains("waits for a thread"), "{text}");
    let both = with(|it| (it.leased_connections, it.stream_cap) = (Some(5), Some(5)));
    line(&both, "5 tabs stream. Tab 6 is refused at once");
}

#[test]
fn each_setting_of_the_loop_and_the_front_adds_one_sentence() {
    line(&with(|it| it.notices_by_poll = true), "The thread of a closed tab is freed within milliseconds.");
    line(
        &with(|it| it.is_faithful = true),
        "The article's loop: no ids, and rows are lost between two queries.",
    );
    line(
        &with(|it| it.is_tiny_http = true),
        "tiny_http front: one thread per connection, no reactor, loopback only.",
    );
}

#[test]
fn streams_on_another_server_come_with_the_command_that_starts_it() {
    let text = with(|it| it.streams_at = Some(("http://127.0.0.1:9294", "ninetabs serve …".to_owned())));
    line(&text, "The streams are at http://127.0.0.1:9294, so this server's pool serves pages only.");
    line(&text, "  ninetabs serve …");
    assert!(!text.contains("waits"), "{text}");
}

#[test]
fn an_unspecified_address_is_printed_as_one_that_the_host_check_admits() {
    let text = with(|it| {
        (it.app, it.control) = (([0, 0, 0, 0], 80).into(), (Ipv6Addr::UNSPECIFIED, 81).into());
        it.needs_token = true;
    });
    line(&text, "  App        http://127.0.0.1:80/ ");
    line(&text, "  Wall       http://[::1]:81/wall   (start here)");
    line(
        &text,
        "The app, the wall and the dashboard listen beyond this machine. Requests for localhost, 127.0.0.1 are answered, \
         others get a 403; --allow-host HOST adds one.",
    );
    line(&text, "Append ?token= and the control token to the addresses of the wall and the dashboard.");
    assert!(!text.contains("0.0.0.0") && !text.contains("[::]"), "{text}");
}

#[test]
fn an_address_of_this_host_comes_with_a_hint_and_without_names_that_lead_elsewhere() {
    let hosts = ["a.test".to_owned()];
    let text = Greeting { app: ([192, 0, 2, 7], 80).into(), allowed_hosts: &hosts, ..greeting() }.text(None);
    line(&text, "  App        http://192.0.2.7:80/ ");
    line(&text, "  ninetabs tab http://192.0.2.7:80/models/live_stream");
    assert!(!text.contains("tab1.localhost"), "{text}");
    let hint = line(
        &text,
        "The app listens beyond this machine. Requests for localhost, 127.0.0.1, 192.0.2.7, a.test are",
    );
    assert!(hint.contains("--allow-host HOST") && hint.contains("--control-token"), "{hint}");
}

#[test]
fn sentences_are_wrapped_between_words_and_addresses_are_not() {
    let mut it = greeting();
    (it.stream_cap, it.app) = (Some(6), ([192, 0, 2, 7], 80).into());
    it.streams_at = None;
    for width in [40, 60, 80] {
        let text = it.text(Some(width));
        for line in text.lines().skip(1).filter(|line| !line.starts_with(' ')) {
            assert!(line.chars().count() <= width, "{width}: {line}");
        }
        assert_eq!(
            text.split_whitespace().collect::<Vec<_>>(),
            it.text(None).split_whitespace().collect::<Vec<_>>()
        );
        line(&text, "  ninetabs tab http://192.0.2.7:80/models/live_stream");
    }
}

#[test]
fn the_origins_of_an_app_are_those_under_which_its_pages_open() {
    let of = |address: &str| OpenedAddress(address.parse().unwrap()).origins().join(" ");
    let local = "http://127.0.0.1:80 http://localhost:80 http://*.localhost:80";
    assert_eq!(of("127.0.0.1:80"), local);
    assert_eq!(of("0.0.0.0:80"), local);
    assert_eq!(of("[::1]:80"), "http://[::1]:80 http://localhost:80 http://*.localhost:80");
    assert_eq!(of("192.0.2.7:80"), "http://192.0.2.7:80");
}
