//! Compares the thread pool with a model of Puma's rules.
//!
//! Random sequences of operations are applied to a real pool and to counters without threads (`model`). After each
//! operation the two must agree (`pair`) on all statistics, on the running jobs, on the order in which jobs were
//! started, and on the jobs that were not served. At the end, each job must have run exactly once or been dropped, and
//! the timeline must be consistent with this. Further tests compare the pool with numbers observed in Puma itself
//! (`numbers`), and check behavior that requires threads: panics and shutdowns (`endings`).

mod endings;
mod model;
mod numbers;
mod pair;

use pair::{End, Op, Pair};
use proptest::prelude::*;

fn op() -> impl Strategy<Value = Op> {
    let which = || 0_usize..60;
    prop_oneof![
        16 => Just(Op::Push(1)),
        6 => (2_usize..6).prop_map(Op::Push),
        20 => which().prop_map(|any| Op::End(any, End::Return)),
        4 => which().prop_map(|any| Op::End(any, End::Panic)),
        12 => which().prop_map(Op::Mark),
        2 => which().prop_map(Op::MarkEnded),
        10 => any::<bool>().prop_map(|force| Op::Trim { force }),
        5 => (0_usize..6, 0_usize..6).prop_map(|(min, max)| Op::Resize(min, max)),
        2 => Just(Op::PoolStats),
        1 => any::<bool>().prop_map(|force| Op::Shutdown { force }),
    ]
}

fn size() -> impl Strategy<Value = (usize, usize, usize)> {
    (1_usize..6).prop_flat_map(|max| (0..=max, Just(max), 0_usize..4))
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 6_000,
        failure_persistence: None,
        max_shrink_time: 120_000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_pool_agrees_with_the_model(
        (min, max, max_io) in size(),
        ops in prop::collection::vec(op(), 1..50),
    ) {
        let mut pair = Pair::new(min, max, max_io);
        for op in &ops {
            pair.act(op);
        }
        pair.close();
    }
}
