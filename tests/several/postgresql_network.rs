//! The network between servers and PostgreSQL: a link that is cut, a slow one, and a name server that does not answer.

#[cfg(target_os = "linux")]
pub mod cut;

use std::time::Duration;

use crate::common::batch::batch;
use crate::common::create;
use crate::common::models::{self, open_tab_at};
use crate::common::postgres::engine;
use crate::common::relay::Relay;

batch! {
    crate::several::BATCH:
    over_a_slow_link_each_model_arrives_once_and_in_order_and_one_check_serves_many_notifications,
}

const PUSH: &str = "/fixes/push/stream";

fn over_a_slow_link_each_model_arrives_once_and_in_order_and_one_check_serves_many_notifications() {
    let Some(engine) = engine() else { return };
    let database = engine.database();
    let relay = Relay::start(database.socket(), Duration::from_millis(200));
    let slow = database.server(&["--threads", "1", "--database", &database.url_at(relay.address)]);
    let tab = open_tab_at(&slow, PUSH, "tab 1", "0");
    let listening = |it: &serde_json::Value| it["engine"]["listening"] == true;
    let before = slow.wait_for_stats("notifications", listening);
    // One notification per commit.
    database.psql(
        "DO $$ BEGIN FOR n IN 1..100 LOOP INSERT INTO models (name) VALUES ('theirs'); COMMIT; END LOOP; END $$",
    );
    assert_eq!(create(slow.app, "ours").0, 201);
    models::expect_ids(&tab, &(1..=101).collect::<Vec<i64>>(), "the tab");
    let count = |stats: &serde_json::Value, name: &str| stats["engine"][name].as_u64().unwrap();
    let after = slow.wait_for_stats("all notifications", |it| count(it, "notifications") > 100);
    let since = |name: &str| count(&after, name) - count(&before, name);
    assert!(since("checks") < since("notifications"), "{before}\n{after}");
}
