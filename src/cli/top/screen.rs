//! The screen: a pure drawing of a [`TopView`] into cells.
//!
//! The first rows show the server, its gauge and its numbers ([`super::head`]). The warnings follow
//! ([`super::warnings`]). Below them, a ninetabs has its lanes, the queue and the latest events
//! ([`super::inside`]), and a Puma has the history of its numbers ([`super::outside`]). The last rows are the
//! legend and the keys.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};

use super::canvas::{Canvas, bold, dim};
use super::inside;
use super::look::{HEAD, Look, Scrolled};
use super::view::TopView;
use super::warnings;
use super::wrap::wrapped;
use ninetabs_server::escape::printable;

/// The smallest terminal on which the screen is drawn.
pub const LEAST: (u16, u16) = (40, 10);

const HELP: [&str; 19] = [
    "q, Esc, Ctrl-C  quit",
    "p  pause the screen; the server keeps running",
    "?  back to the lanes",
    "arrows, PageUp, PageDown, Home, End  scroll the threads",
    "",
    "threads   threads held by a request; for a Puma, the",
    "          maximum minus the capacity",
    "busy      held threads and queued requests, as in Puma:",
    "          above the maximum of threads, the excess waits",
    "backlog   requests in the queue, without a thread",
    "capacity  requests that could start now; at 0, they wait",
    "running   threads that exist; io: marked as IO-bound",
    "requests  begun since the server started",
    "streams   open; opened, failed (a write) and reaped",
    "          since the server started",
    "database  connections in use; waiting: actions without one",
    "",
    "It reads /stats, which resets backlog_max and reactor_max",
    "for every reader. Neither is shown here.",
];

/// Draws the screen.
pub fn draw(view: &TopView, look: &Look<'_>, area: Rect, buffer: &mut Buffer) -> Scrolled {
    let mut canvas = Canvas { buffer, area, colors: look.colors };
    if area.width < LEAST.0 || area.height < LEAST.1 {
        canvas.too_small();
        return Scrolled::default();
    }
    canvas.title(view);
    canvas.gauge(view);
    canvas.numbers(view);
    canvas.ours(view);
    let foot = canvas.foot_lines(look);
    let bottom = area.height - foot.len() as u16;
    canvas.foot(look, bottom, &foot);
    if look.help {
        for (y, line) in (HEAD..bottom).zip(HELP) {
            canvas.pen(y).put(line, Style::new());
        }
        canvas.fade(look, HEAD);
        return Scrolled::default();
    }
    let picture = bottom;
    let legend = area.height > LEAST.1 + 3 && view.record.is_some();
    let bottom = bottom - u16::from(legend);
    if legend {
        canvas.legend(bottom);
    }
    let scrolled = match (&view.record, &view.stats.worker_status) {
        (Some(record), _) => {
            let top = canvas.warnings(view, bottom, warnings::REST);
            canvas.inside(view, record, look, top, bottom)
        }
        (None, Some(workers)) => {
            let top = canvas.warnings(view, bottom, warnings::REST_OF_A_PUMA);
            canvas.workers(view, workers, look, top, bottom)
        }
        (None, None) => {
            let top = canvas.warnings(view, bottom, warnings::REST_OF_A_PUMA);
            canvas.history(view, top);
            Scrolled::default()
        }
    };
    canvas.fade(look, picture);
    scrolled
}

/// The height of a screen of this width that shows all rows, all warnings and this many events.
pub fn height_of_all(view: &TopView, events: usize, width: u16) -> u16 {
    let rows = match (&view.record, &view.stats.worker_status) {
        (Some(record), _) => {
            let rows = inside::height_of_all(view, record, events);
            // If there are warnings, enough rows to show them with their remedies.
            match warnings::height_of_all(view, width) {
                0 => rows,
                lines => rows.max(warnings::REST) + lines,
            }
        }
        (None, Some(workers)) => workers.len().max(4) + 3 + warnings::height_of_all(view, width),
        (None, None) => 7 + warnings::height_of_all(view, width),
    };
    LEAST.1.max(u16::try_from(rows + usize::from(HEAD) + 2).unwrap_or(u16::MAX))
}

impl Canvas<'_> {
    fn too_small(&mut self) {
        let (width, height) = LEAST;
        let lines = [
            format!("{} x {} is too small:", self.area.width, self.area.height),
            format!("at least {width} x {height} is needed"),
        ];
        for (y, line) in (0..self.area.height).zip(lines) {
            self.pen(y).put(&line, Style::new());
        }
    }

    /// The last rows: the keys, or the reason why no answer arrives, in lines that fit.
    fn foot_lines(&self, look: &Look<'_>) -> Vec<String> {
        let Some(why) = look.silence else {
            return match look.paused {
                true => vec!["paused: p resumes  q quit  ? help".to_owned()],
                false if look.keys => vec!["q quit  p pause  ? help".to_owned()],
                false => Vec::new(),
            };
        };
        let paused = if look.paused { "paused: p resumes; " } else { "" };
        // Control characters of another program are replaced before the columns are counted.
        wrapped(&format!("{paused}{}", printable(why)), usize::from(self.area.width))
    }

    fn foot(&mut self, look: &Look<'_>, y: u16, lines: &[String]) {
        let style = match (look.silence, look.paused) {
            (Some(_), _) => self.color(bold(), Color::Red),
            (None, true) => bold(),
            (None, false) => dim(),
        };
        for (y, line) in (y..).zip(lines) {
            self.pen(y).put(line, style);
        }
    }

    /// While no answers arrive, everything above this row is outdated and drawn dim.
    fn fade(&mut self, look: &Look<'_>, bottom: u16) {
        if look.silence.is_some() {
            let old = Rect { height: bottom, ..self.area };
            self.buffer.set_style(old, dim().remove_modifier(Modifier::BOLD));
        }
    }
}

#[cfg(test)]
mod tests;
