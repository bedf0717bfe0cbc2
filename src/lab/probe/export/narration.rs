//! The facts of a run, printed as they become known.
//!
//! On a terminal, the current fact is redrawn in place until the next one begins: a row of tabs grows, a waiting tab
//! changes. In a pipe, each fact is printed once, when it is complete.

use std::io::{self, Write};

use super::super::measured::{
    Baseline, Cut, HeldConnections, LatePage, Measured, PageOutcome, ProbedTab, SlotReturn,
};
use super::super::progress::ProbeProgress;
use super::layout::{FactRow, TextLook};
use super::steps::TabGroup;
use super::{extras, rows, words};

/// Streams that end within this time after each other share a line.
const SAME_MOMENT: std::time::Duration = std::time::Duration::from_secs(3);

/// Where the lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrintManner {
    /// Output goes to a terminal, on which the current fact is redrawn.
    InPlace {
        /// The width of the terminal.
        columns: usize,
    },
    /// Output goes to a pipe or a file.
    Lines,
}

/// The fact that may still change.
enum Current {
    None,
    Baseline(Vec<Baseline>),
    Staircase(TabGroup),
    Waiting(Vec<ProbedTab>),
    Cuts { cuts: Vec<Cut>, took: Vec<usize> },
    Slots(Vec<SlotReturn>),
    Held { idle: Option<HeldConnections>, kept: Option<HeldConnections> },
}

/// Prints a run while it is in progress. Each group of lines, or each redraw, is one write.
pub struct Narration<W> {
    to: W,
    manner: PrintManner,
    look: TextLook,
    current: Current,
    /// A tab that has been opened but not judged yet.
    open: Option<ProbedTab>,
    /// The current step, if it takes a while.
    doing: Option<FactRow>,
    /// Number of lines that the current fact takes on the terminal.
    drawn: usize,
    pages: Vec<Baseline>,
    /// Every tab beyond the last one that streamed, as it was last reported.
    waited: Vec<ProbedTab>,
    /// Paths of the pages that were requested in the staircase and not answered every time.
    stopped: Vec<String>,
    flows: bool,
    has_counted: bool,
    late_page: Option<LatePage>,
    /// Rows of experiments that have been printed.
    extras: Vec<FactRow>,
    failed: Option<io::Error>,
}

impl<W: Write> Narration<W> {
    /// Prints to `to`.
    pub fn new(to: W, manner: PrintManner, look: TextLook) -> Narration<W> {
        Narration {
            to,
            manner,
            look,
            current: Current::None,
            open: None,
            doing: None,
            drawn: 0,
            pages: Vec::new(),
            waited: Vec::new(),
            stopped: Vec::new(),
            flows: false,
            has_counted: false,
            late_page: None,
            extras: Vec::new(),
            failed: None,
        }
    }

    /// Records a step of the run, and prints what it adds.
    pub fn hear(&mut self, progress: ProbeProgress<'_>) {
        if let ProbeProgress::Doing { what, up_to } = progress {
            self.doing = Some(rows::doing(what, up_to));
            self.draw();
            return;
        }
        self.doing = None;
        match progress {
            ProbeProgress::Doing { .. } => {}
            ProbeProgress::Baseline(page) => {
                self.pages.push(page.clone());
                match &mut self.current {
                    Current::Baseline(pages) => pages.push(page.clone()),
                    _ => self.begin(Current::Baseline(vec![page.clone()])),
                }
            }
            ProbeProgress::Ready(measured) => {
                self.current = Current::None;
                self.pages.clone_from(&measured.baseline);
                self.print(&[rows::baseline(&measured.baseline, words::server(measured))]);
            }
            ProbeProgress::Tab(tab) => self.open = Some(tab.clone()),
            ProbeProgress::TabJudged(tab) => self.judged(tab),
            ProbeProgress::Waiting(tab) => self.waiting(tab),
            ProbeProgress::Count(measured) => self.count(measured),
            ProbeProgress::Cut(cut) => self.cut(*cut),
            ProbeProgress::SlotReturn(slot) => match &mut self.current {
                Current::Slots(all) => all.push(*slot),
                _ => self.begin(Current::Slots(vec![*slot])),
            },
            ProbeProgress::Free(free) => {
                self.settle();
                let page = self.first_stopped();
                self.print(&[rows::free(free, page.as_deref(), self.flows)]);
            }
            ProbeProgress::Idle(held) => match &mut self.current {
                Current::Held { idle, kept: None } => *idle = Some(held.clone()),
                _ => self.begin(Current::Held { idle: Some(held.clone()), kept: None }),
            },
            ProbeProgress::Kept(held) => match &mut self.current {
                Current::Held { kept, .. } => *kept = Some(held.clone()),
                _ => self.begin(Current::Held { idle: None, kept: Some(held.clone()) }),
            },
            ProbeProgress::Climb(climb) => {
                self.settle();
                self.print(&[rows::climb(climb)]);
            }
            ProbeProgress::Extra(measured) => {
                self.settle();
                self.extras(measured);
            }
        }
        self.draw();
    }

