//! The minimum that must work: a page, and nine tabs on eight threads.

use crate::common::{self, PATIENCE, Server, get, open_stream, send};

#[test]
fn a_page_is_served() {
    let server = Server::start(&[]);
    assert_eq!(get(server.app, "/up").0, 200);
    let (status, page) = get(server.app, "/");
    assert_eq!(status, 200);
    assert!(page.contains("<template"));
}

#[test]
fn the_ninth_tab_waits_until_another_closes() {
    let server = Server::start(&["--update-rate", "100ms"]);
    let mut tabs: Vec<_> = (0..8).map(|_| open_stream(server.app)).collect();
    let mut ninth = send(server.app, b"GET /models/live_stream HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let stats = server.wait_for_stats("queued ninth tab", |stats| stats["backlog"] == 1);
    assert_eq!((&stats["busy_threads"], &stats["pool_capacity"]), (&9.into(), &0.into()));

    tabs.pop();
    ninth.set_read_timeout(Some(PATIENCE)).unwrap();
    common::read_until(&mut ninth, "data: ");
    assert_eq!(server.stats()["backlog"], 0);
}

#[test]
fn the_binary_does_not_contain_the_path_of_the_cargo_home() {
    let cargo_home = std::env::var_os("CARGO_HOME").map(std::path::PathBuf::from);
    let home =
        cargo_home.or_else(|| Some(std::path::PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let home = home.unwrap().to_str().unwrap().to_owned();
    // Debug information contains the paths of C sources. A release has no debug information, so it is removed here.
    let Some(strip) = common::program("strip") else { return };
    let folder = tempfile::tempdir().unwrap();
    let stripped = folder.path().join("ninetabs");
    let status = std::process::Command::new(strip)
        .arg("-o")
        .args([stripped.as_os_str(), env!("CARGO_BIN_EXE_ninetabs").as_ref()])
        .status();
    assert!(status.unwrap().success());
    let binary = std::fs::read(stripped).unwrap();
    let mut places = binary.windows(home.len()).filter(|window| *window == home.as_bytes());
    assert!(places.next().is_none(), "{home} is in the binary");
}
