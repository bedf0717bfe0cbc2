//! Compares a run with the thresholds of `--fail-below`, `--fail-slot` and `--fail-on`.

use std::fmt;
use std::time::Duration;

use super::findings::{FindingKind, Findings, LimitKind};
use super::measured::{Measured, Stopped};

/// The thresholds of the command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Thresholds {
    /// `--fail-below`: the minimum number of streams beside which every page has to be answered.
    pub streams: Option<usize>,
    /// `--fail-slot`: the maximum time that a slot may take to return.
    pub slot: Option<Duration>,
    /// `--fail-on`: kinds that must not be found.
    pub kinds: Vec<FindingKind>,
}

/// Whether the thresholds hold, which determines the exit status of the command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ThresholdVerdict {
    /// The run was measured, and every threshold holds.
    Holds,
    /// The run was measured, and these thresholds do not hold.
    Fails(Vec<FailedThreshold>),
    /// The server, or the figure that this threshold needs, was not measured.
    NotMeasured(Option<Threshold>),
    /// A signal ended the run.
    Interrupted,
}

impl ThresholdVerdict {
    /// The exit status: 0, 1, 3 or 130.
    pub fn status(&self) -> u8 {
        match self {
            ThresholdVerdict::Holds => 0,
            ThresholdVerdict::Fails(_) => 1,
            ThresholdVerdict::NotMeasured(_) => 3,
            ThresholdVerdict::Interrupted => 130,
        }
    }
}

/// One of the thresholds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threshold {
    /// `--fail-below`
    Streams(usize),
    /// `--fail-slot`
    Slot(Duration),
    /// `--fail-on`
    Kind(FindingKind),
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Threshold::Streams(n) => write!(f, "--fail-below {n}"),
            Threshold::Slot(time) => write!(f, "--fail-slot {}", time.as_secs_f64()),
            Threshold::Kind(kind) => write!(f, "--fail-on {}", kind.name()),
        }
    }
}

/// A threshold that does not hold, and the figure that it was compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedThreshold {
    /// The threshold.
    pub threshold: Threshold,
    /// The figure.
    pub found: FoundFigure,
}

/// The figure of a threshold that does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FoundFigure {
    /// The lowest number of streams beside which every page was answered.
    PagesUntil(usize),
    /// The longest return of a slot.
    Slot(Duration),
    /// A slot did not return while it was watched.
    LostSlot,
    /// The kind was found.
    Kind,
}

impl fmt::Display for FailedThreshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FailedThreshold { threshold, found } = self;
        match found {
            FoundFigure::PagesUntil(0) => write!(f, "{threshold}: pages are not answered beside any stream"),
            FoundFigure::PagesUntil(1) => write!(f, "{threshold}: pages are answered beside 1 stream"),
            FoundFigure::PagesUntil(n) => write!(f, "{threshold}: pages are answered beside {n} streams"),
            FoundFigure::Slot(time) => {
                write!(f, "{threshold}: a slot took {:.1} s to return", time.as_secs_f64())
            }
            FoundFigure::LostSlot => write!(f, "{threshold}: a slot did not return"),
            FoundFigure::Kind => write!(f, "{threshold}: the run found it"),
        }
    }
}