    /// Prints everything that has not been printed yet. Nothing is redrawn afterward.
    pub fn end(&mut self, measured: &Measured) {
        (self.open, self.doing) = (None, None);
        self.settle();
        // The late page may have ended after the count.
        if self.has_counted
            && measured.late_page != self.late_page
            && let Some(page) = &measured.late_page
            // An answer is not worth a line: the page is answered as soon as a stream ends.
            && page.ask.outcome != PageOutcome::Answered
            && let Some(text) = rows::late_page(page)
        {
            self.print(&[rows::late(text)]);
        }
        self.extras(measured);
    }

    /// Returns the error of the first write that failed.
    pub fn written(&mut self) -> io::Result<()> {
        self.failed.take().map_or(Ok(()), Err)
    }

    fn judged(&mut self, tab: &ProbedTab) {
        self.open = None;
        self.flows |= tab.first_event.is_some();
        self.note_stopped(tab);
        // A tab that was only late counts as a step after all, and no longer as a waiting tab.
        self.waited.retain(|it| it.number != tab.number);
        if let Current::Waiting(tabs) = &mut self.current {
            tabs.retain(|it| it.number != tab.number);
        }
        match &mut self.current {
            Current::Staircase(group) => {
                if let Err(other) = group.join(tab.clone()) {
                    self.begin(Current::Staircase(TabGroup::of(other)));
                }
            }
            _ => self.begin(Current::Staircase(TabGroup::of(tab.clone()))),
        }
    }

    fn waiting(&mut self, tab: &ProbedTab) {
        self.open = None;
        self.note_stopped(tab);
        let known = self.waited.iter_mut().find(|it| it.number == tab.number);
        let is_known = known.is_some();
        let has_changed = known.as_ref().is_none_or(|it| {
            (it.outcome, it.status, it.first_event) != (tab.outcome, tab.status, tab.first_event)
        });
        match known {
            Some(known) => known.clone_from(tab),
            None => self.waited.push(tab.clone()),
        }
        let took_a_slot = tab.first_event.is_some();
        match &mut self.current {
            Current::Cuts { took, .. } if took_a_slot => {
                if !took.contains(&tab.number) {
                    took.push(tab.number);
                    took.sort_unstable();
                }
            }
            // A late tab is reported again as a step.
            _ if took_a_slot => {}
            Current::Waiting(tabs) => match tabs.iter_mut().find(|it| it.number == tab.number) {
                Some(known) => known.clone_from(tab),
                None => tabs.push(tab.clone()),
            },
            // Nothing has changed, so the printed line is still correct.
            _ if is_known && !has_changed => {}
            _ => self.begin(Current::Waiting(vec![tab.clone()])),
        }
    }

    fn count(&mut self, measured: &Measured) {
        self.has_counted = true;
        self.late_page.clone_from(&measured.late_page);
        if matches!(self.late_page.as_ref().map(|page| page.ask.outcome), Some(PageOutcome::Nothing)) {
            // The page may still end; `end` then prints it.
            self.late_page = None;
        }
        if let Current::Waiting(tabs) = &mut self.current {
            // Only now is it known how long the tabs waited.
            let waited = measured.waiting.iter().filter(|tab| tab.first_event.is_none());
            *tabs = waited.cloned().collect();
        }
        let is_waiting = matches!(self.current, Current::Waiting(_));
        let mut rows = self.rows();
        self.current = Current::None;
        if let Some(at_limit) = rows::at_limit(measured) {
            match rows.last_mut() {
                // Without a page to report, the statistics are printed beside the waiting tabs.
                Some(last) if is_waiting && at_limit.text.is_empty() && last.right.is_empty() => {
                    last.right = at_limit.right;
                }
                _ => rows.push(at_limit),
            }
        }
        self.print(&rows);
    }

