//! The README's picture of the wall, taken from a real run.
//!
//! `NINETABS_PICTURES=1 cargo test --test all pictures` writes it to `docs/wall.png`.

use std::fs;

use super::root;
use crate::common::Server;
use crate::common::chromedriver::Browser;

/// Maximum size of the picture, in bytes.
const MOST_BYTES: usize = 150 * 1024;

#[test]
fn the_picture_of_the_readme_shows_the_wall_with_nine_tabs() {
    let Some(browser) = Browser::start_with(&["--window-size=1280,860"]) else { return };
    let server = Server::start(&["--produce-every", "1"]);
    let wall = browser.first_tab();
    browser.goto(&wall, &format!("http://{}/wall", server.control));
    let of = |state: &str| format!("document.querySelectorAll('[data-tab][data-state=\"{state}\"]').length");
    browser.wait_for(&wall, &format!("{} === 8 && {} === 1", of("streaming"), of("waiting-for-thread")));
    // After this time, the lanes show a few writes of each stream.
    server.wait_for_stats("streams of 8 s", |stats| stats["streams"]["oldest_age_s"].as_f64() > Some(8.0));
    let picture = browser.screenshot(&wall);
    assert!(picture.starts_with(b"\x89PNG") && picture.len() <= MOST_BYTES, "{} bytes", picture.len());
    if std::env::var_os("NINETABS_PICTURES").is_some() {
        fs::write(root().join("docs/wall.png"), picture).unwrap();
    }
}

#[test]
fn the_committed_picture_of_the_wall_is_small() {
    let picture = fs::read(root().join("docs/wall.png")).unwrap();
    assert!(picture.starts_with(b"\x89PNG") && picture.len() <= MOST_BYTES, "{} bytes", picture.len());
}
