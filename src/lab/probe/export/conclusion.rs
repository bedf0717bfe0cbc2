//! The end of the output: one sentence, the limit, its remedy, the notes, and commands to try next.

use super::super::super::narrator::wrapped;
use super::super::findings::{Finding, Findings, LimitKind, NoteKind};
use super::super::thresholds::ThresholdVerdict;
use super::ProbedRun;
use super::layout::{MarginEntry, TextLook, WIDTH};
use super::rows;

/// The lines that are printed when a run has ended.
pub fn conclusion(run: &ProbedRun<'_>, look: TextLook) -> Vec<String> {
    let findings = run.findings;
    let mut lines = rows::sent(run.measured).lines(look);
    lines.push(String::new());
    let sentence = wrapped(&look.signs.text(run.sentence), WIDTH);
    lines.extend(sentence.iter().map(|line| look.strong(line)));
    let entries = entries(findings).into_iter().chain(failures(run.verdict)).chain(next(run.next));
    let entries: Vec<MarginEntry> = entries.collect();
    if !entries.is_empty() {
        lines.push(String::new());
        lines.extend(entries.iter().flat_map(|entry| entry.lines(look)));
    }
    lines
}

/// The limit, the notes and the advice.
fn entries(findings: &Findings) -> Vec<MarginEntry> {
    let mut entries = Vec::new();
    if let Some(limit) = &findings.limit {
        entries.push(MarginEntry {
            margin: "limit",
            paragraphs: vec![heading(limit, findings), limit.text.clone()],
        });
        let see = limit.see.as_ref().map(|command| format!("See it: {command}")).unwrap_or_default();
        entries.push(match limit.remedy.as_str() {
            "" => MarginEntry { margin: "", paragraphs: vec![see] },
            remedy => MarginEntry { margin: "remedy", paragraphs: vec![remedy.to_owned(), see] },
        });
    }
    entries.extend(findings.notes.iter().filter(|note| is_shown(note)).flat_map(note));
    let advice = |text: &String| MarginEntry { margin: "advice", paragraphs: vec![text.clone()] };
    entries.extend(findings.advice.iter().map(advice));
    entries
}

/// `DATABASE POOL (database-pool), or workers, behind the proxy`.
pub fn heading(limit: &Finding<LimitKind>, findings: &Findings) -> String {
    let mut heading = format!("{} ({})", limit.kind.title(), limit.kind.name());
    for other in &findings.or {
        heading += &format!(", or {}", other.name());
    }
    if findings.is_proxied {
        heading += ", behind the proxy";
    }
    heading
}

/// Whether a note is printed here. The return of a slot already has its line among the facts, so its note is printed
/// only if a slot was lost and there is something to fix.
fn is_shown(note: &Finding<NoteKind>) -> bool {
    let class = note.evidence.get("class").and_then(|class| class.as_str());
    note.kind != NoteKind::SlotReturn || class == Some("lost")
}

/// A note that changes the meaning of the run is printed with a title and a separate remedy. Any other note takes a
/// line or two.
fn note(note: &Finding<NoteKind>) -> Vec<MarginEntry> {
    use NoteKind::{Buffered, Cached, Compressed, Leak, NotAStream, OwnLimit, Quiet, Unreachable};
    let is_loud = [Buffered, Cached, Compressed, Leak, NotAStream, OwnLimit, Quiet, Unreachable];
    if !is_loud.contains(&note.kind) {
        let text = format!("{}: {} {}", note.kind.name(), note.text, note.remedy);
        return vec![MarginEntry { margin: "note", paragraphs: vec![text.trim_end().to_owned()] }];
    }
    let text = format!("{} ({}): {}", note.kind.title(), note.kind.name(), note.text);
    let remedy = MarginEntry { margin: "remedy", paragraphs: vec![note.remedy.clone()] };
    vec![MarginEntry { margin: "note", paragraphs: vec![text] }, remedy]
}

/// Thresholds that do not hold, or whose figure was not measured.
fn failures(verdict: &ThresholdVerdict) -> Vec<MarginEntry> {
    let failed = |text: String| MarginEntry { margin: "failed", paragraphs: vec![text] };
    match verdict {
        ThresholdVerdict::Fails(failures) => failures.iter().map(|it| failed(it.to_string())).collect(),
        ThresholdVerdict::NotMeasured(Some(threshold)) => {
            vec![failed(format!("{threshold}: its figure was not measured"))]
        }
        ThresholdVerdict::Holds | ThresholdVerdict::NotMeasured(None) | ThresholdVerdict::Interrupted => {
            Vec::new()
        }
    }
}

/// Commands, each on a line of its own.
fn next(commands: &[String]) -> Vec<MarginEntry> {
    match commands {
        [] => Vec::new(),
        commands => vec![MarginEntry { margin: "next", paragraphs: commands.to_vec() }],
    }
}
