//! Properties that hold for random measurements: they give exactly one limit or "not measured", they never panic, and
//! the same measurements give the same result.

use std::path::Path;
use std::time::Duration;

use proptest::option;
use proptest::prelude::*;

use super::super::{NoteKind, infer, is_measured, verdict};
use super::literals::*;
use crate::lab::acts::ACTS;
use crate::lab::probe::measured::{
    Climb, CloseBy, Cut, CutHow, Free, HeldConnections, Http2, Http2Stop, Http10, LateEvents, LatePage,
    ListeningProcess, Measured, OtherAddress, PageAsk, PageAsks, PageOutcome, ProbedTab, SharedStream,
    SlotReturn, Stopped, TabOutcome, Tries, UncachedPage, WaitPlace, Zombies,
};

const PATHS: [&str; 2] = ["/page", "/up"];

fn time() -> impl Strategy<Value = Duration> {
    prop_oneof![Just(Duration::ZERO), (0..2_000_u64).prop_map(ms), (0..40_000_u64).prop_map(ms)]
}

fn place() -> impl Strategy<Value = Option<WaitPlace>> {
    use WaitPlace::*;
    option::of(prop::sample::select(vec![Kernel, AcceptQueueFull, Unread, Read, Refused]))
}

fn status() -> impl Strategy<Value = u16> {
    prop::sample::select(vec![200, 302, 404, 429, 500, 502, 503, 504])
}

fn page_outcome() -> impl Strategy<Value = PageOutcome> {
    use PageOutcome::*;
    prop_oneof![
        4 => Just(Answered),
        1 => status().prop_map(Status),
        1 => prop::sample::select(vec![Closed, Reset, NotConnected]),
        2 => Just(Nothing),
    ]
}

fn page_ask() -> impl Strategy<Value = PageAsk> {
    (page_outcome(), time(), place()).prop_map(|(outcome, time, place)| PageAsk { outcome, time, place })
}

fn pages() -> impl Strategy<Value = Vec<PageAsks>> {
    let one = (prop::sample::select(PATHS.to_vec()), prop::collection::vec(page_ask(), 0..4));
    let one = one.prop_map(|(path, asks)| PageAsks { path: path.to_owned(), asks });
    prop::collection::vec(one, 0..3)
}

fn outcome() -> impl Strategy<Value = TabOutcome> {
    use TabOutcome::*;
    prop::sample::select(vec![Flows, Late, Waits, NoEvent, Empty, Status, Closed, Reset, NotConnected, Cut])
}

fn tab() -> impl Strategy<Value = ProbedTab> {
    let times = (time(), option::of(time()), option::of(time()), option::of(time()), time());
    (1..60_usize, outcome(), option::of(status()), times, place(), any::<(bool, bool)>(), pages()).prop_map(
        |(number, outcome, status, times, place, (saw_a_cut, is_from_another_sender), pages)| {
            let (opened_at, first_byte, first_event, ended, watched) = times;
            let first_event = first_event
                .filter(|_| matches!(outcome, TabOutcome::Flows | TabOutcome::Late | TabOutcome::Cut));
            ProbedTab {
                number,
                opened_at,
                outcome,
                status,
                first_byte,
                first_event,
                ended,
                watched,
                place,
                saw_a_cut,
                is_from_another_sender,
                pages,
            }
        },
    )
}

fn climb() -> impl Strategy<Value = Climb> {
    (0..6_usize, 0..6_usize, prop::collection::vec(tab(), 0..6), any::<bool>()).prop_map(
        |(streams, pages_until, tabs, met_a_limit)| Climb { streams, pages_until, tabs, met_a_limit },
    )
}

fn connections() -> impl Strategy<Value = HeldConnections> {
    (0..9_usize, 0..9_usize, 0..9_usize, prop::collection::vec(page_ask(), 0..3), place()).prop_map(
        |(n, open_before, open_after, asks, place)| {
            let pages = PATHS.map(str::to_owned).into_iter().zip(asks).collect();
            HeldConnections { n, open_before, open_after, pages, place }
        },
    )
}