/// Compares a run with its thresholds. A threshold that fails takes precedence over one whose figure is missing.
pub fn held(measured: &Measured, findings: &Findings, thresholds: &Thresholds) -> ThresholdVerdict {
    match &measured.stopped {
        Some(Stopped::Interrupted) => return ThresholdVerdict::Interrupted,
        None | Some(Stopped::Leak | Stopped::OwnLimit { .. }) => {}
        Some(_) => return ThresholdVerdict::NotMeasured(None),
    }
    let Some(limit) = &findings.limit else { return ThresholdVerdict::NotMeasured(None) };
    let (mut failures, mut missing) = (Vec::new(), None);
    if let Some(least) = thresholds.streams {
        let threshold = Threshold::Streams(least);
        match measured.climbs.iter().map(|climb| climb.pages_until).min() {
            Some(low) if low < least => {
                failures.push(FailedThreshold { threshold, found: FoundFigure::PagesUntil(low) })
            }
            Some(_) => {}
            None => missing = missing.or(Some(threshold)),
        }
    }
    if let Some(most) = thresholds.slot {
        let threshold = Threshold::Slot(most);
        match worst_return(measured) {
            Some(Some(worst)) if worst <= most => {}
            Some(Some(worst)) => {
                failures.push(FailedThreshold { threshold, found: FoundFigure::Slot(worst) })
            }
            Some(None) => failures.push(FailedThreshold { threshold, found: FoundFigure::LostSlot }),
            // Without a limit, no tab waits for a slot, so no return is measured.
            None if limit.kind == LimitKind::NoneFound => {}
            None => missing = missing.or(Some(threshold)),
        }
    }
    for kind in &thresholds.kinds {
        if findings.has(*kind) {
            failures.push(FailedThreshold { threshold: Threshold::Kind(*kind), found: FoundFigure::Kind });
        }
    }
    match (failures.is_empty(), missing) {
        (false, _) => ThresholdVerdict::Fails(failures),
        (true, Some(threshold)) => ThresholdVerdict::NotMeasured(Some(threshold)),
        (true, None) => ThresholdVerdict::Holds,
    }
}

