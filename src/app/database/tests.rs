use std::path::PathBuf;

use super::super::adapters::sqlite3::{self, Keep, theirs};
use super::*;

fn database(size: usize, lease_for: LeaseFor) -> (tempfile::TempDir, Arc<Database>) {
    let folder = tempfile::tempdir().unwrap();
    let opened = sqlite3::open(&path(&folder), Keep::Forever).unwrap();
    let database = Database::open(opened, size, Duration::from_millis(50), lease_for).unwrap();
    (folder, database)
}

fn path(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("models.sqlite3")
}

#[test]
fn a_lease_for_an_action_keeps_its_connection_and_one_for_a_query_does_not() {
    for (lease_for, held) in [(LeaseFor::Action, 1), (LeaseFor::Query, 0)] {
        let (_folder, database) = database(2, lease_for);
        let mut lease = database.lease();
        lease.query(None, |db| db.last_id()).unwrap();
        assert_eq!(database.stats().busy, held, "{lease_for:?}");
        drop(lease);
        assert_eq!(database.stats(), Stats { size: 2, busy: 0, waiting: 0, checkout_timeouts: 0 });
    }
}

#[test]
fn a_checkout_from_an_empty_pool_times_out_and_can_be_interrupted() {
    let (_folder, database) = database(1, LeaseFor::Action);
    let mut first = database.lease();
    first.query(None, |db| db.last_id()).unwrap();
    let second = database.lease().query(None, |db| db.last_id());
    assert!(matches!(second, Err(QueryError::Checkout(CheckoutError::Timeout(_)))));
    assert_eq!(database.stats().checkout_timeouts, 1);

    let (_, ended) = crossbeam_channel::bounded(0);
    let third = database.lease().query(Some(&ended), |db| db.last_id());
    assert!(matches!(third, Err(QueryError::Checkout(CheckoutError::Interrupted))));
    database.grow_to(2).unwrap();
    database.lease().query(None, |db| db.last_id()).unwrap();
}

#[test]
fn a_pool_that_shrinks_closes_idle_connections_now_and_others_when_they_are_returned() {
    let (_folder, database) = database(2, LeaseFor::Action);
    let mut held: Vec<_> = (0..4).map(|_| database.lease()).collect();
    database.grow_to(6).unwrap();
    for lease in &mut held {
        lease.query(None, |db| db.last_id()).unwrap();
    }
    database.shrink_to(2);
    assert_eq!((database.stats().size, database.stats().busy), (4, 4));
    held.truncate(3);
    assert_eq!((database.stats().size, database.stats().busy), (3, 3));
    // A pool that grows again opens only the missing connections.
    database.grow_to(4).unwrap();
    assert_eq!((database.stats().size, database.stats().busy), (4, 3));
    database.shrink_to(2);
    drop(held);
    assert_eq!(database.stats(), Stats { size: 2, busy: 0, waiting: 0, checkout_timeouts: 0 });
}

#[test]
fn a_pool_that_grows_before_its_connections_are_returned_keeps_them() {
    let (_folder, database) = database(4, LeaseFor::Action);
    let mut held: Vec<_> = (0..4).map(|_| database.lease()).collect();
    for lease in &mut held {
        lease.query(None, |db| db.last_id()).unwrap();
    }
    database.shrink_to(2);
    assert_eq!((database.stats().size, database.wanted()), (4, 2));
    // No connection is missing, and from now on none may be closed when it is returned.
    database.grow_to(4).unwrap();
    drop(held);
    assert_eq!(database.stats(), Stats { size: 4, busy: 0, waiting: 0, checkout_timeouts: 0 });
}

#[test]
fn many_rows_are_trimmed_at_the_first_create_and_at_every_hundredth_after_it() {
    let (folder, database) = database(1, LeaseFor::Query);
    let theirs = theirs::at(&path(&folder));
    let keep = COUNTED_AT_ONCE + 1;
    let insert = |rows: u32| {
        theirs.execute(&format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
            INSERT INTO models (name, created_at_us) SELECT 'theirs', 1 FROM n"
        ));
    };
    insert(1_998);
    let rows_after = |creates: u32| {
        for _ in 0..creates {
            database.lease().create("ours", keep).unwrap();
            // Another program takes every second id, so all of our ids are odd or all are even.
            insert(1);
        }
        theirs.ask("SELECT count(*) FROM models")
    };
    assert_eq!(rows_after(1), 1_002);
    assert_eq!(rows_after(99), 1_002 + 2 * 99);
    assert_eq!(rows_after(1), 1_002);
    theirs.execute("ALTER TABLE models RENAME TO away");
    database.lease().create("ours", keep).unwrap_err();
    theirs.execute("ALTER TABLE away RENAME TO models");
    assert_eq!(rows_after(98), 1_002 + 2 * 98);
    assert_eq!(rows_after(1), 1_002, "the failed create counts as well");
}

#[test]
fn a_model_beyond_the_greatest_id_is_refused_with_the_cause() {
    let (folder, database) = database(1, LeaseFor::Query);
    theirs::at(&path(&folder)).execute("INSERT INTO models VALUES (9223372036854775807, 'theirs', 1)");
    let error = database.lease().create("ours", 9).unwrap_err();
    assert!(matches!(error, CreateError::OutOfIds(_)), "{error}");
    assert!(error.to_string().contains("the greatest possible id (9223372036854775807)"), "{error}");
}