fn cuts() -> impl Strategy<Value = Vec<Cut>> {
    let how = prop::sample::select(vec![CutHow::Abrupt, CutHow::Clean, CutHow::Finished]);
    let one = (0..9_usize, time(), time(), how, any::<bool>());
    let one = one.prop_map(|(tab, at, age, how, is_polite)| Cut { tab, at, age, how, is_polite });
    prop::collection::vec(one, 0..5)
}

fn slot_returns() -> impl Strategy<Value = Vec<SlotReturn>> {
    let one = (option::of(time()), 0..3_usize, any::<bool>());
    let one = one.prop_map(|(after, ends_between, is_void)| SlotReturn {
        by: CloseBy::Fin,
        after,
        ends_between,
        is_void,
    });
    prop::collection::vec(one, 0..4)
}

fn stopped() -> impl Strategy<Value = Option<Stopped>> {
    let why = || "why".to_owned();
    let early = prop::sample::select(vec![
        Stopped::Interrupted,
        Stopped::UnstablePage { path: "/page".to_owned(), answers: why() },
        Stopped::Unreachable { why: why() },
        Stopped::NotAStream { what: why() },
        Stopped::Certificate { why: why() },
        Stopped::StreamsFinish { after: secs(2.0) },
        Stopped::OwnLimit { why: why(), held: 3 },
        Stopped::Leak,
    ]);
    prop_oneof![6 => Just(None), 1 => early.prop_map(Some)]
}

fn tries_strategy() -> impl Strategy<Value = Tries> {
    (0..4_usize, 0..4_usize).prop_map(|(flowed, of)| Tries { flowed: flowed.min(of), of })
}

/// Random measurements of the staircase.
fn steps() -> impl Strategy<Value = Measured> {
    let asks =
        (prop::collection::vec(climb(), 0..3), prop::collection::vec(tab(), 0..4), any::<(bool, bool)>());
    (asks, option::of(page_ask()), cuts(), stopped()).prop_map(
        |((climbs, waiting, flags), late, cuts, stopped)| {
            let late_page =
                late.map(|ask| LatePage { path: "/page".to_owned(), ask, is_from_another_sender: flags.0 });
            Measured {
                baseline: PATHS.map(baseline).to_vec(),
                climbs,
                waiting,
                late_page,
                is_blind: flags.1,
                cuts,
                stopped,
                ..Measured::default()
            }
        },
    )
}

