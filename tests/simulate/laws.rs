//! The laws hold in every scenario, and each broken rule makes the corresponding law fail.

use std::time::Duration;

use ninetabs::lab::claim::Claim;
use ninetabs::lab::interrupt::Interrupt;
use ninetabs::lab::simulate::{Balance, Flaw, HeldBy, Kept, Noticed, Outage, Scenario, run};
use ninetabs_server::thread_pool::PoolSize;
use proptest::prelude::*;

fn claims(scenario: &Scenario) -> Vec<Claim> {
    run(scenario, Kept::None, &Interrupt::never()).unwrap().laws
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn outage(servers: u16) -> impl Strategy<Value = Outage> {
    (1..=servers, 0_u64..60, prop::option::of(1_u64..30)).prop_map(|(server, from, after)| Outage {
        server,
        from: seconds(from),
        until: after.map(|after| seconds(from + after)),
    })
}

fn scenario() -> impl Strategy<Value = Scenario> {
    let size = (1_u16..4, 1_usize..6).prop_flat_map(|(servers, max)| (Just(servers), 0..=max, Just(max)));
    let held_by = prop_oneof![3 => Just(HeldBy::Thread), 1 => Just(HeldBy::EventLoop)];
    let faults = (1_u16..4).prop_flat_map(|servers| {
        (prop::collection::vec(outage(servers), 0..3), prop::collection::vec(outage(servers), 0..3))
    });
    let ages = (prop::option::of(1_u64..10), prop::option::of(1_u64..20), 0_u64..4);
    (size, held_by, faults, ages, any::<(bool, bool, bool, u16)>(), 1_u32..60).prop_map(
        |((servers, min, max), held_by, (killed, stopped), (age, cut, retry), flags, tabs)| {
            let (is_even, is_polled, is_gone, seed) = flags;
            let of = |outages: Vec<Outage>| {
                outages.into_iter().filter(|outage| outage.server <= servers).collect::<Vec<_>>()
            };
            let (killed, stopped) = (of(killed), of(stopped));
            Scenario {
                tabs,
                servers,
                threads: PoolSize::new(min, max).unwrap(),
                held_by,
                max_stream_age: age.map(seconds),
                reap_every: Duration::from_millis(300),
                retry: seconds(retry),
                noticed: if is_polled { Noticed::ByPoll } else { Noticed::BySecondWrite },
                auto_trim_time: seconds(5),
                cut_every: cut.map(seconds),
                balance: if is_even { Balance::RoundRobin } else { Balance::LeastConnections },
                killed,
                stopped,
                engine_gone: if is_gone { vec![(seconds(30), seconds(50))] } else { Vec::new() },
                length: seconds(90),
                seed: seed.into(),
                ..Scenario::default()
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_laws_hold_in_every_scenario(scenario in scenario()) {
        for claim in claims(&scenario) {
            prop_assert!(claim.held, "{}: {:?}", claim.sentence(), scenario);
        }
    }
}

/// Tabs that take turns on the threads of several servers.
fn turns(tabs: u32, age: u64, length: u64) -> Scenario {
    Scenario {
        tabs,
        servers: 2,
        max_stream_age: Some(seconds(age)),
        pages_per_second: 0.0,
        length: seconds(length),
        ..Scenario::default()
    }
}

/// Whether the law with this name holds. It must be among the claims.
fn holds(scenario: &Scenario, law: &str) -> bool {
    let claims = claims(scenario);
    let claim = claims.iter().find(|claim| claim.claim == law);
    claim.unwrap_or_else(|| panic!("{law} is not among {claims:?}")).held
}

#[test]
fn a_tab_has_a_turn_every_n_by_t_times_the_age() {
    for (tabs, age) in [(64, 5), (200, 5), (1_000, 2), (64, 60)] {
        assert!(holds(&turns(tabs, age, 3_600), "N/T × age"), "{tabs} tabs, {age} s");
    }
}

#[test]
fn a_broken_rule_makes_a_law_fail() {
    let overtaken = "requests that overtook another one";
    let stranded = "time in which a thread was idle while a request was queued";
    let together = "streams that began together and ended together";
    // Threads that are sometimes idle, and are notified.
    let mut sometimes_idle = turns(18, 5, 600);
    sometimes_idle.pages_per_second = 2.0;
    for (flaw, law, scenario) in [
        (Flaw::Lifo, overtaken, turns(64, 5, 600)),
        (Flaw::LostWakeUp, stranded, sometimes_idle),
        (Flaw::NoJitter, together, turns(64, 60, 1_800)),
    ] {
        assert!(holds(&scenario, law), "{law}");
        assert!(!holds(&Scenario { flaw: Some(flaw), ..scenario }, law), "{flaw:?}: {law}");
    }
}
