//! Runs as literals, for the tests of the exporters: the three runs of the documentation, one that could not connect,
//! and one with many lanes.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::super::findings::{Finding, Findings, LimitKind, NoteKind};
use super::super::measured::{
    Baseline, Climb, CloseBy, Cut, CutHow, Free, HeldConnections, LaneEnd, LaneKind, LatePage, Measured,
    PageAsk, PageAsks, PageOutcome, ProbeLane, ProbeTarget, ProbedTab, SlotReturn, StatFigures, Statistics,
    StatsMoment, TabOutcome, Unit, WaitPlace,
};
use super::super::progress::ProbeProgress;
use super::super::thresholds::ThresholdVerdict;
use super::ProbedRun;

/// A run, and everything else that the exporters take.
pub struct Sample {
    pub measured: Measured,
    pub findings: Findings,
    pub sentence: &'static str,
    pub command: &'static str,
    pub next: Vec<String>,
}

impl Sample {
    pub fn run<'a>(&'a self, verdict: &'a ThresholdVerdict) -> ProbedRun<'a> {
        ProbedRun {
            measured: &self.measured,
            findings: &self.findings,
            sentence: self.sentence,
            verdict,
            command: self.command,
            next: &self.next,
        }
    }

    /// Reports the run step by step, as the procedure would.
    pub fn tell(&self, mut hear: impl FnMut(ProbeProgress<'_>)) {
        let measured = &self.measured;
        measured.baseline.iter().for_each(|page| hear(ProbeProgress::Baseline(page)));
        hear(ProbeProgress::Ready(measured));
        let climb = &measured.climbs[0];
        for tab in &climb.tabs {
            hear(ProbeProgress::Tab(&ProbedTab { number: tab.number, ..ProbedTab::default() }));
            hear(ProbeProgress::TabJudged(tab));
        }
        for tab in &measured.waiting {
            hear(ProbeProgress::Waiting(&ProbedTab { first_event: None, ended: None, ..tab.clone() }));
        }
        for tab in measured.waiting.iter().filter(|tab| tab.first_event.is_none()) {
            hear(ProbeProgress::Waiting(tab));
        }
        measured.cuts.iter().for_each(|cut| hear(ProbeProgress::Cut(cut)));
        for tab in measured.waiting.iter().filter(|tab| tab.first_event.is_some()) {
            hear(ProbeProgress::Waiting(tab));
        }
        if !measured.waiting.is_empty() {
            hear(ProbeProgress::Count(measured));
        }
        hear(ProbeProgress::Doing { what: "listening to the open streams", up_to: s(33.0) });
        measured
            .slot_returns
            .iter()
            .filter(|it| !it.is_void)
            .for_each(|it| hear(ProbeProgress::SlotReturn(it)));
        measured.free.iter().for_each(|it| hear(ProbeProgress::Free(it)));
        measured.idle.iter().for_each(|it| hear(ProbeProgress::Idle(it)));
        measured.kept.iter().for_each(|it| hear(ProbeProgress::Kept(it)));
    }
}

pub fn s(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

pub fn ms(ms: f64) -> Duration {
    Duration::from_secs_f64(ms / 1000.0)
}

fn evidence(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("{other}"),
    }
}

fn found<K>(kind: K, text: &str, remedy: &str, act: Option<u8>) -> Finding<K> {
    Finding {
        kind,
        evidence: evidence(json!({"t_s": 5.0, "status": null})),
        text: text.to_owned(),
        remedy: remedy.to_owned(),
        fix: None,
        act,
        see: act.map(|act| format!("ninetabs reproduce --act {act}")),
    }
}

fn page(path: &str, time_ms: f64) -> Baseline {
    Baseline { path: path.to_owned(), status: 200, time: ms(time_ms) }
}

fn asks(path: &str, answered: usize) -> PageAsks {
    let ask = |number: usize| match number < answered {
        true => PageAsk { outcome: PageOutcome::Answered, time: ms(2.0), place: None },
        false => PageAsk { outcome: PageOutcome::Nothing, time: s(3.0), place: Some(WaitPlace::Kernel) },
    };
    PageAsks { path: path.to_owned(), asks: (0..3).map(ask).collect() }
}

fn flows(number: usize, event_ms: f64, pages: Vec<PageAsks>) -> ProbedTab {
    ProbedTab {
        number,
        outcome: TabOutcome::Flows,
        status: Some(200),
        first_byte: Some(ms(event_ms)),
        first_event: Some(ms(event_ms)),
        watched: s(33.0),
        pages,
        ..ProbedTab::default()
    }
}

fn target(url: &str, server: Option<&str>) -> ProbeTarget {
    ProbeTarget {
        url: url.to_owned(),
        method: "GET".to_owned(),
        http: "1.1".to_owned(),
        unit: Some(Unit::Sse),
        server: server.map(str::to_owned),
        tabs: 40,
        address: Some([127, 0, 0, 1].into()),
        ..ProbeTarget::default()
    }
}

fn held(n: usize, path: &str, outcome: PageOutcome, after: usize) -> HeldConnections {
    let ask = PageAsk { outcome, time: ms(4.0), place: None };
    HeldConnections {
        n,
        open_before: after,
        open_after: after,
        pages: vec![(path.to_owned(), ask)],
        place: None,
    }
}

fn slot(after: f64, ends_between: usize) -> SlotReturn {
    SlotReturn { by: CloseBy::Fin, after: Some(s(after)), ends_between, is_void: false }
}

/// A Rails application with five database connections on eight threads.
pub fn rails() -> Sample {
    let both = |number, event_ms, page| flows(number, event_ms, vec![asks("/page", page), asks("/up", 3)]);
    let mut tabs: Vec<ProbedTab> =
        [204.0, 219.0, 206.0, 207.0].iter().zip(1..).map(|(event, number)| both(number, *event, 3)).collect();
    tabs.push(both(5, 208.0, 0));
    let empty = |number: usize, pages: Vec<PageAsks>| ProbedTab {
        number,
        outcome: TabOutcome::Empty,
        status: Some(200),
        ended: Some(s(5.0)),
        place: Some(WaitPlace::Read),
        pages,
        ..ProbedTab::default()
    };
    let waiting = vec![empty(6, vec![asks("/up", 3)]), empty(7, vec![]), empty(8, vec![])];
    let figures = |capacity| StatFigures {
        program: "Puma".to_owned(),
        max_threads: Some(8),
        pool_capacity: Some(capacity),
        ..StatFigures::default()
    };
    let statistics = |moment, capacity| Statistics { moment, figures: Some(figures(capacity)) };
    let late = PageAsk { outcome: PageOutcome::Status(500), time: s(5.0), place: None };
    let measured = Measured {
        target: target("http://127.0.0.1:3000/stream", None),
        baseline: vec![page("/page", 5.0), page("/up", 2.0)],
        climbs: vec![Climb { streams: 5, pages_until: 4, tabs, met_a_limit: true }],
        waiting,
        late_page: Some(LatePage { path: "/page".to_owned(), ask: late, is_from_another_sender: false }),
        slot_returns: vec![slot(5.4, 1), slot(5.4, 1), slot(5.4, 1)],
        free: Some(Free { page: Some(s(5.3)), stream: Some(s(5.5)) }),
        idle: vec![held(5, "/page", PageOutcome::Answered, 5), held(10, "/page", PageOutcome::Answered, 10)],
        kept: Some(held(5, "/page", PageOutcome::Answered, 5)),
        statistics: vec![statistics(StatsMoment::Before, 8), statistics(StatsMoment::AtLimit, 3)],
        watched: s(33.0),
        requests: 61,
        abandoned_pages: 2,
        ..Measured::default()
    };
    let limit = found(
        LimitKind::DatabasePool,
        "The next tab waits 5.0 s and gets an empty 200. /page fails after the same 5.0 s, /up answers, and Puma \
         has 3 idle threads. Each stream holds a database connection.",
        "Return the connection between queries (Rails 7.2 does), or set pool in database.yml to at least the \
         number of threads.",
        Some(6),
    );
    let mut returned = found(NoteKind::SlotReturn, "5.4 s", "Write heartbeats.", Some(2));
    returned.evidence = evidence(json!({"class": "slow", "ends_between": 1}));
    let notes = vec![
        found(NoteKind::LateFirstEvent, "204-219 ms in each tab; Puma delays it (TCP_CORK)", "", None),
        returned,
        found(NoteKind::StatsDisagree, "Puma reports 3 idle threads while the next tab waits", "", Some(6)),
    ];
    Sample {
        measured,
        findings: Findings {
            limit: Some(limit),
            or: Vec::new(),
            behind: false,
            is_proxied: false,
            notes,
            advice: Vec::new(),
        },
        sentence: "5 streams at the same time; pages that use the database answer beside 4 of them.",
        command: "ninetabs probe http://127.0.0.1:3000/stream --page /page --page /up",
        next: vec![
            "ninetabs tab http://127.0.0.1:3000/stream".to_owned(),
            "ninetabs top --control-url tcp://127.0.0.1:9293".to_owned(),
        ],
    }
}

/// A gunicorn with three synchronous workers, each of which it kills after 8 s.
pub fn gunicorn() -> Sample {
    let tab = |number, page| flows(number, 1.0, vec![asks("/page", page)]);
    let waits = |number| ProbedTab {
        number,
        outcome: TabOutcome::Waits,
        watched: s(3.0),
        first_event: Some(s(7.0)),
        place: Some(WaitPlace::Kernel),
        saw_a_cut: true,
        ..ProbedTab::default()
    };
    let cut = |tab, at, age| Cut { tab, at: s(at), age: s(age), how: CutHow::Abrupt, is_polite: false };
    let climb =
        Climb { streams: 3, pages_until: 2, tabs: vec![tab(1, 3), tab(2, 3), tab(3, 0)], met_a_limit: true };
    let mut kept = held(3, "/page", PageOutcome::Nothing, 0);
    kept.open_before = 0;
    let void = SlotReturn { is_void: true, ..slot(1.0, 0) };
    let measured = Measured {
        target: target("http://127.0.0.1:8000/stream", Some("gunicorn")),
        baseline: vec![page("/page", 2.0)],
        climbs: vec![climb],
        waiting: vec![waits(4), waits(5)],
        cuts: vec![cut(1, 9.3, 9.1), cut(2, 9.3, 8.8), cut(3, 9.4, 8.2)],
        slot_returns: vec![void],
        free: Some(Free { page: Some(ms(2.0)), stream: Some(ms(3.0)) }),
        idle: vec![held(3, "/page", PageOutcome::Nothing, 3)],
        kept: Some(kept),
        watched: s(9.8),
        requests: 40,
        abandoned_pages: 3,
        abandoned_streams: 1,
        ..Measured::default()
    };
    let limit = found(
        LimitKind::Workers,
        "The fourth tab and the page wait in the kernel until a stream ends.",
        "More workers, or threads: gunicorn -k gthread --threads N.",
        Some(1),
    );
    let cuts = found(
        NoteKind::Cut,
        "5 of 5 at 8.2-9.8 s, abrupt.",
        "gunicorn's --timeout kills a worker that streams, unless it uses threads or -k gevent.",
        Some(5),
    );
    let or = vec![LimitKind::Connections];
    Sample {
        measured,
        findings: Findings {
            limit: Some(limit),
            or,
            behind: false,
            is_proxied: false,
            notes: vec![cuts],
            advice: Vec::new(),
        },
        sentence: "3 streams at a time; pages answer beside 2. Each is cut off after 8 to 10 s.",
        command: "ninetabs probe http://127.0.0.1:8000/stream --page /page",
        next: vec!["ninetabs tab http://127.0.0.1:8000/stream".to_owned()],
    }
}

/// Five threads behind an nginx that buffers.
pub fn nginx() -> Sample {
    let tab = |number: usize, pages: Vec<PageAsks>| ProbedTab {
        number,
        outcome: TabOutcome::NoEvent,
        watched: if number == 1 { s(12.0) } else { ms(500.0) },
        pages,
        ..ProbedTab::default()
    };
    let mut tabs: Vec<ProbedTab> =
        (1..=4).map(|number| tab(number, vec![asks("/page", 3), asks("/static", 3)])).collect();
    tabs.push(tab(5, vec![asks("/page", 0), asks("/static", 3)]));
    let last =
        ProbedTab { place: Some(WaitPlace::Read), status: Some(200), ..tab(6, vec![asks("/static", 3)]) };
    let measured = Measured {
        target: target("http://127.0.0.1/stream", Some("nginx")),
        baseline: vec![page("/page", 1.0), page("/static", 0.2)],
        is_blind: true,
        climbs: vec![Climb { streams: 0, pages_until: 4, tabs, met_a_limit: true }],
        waiting: vec![last],
        free: Some(Free { page: Some(s(1.0)), stream: None }),
        watched: s(16.0),
        requests: 43,
        abandoned_pages: 3,
        abandoned_streams: 6,
        ..Measured::default()
    };
    let text = "/page stops at the fifth stream; /static never does.";
    let limit = found(LimitKind::Workers, text, "", None);
    let buffered = found(
        NoteKind::Buffered,
        "the application runs the streams, and nothing reaches the client.",
        "Send X-Accel-Buffering: no, or set proxy_buffering off. Then probe again: the limit of five stays.",
        None,
    );
    Sample {
        measured,
        findings: Findings {
            limit: Some(limit),
            or: Vec::new(),
            behind: true,
            is_proxied: true,
            notes: vec![buffered],
            advice: Vec::new(),
        },
        sentence: "No stream delivers an event, yet 5 of them stop the pages.",
        command: "ninetabs probe http://127.0.0.1/stream --page /page --page /static",
        next: vec!["ninetabs tab http://127.0.0.1/stream".to_owned()],
    }
}

/// A run that could not connect, so that nothing was measured.
pub fn unreachable() -> Sample {
    let why = "127.0.0.1:1 refused the connection\u{1b}[31m".to_owned();
    Sample {
        measured: Measured {
            target: ProbeTarget { http: String::new(), unit: None, ..target("http://127.0.0.1:1/", None) },
            stopped: Some(super::super::measured::Stopped::Unreachable { why }),
            ..Measured::default()
        },
        findings: Findings {
            limit: None,
            or: Vec::new(),
            behind: false,
            is_proxied: false,
            notes: vec![found(NoteKind::Unreachable, "127.0.0.1:1 refused the connection", "", None)],
            advice: vec!["Start the server.".to_owned()],
        },
        sentence: "Not measured: 127.0.0.1:1 refused the connection.",
        command: "ninetabs probe http://127.0.0.1:1/",
        next: Vec::new(),
    }
}

/// Forty tabs with many events each, pages beside them, and connections of every other kind.
pub fn forty_lanes() -> Sample {
    let mut sample = rails();
    let ends = [LaneEnd::ClosedByUs, LaneEnd::Cut, LaneEnd::Refused(Some(503)), LaneEnd::Refused(None)];
    let stream = |number: usize| ProbeLane {
        name: format!("tab {number}"),
        from: ms(number as f64 * 300.0),
        to: s(45.0),
        ticks: (0..400).map(|tick| ms(number as f64 * 300.0 + f64::from(tick) * 80.0)).collect(),
        wait: (number > 35).then(|| (ms(number as f64 * 300.0), s(30.0), Some(WaitPlace::Kernel))),
        end: ends[number % ends.len()],
        ..ProbeLane::default()
    };
    let ask = |number: usize, path: &str, end: LaneEnd| ProbeLane {
        name: path.to_owned(),
        kind: LaneKind::Page,
        from: ms(number as f64 * 100.0),
        to: ms(number as f64 * 100.0 + 30.0),
        end,
        ..ProbeLane::default()
    };
    let idle = |number: usize| ProbeLane {
        name: format!("idle {number}"),
        kind: LaneKind::Held,
        from: s(40.0),
        to: s(42.0 + number as f64 / 10.0),
        ..ProbeLane::default()
    };
    let measured = &mut sample.measured;
    measured.lanes = (1..=40).map(stream).collect();
    measured.lanes.extend((0..360).map(|number| ask(number, "/page?<b>", LaneEnd::Answered)));
    measured.lanes.push(ask(400, "/up", LaneEnd::Refused(Some(500))));
    measured.lanes.extend((0..10).map(idle));
    sample
}

/// All samples.
pub fn all() -> Vec<Sample> {
    vec![rails(), gunicorn(), nginx(), unreachable(), forty_lanes()]
}