/// Random measurements of the experiments.
fn experiments() -> impl Strategy<Value = Measured> {
    let held = (prop::collection::vec(connections(), 0..3), option::of(connections()));
    let gaps = (prop::collection::vec(time(), 0..5), prop::collection::vec(time(), 0..3));
    let address = (tries_strategy(), tries_strategy(), any::<bool>())
        .prop_map(|(other, own, a_stream_ended)| OtherAddress { other, own, a_stream_ended });
    let shared = (0..4_usize, 0..4_usize, option::of(any::<bool>())).prop_map(|(at_once, first, anew)| {
        SharedStream { events_at_once: at_once, events_of_the_first: first, a_new_address_begins_anew: anew }
    });
    let late = (time(), 1..4_usize).prop_map(|(after, at_once)| LateEvents { after, at_once });
    let free = (option::of(time()), option::of(time())).prop_map(|(page, stream)| Free { page, stream });
    let uncached = any::<(bool, bool)>().prop_map(|(plain, uncached)| UncachedPage {
        path: "/page".to_owned(),
        plain,
        uncached,
    });
    let listener = (0..50_usize, 0..50_u64).prop_map(|(descriptors, limit)| ListeningProcess {
        pid: 1,
        name: "ruby".to_owned(),
        threads: 1,
        descriptors,
        limit,
    });
    let http2 =
        (0..50_usize, option::of(any::<bool>()), any::<bool>()).prop_map(|(reached, second, stops)| Http2 {
            reached,
            second_connection: second,
            stopped_by: stops.then_some(Http2Stop::Settings),
            ..Http2::default()
        });
    let zombies = (option::of(time()), option::of(time())).prop_map(|(tab, page)| Zombies {
        n: 3,
        tab,
        page,
        ..Zombies::default()
    });
    (
        (held, gaps, slot_returns(), option::of(address), option::of(tries_strategy())),
        (option::of(shared), option::of(late), option::of(free), prop::collection::vec(uncached, 0..2)),
        (
            prop::collection::vec(listener, 0..2),
            option::of(http2),
            option::of(zombies),
            option::of(0..6_usize),
        ),
        (prop::collection::vec(0..9000_usize, 0..5), any::<(bool, bool, bool)>()),
    )
        .prop_map(|(first, second, third, (arrivals, flags))| {
            let ((idle, kept), (crowded_gaps, lone_gaps), slot_returns, other_address, other_cookie) = first;
            let (shared_stream, late_events, free, uncached_pages) = second;
            let (listeners_at_limit, http2, zombies, streams_after) = third;
            let mut measured = Measured {
                idle,
                kept,
                crowded_gaps,
                lone_gaps,
                slot_returns,
                other_address,
                other_cookie,
                shared_stream,
                late_events,
                free,
                uncached_pages,
                listeners_at_limit,
                http2,
                zombies,
                arrivals,
                http10: streams_after.map(|after| Http10 {
                    flowed: true,
                    streams_after: Some(after),
                    ..Http10::default()
                }),
                slot_went_to_a_fresh_tab: flags.0,
                ..Measured::default()
            };
            measured.target.names_a_cache = flags.1;
            measured.target.tabs = 5;
            if flags.2 {
                measured.target.server = Some("nginx".to_owned());
            }
            measured
        })
}

/// Random measurements of a whole run: the staircase and the experiments.
fn run() -> impl Strategy<Value = Measured> {
    (steps(), experiments()).prop_map(|(steps, experiments)| Measured {
        baseline: steps.baseline,
        climbs: steps.climbs,
        waiting: steps.waiting,
        late_page: steps.late_page,
        is_blind: steps.is_blind,
        cuts: steps.cuts,
        stopped: steps.stopped,
        ..experiments
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_run_has_exactly_one_limit_or_is_not_measured(measured in run()) {
        let findings = infer(&measured);
        prop_assert_eq!(findings.limit.is_some(), is_measured(&measured, &findings).is_ok());
        prop_assert!(!verdict(&measured, &findings).is_empty());
        if let Some(limit) = &findings.limit {
            prop_assert!(!findings.or.contains(&limit.kind));
            prop_assert!(!limit.remedy.is_empty() && !limit.text.is_empty());
        } else {
            prop_assert!(findings.or.is_empty() && !findings.behind);
        }
    }

    #[test]
    fn the_same_run_gives_the_same_findings(measured in run()) {
        let copy = measured.clone();
        let (one, other) = (infer(&measured), infer(&copy));
        prop_assert_eq!(verdict(&measured, &one), verdict(&copy, &other));
        prop_assert_eq!(one, other);
    }

    #[test]
    fn notes_are_in_order_and_without_duplicates(measured in run()) {
        let kinds: Vec<NoteKind> = infer(&measured).notes.iter().map(|note| note.kind).collect();
        prop_assert!(kinds.is_sorted_by(|one, next| one < next), "{:?}", kinds);
    }

    #[test]
    fn every_fix_and_act_of_a_finding_exists(measured in run()) {
        let findings = infer(&measured);
        let limit = findings.limit.iter().map(|limit| (limit.fix, limit.act));
        let notes = findings.notes.iter().map(|note| (note.fix, note.act));
        for (fix, act) in limit.chain(notes) {
            if let Some(fix) = fix {
                let page = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("views/fixes/{fix}.html"));
                prop_assert!(page.is_file(), "{}", fix);
            }
            if let Some(act) = act {
                prop_assert!(ACTS.iter().any(|it| it.number == usize::from(act)), "{}", act);
            }
        }
    }
}