    fn cut(&mut self, cut: Cut) {
        match &mut self.current {
            // Streams that end together are reported one by one, interleaved with the tabs that take their slots.
            Current::Cuts { cuts, .. }
                if cuts.last().is_some_and(|last| cut.at.saturating_sub(last.at) < SAME_MOMENT) =>
            {
                cuts.push(cut);
            }
            _ => self.begin(Current::Cuts { cuts: vec![cut], took: Vec::new() }),
        }
    }

    fn extras(&mut self, measured: &Measured) {
        for row in extras::rows(measured) {
            if !self.extras.contains(&row) {
                self.print(std::slice::from_ref(&row));
                self.extras.push(row);
            }
        }
    }

    fn note_stopped(&mut self, tab: &ProbedTab) {
        for page in tab.pages.iter().filter(|page| !page.asks.is_empty() && page.answered() < page.asks.len())
        {
            if !self.stopped.contains(&page.path) {
                self.stopped.push(page.path.clone());
            }
        }
    }

    /// The first page that stops being answered beside streams, in the order of the command line.
    fn first_stopped(&self) -> Option<String> {
        let paths = || self.pages.iter().map(|page| &page.path);
        paths().find(|path| self.stopped.contains(path)).or_else(|| paths().next()).cloned()
    }

    fn rows(&self) -> Vec<FactRow> {
        let mut all = match &self.current {
            Current::None => Vec::new(),
            Current::Baseline(pages) => vec![rows::baseline(pages, None)],
            Current::Staircase(group) => vec![rows::group(group, &self.pages)],
            Current::Waiting(tabs) => rows::waiting(tabs, &self.pages),
            Current::Cuts { cuts, took } => rows::cuts(cuts, took),
            Current::Slots(slots) => vec![rows::slots(slots, rows::end_of_tabs(&self.waited).as_deref())],
            Current::Held { idle, kept } => {
                let stopped: Vec<&str> = self.stopped.iter().map(String::as_str).collect();
                rows::held(idle.as_ref(), kept.as_ref(), &stopped)
            }
        };
        // A tab that has not been judged yet is drawn on a terminal, but never printed.
        if let PrintManner::InPlace { .. } = self.manner {
            all.extend(self.open.iter().map(|tab| match tab.first_event {
                Some(_) => rows::group(&TabGroup::of(tab), &self.pages),
                None => rows::opened(tab),
            }));
            all.extend(self.doing.clone());
        }
        all
    }

    /// Prints the current fact for good, and makes `next` the current one.
    fn begin(&mut self, next: Current) {
        self.settle();
        self.current = next;
    }

    /// Prints the current fact for good.
    fn settle(&mut self) {
        let doing = self.doing.take();
        let open = self.open.take();
        let rows = self.rows();
        self.current = Current::None;
        self.print(&rows);
        (self.doing, self.open) = (doing, open);
    }

    fn lines(&self, rows: &[FactRow]) -> Vec<String> {
        rows.iter().flat_map(|row| row.lines(self.look)).collect()
    }

    /// Prints rows that are not redrawn.
    fn print(&mut self, rows: &[FactRow]) {
        let mut text = self.erased();
        for line in self.lines(rows) {
            text += &line;
            text.push('\n');
        }
        self.drawn = 0;
        self.write(&text);
    }

    /// Redraws the current fact in place.
    fn draw(&mut self) {
        let PrintManner::InPlace { columns } = self.manner else { return };
        let lines = self.lines(&self.rows());
        let mut text = self.erased();
        // Lines are truncated, because a line that the terminal wraps would make `drawn` wrong.
        let shown: Vec<_> = lines
            .iter()
            .map(|line| console::truncate_str(line, columns.saturating_sub(1), "").into_owned())
            .collect();
        text += &shown.join("\n");
        self.drawn = shown.len();
        self.write(&text);
    }

    /// The sequence that erases the current fact. The cursor is at the end of its last line.
    fn erased(&self) -> String {
        match self.drawn {
            0 => String::new(),
            1 => "\r\u{1b}[J".to_owned(),
            lines => format!("\r\u{1b}[{}A\u{1b}[J", lines - 1),
        }
    }

    fn write(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        if let Err(error) = self.to.write_all(text.as_bytes()).and_then(|()| self.to.flush()) {
            self.failed.get_or_insert(error);
        }
    }
}