/// The longest time that a slot took to return: `None` if none was measured, `Some(None)` if a slot was lost.
fn worst_return(measured: &Measured) -> Option<Option<Duration>> {
    let returns = || measured.slot_returns.iter().filter(|it| !it.is_void);
    if returns().any(|it| it.after.is_none()) {
        return Some(None);
    }
    returns().filter_map(|it| it.after).max().map(Some)
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::super::findings::{Finding, NoteKind};
    use super::super::measured::{Climb, CloseBy, SlotReturn};
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn finding<K>(kind: K) -> Finding<K> {
        let (text, remedy) = (String::new(), String::new());
        Finding { kind, evidence: Map::new(), text, remedy, fix: None, act: None, see: None }
    }

    fn found(limit: Option<LimitKind>, notes: &[NoteKind]) -> Findings {
        Findings {
            limit: limit.map(finding),
            or: Vec::new(),
            behind: false,
            is_proxied: false,
            notes: notes.iter().copied().map(finding).collect(),
            advice: Vec::new(),
        }
    }

    fn workers() -> Findings {
        found(Some(LimitKind::Workers), &[NoteKind::SlotReturn])
    }

    fn returns(after: Option<Duration>, is_void: bool) -> SlotReturn {
        SlotReturn { by: CloseBy::Fin, after, ends_between: 0, is_void }
    }

    /// A run with five streams. Each climb found this number of streams beside which the pages answer.
    fn five(pages_until: &[usize], slot_returns: &[SlotReturn]) -> Measured {
        let climb = |until: &usize| Climb { streams: 5, pages_until: *until, ..Climb::default() };
        Measured {
            climbs: pages_until.iter().map(climb).collect(),
            slot_returns: slot_returns.to_vec(),
            ..Measured::default()
        }
    }

    fn below(streams: usize) -> Thresholds {
        Thresholds { streams: Some(streams), ..Thresholds::default() }
    }

    fn slot(seconds: u64) -> Thresholds {
        Thresholds { slot: Some(s(seconds)), ..Thresholds::default() }
    }

    fn on(kind: FindingKind) -> Thresholds {
        Thresholds { kinds: vec![kind], ..Thresholds::default() }
    }

    fn status(measured: &Measured, findings: &Findings, thresholds: &Thresholds) -> u8 {
        held(measured, findings, thresholds).status()
    }

    #[test]
    fn a_measured_run_without_thresholds_holds() {
        assert_eq!(held(&five(&[4], &[]), &workers(), &Thresholds::default()), ThresholdVerdict::Holds);
    }

    #[test]
    fn fail_below_compares_with_the_lowest_count_of_pages() {
        let measured = five(&[4], &[]);
        assert_eq!(status(&measured, &workers(), &below(4)), 0);
        assert_eq!(status(&measured, &workers(), &below(5)), 1);
        assert_eq!(status(&five(&[4, 3], &[]), &workers(), &below(4)), 1);
        let none = found(Some(LimitKind::NoneFound), &[]);
        assert_eq!(status(&five(&[40], &[]), &none, &below(40)), 0);
    }

    #[test]
    fn fail_slot_compares_with_the_worst_return() {
        let returned = [returns(Some(s(1)), false), returns(Some(s(4)), false), returns(Some(s(9)), true)];
        assert_eq!(status(&five(&[4], &returned), &workers(), &slot(4)), 0);
        let verdict = held(&five(&[4], &returned), &workers(), &slot(3));
        let ThresholdVerdict::Fails(failures) = verdict else { panic!("{verdict:?}") };
        assert_eq!(failures[0].to_string(), "--fail-slot 3: a slot took 4.0 s to return");
    }

    #[test]
    fn a_lost_slot_exceeds_every_limit() {
        let lost = five(&[4], &[returns(Some(s(1)), false), returns(None, false)]);
        assert_eq!(status(&lost, &workers(), &slot(1_000_000)), 1);
    }

    #[test]
    fn a_run_without_a_limit_passes_fail_slot() {
        assert_eq!(status(&five(&[40], &[]), &found(Some(LimitKind::NoneFound), &[]), &slot(1)), 0);
    }

    #[test]
    fn a_threshold_whose_figure_was_not_measured_is_not_measured() {
        let void = five(&[4], &[returns(Some(s(1)), true), returns(None, true)]);
        let verdict = held(&void, &workers(), &slot(2));
        assert_eq!(
            (verdict.status(), verdict),
            (3, ThresholdVerdict::NotMeasured(Some(Threshold::Slot(s(2)))))
        );
        // A threshold that fails is a result even if the figure of another one is missing.
        let both = Thresholds { streams: Some(5), ..slot(2) };
        assert_eq!(status(&void, &workers(), &both), 1);
    }

    #[test]
    fn fail_on_checks_the_limit_and_the_notes() {
        let measured = five(&[4], &[]);
        for (kind, expected) in [
            (FindingKind::Limit(LimitKind::Workers), 1),
            (FindingKind::Limit(LimitKind::Connections), 0),
            (FindingKind::Note(NoteKind::SlotReturn), 1),
            (FindingKind::Note(NoteKind::Leak), 0),
        ] {
            assert_eq!(status(&measured, &workers(), &on(kind)), expected, "{kind:?}");
        }
        // A second reading does not count.
        let findings = Findings { or: vec![LimitKind::Connections], ..workers() };
        assert_eq!(status(&measured, &findings, &on(FindingKind::Limit(LimitKind::Connections))), 0);
    }

    #[test]
    fn a_run_that_a_leak_ended_counts_as_measured() {
        let measured = Measured { stopped: Some(Stopped::Leak), ..five(&[4], &[]) };
        let findings = found(Some(LimitKind::Workers), &[NoteKind::Leak]);
        assert_eq!(status(&measured, &findings, &below(4)), 0);
        assert_eq!(status(&measured, &findings, &on(FindingKind::Note(NoteKind::Leak))), 1);
    }

    #[test]
    fn a_server_that_was_not_measured_never_fails_a_threshold() {
        let text = String::new;
        let all = Thresholds {
            streams: Some(5),
            slot: Some(s(1)),
            kinds: vec![FindingKind::Note(NoteKind::Unreachable)],
        };
        let stops = [
            Stopped::Unreachable { why: text() },
            Stopped::NotAStream { what: text() },
            Stopped::UnstablePage { path: text(), answers: text() },
            Stopped::Certificate { why: text() },
            Stopped::StreamsFinish { after: s(1) },
            Stopped::OwnLimit { why: text(), held: 5 },
        ];
        for stopped in stops {
            let measured = Measured { stopped: Some(stopped), ..five(&[2], &[]) };
            let findings = found(None, &[NoteKind::Unreachable]);
            assert_eq!(held(&measured, &findings, &all), ThresholdVerdict::NotMeasured(None), "{measured:?}");
        }
        // The same holds for a run without a limit: no stream delivers an event and no page stops, or a cache answered.
        assert_eq!(status(&five(&[40], &[]), &found(None, &[NoteKind::Cached]), &all), 3);
    }

    #[test]
    fn an_interrupted_run_has_exit_status_130() {
        let measured = Measured { stopped: Some(Stopped::Interrupted), ..five(&[2], &[]) };
        assert_eq!(held(&measured, &workers(), &below(5)).status(), 130);
    }
}
