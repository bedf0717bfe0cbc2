//! The screen of a server without a `/timeline`, which is every Puma: the history of its numbers, and the workers of
//! a cluster.

use ratatui::style::{Color, Style};

use super::canvas::{Canvas, LABEL, dim, level};
use super::look::{Look, Scrolled};
use super::numbers::{Pool, WorkerAnswer};
use super::view::TopView;
use crate::words;

impl Canvas<'_> {
    pub fn workers(
        &mut self,
        view: &TopView,
        workers: &[WorkerAnswer],
        look: &Look<'_>,
        top: u16,
        bottom: u16,
    ) -> Scrolled {
        let y = self.history(view, top);
        let scrolled = Scrolled { rows: workers.len(), shown: workers.len().min(usize::from(bottom - y)) };
        let shown = workers.iter().skip(look.scroll.min(scrolled.last())).take(scrolled.shown);
        for (y, worker) in (y..bottom).zip(shown) {
            let Pool { backlog, pool_capacity, max_threads, requests_count, .. } = worker.last_status;
            let mut line = format!("worker {} (pid {}, phase {})", worker.index, worker.pid, worker.phase);
            if !worker.booted {
                line.push_str("  not booted yet");
            }
            let taken = worker.last_status.taken().zip(max_threads);
            let taken = taken.map(|(taken, max)| format!("  {taken} of {max} {}", words::HELD));
            let item = |name, value: Option<u64>| value.map(|value| format!("  {name} {value}"));
            let items =
                [item("backlog", backlog), item("capacity", pool_capacity), item("requests", requests_count)];
            let style = self.alarm(backlog > Some(0) || pool_capacity == Some(0));
            let mut pen = self.pen(y);
            pen.put(&line, Style::new());
            for text in taken.into_iter().chain(items.into_iter().flatten()) {
                pen.put_if_it_fits(&text, style);
            }
        }
        scrolled
    }

    /// The history of the numbers, one column per answer.
    pub fn history(&mut self, view: &TopView, y: u16) -> u16 {
        let columns = usize::from(self.area.width - LABEL);
        let shown = || view.samples.iter().skip(view.samples.len().saturating_sub(columns));
        let most_backlog = shown().filter_map(|pool| pool.backlog).max().unwrap_or_default();
        let in_use: String =
            shown().map(|pool| level(pool.taken(), pool.max_threads.unwrap_or_default())).collect();
        let backlog: String = shown().map(|pool| level(pool.backlog, most_backlog)).collect();
        let (cyan, yellow) = (self.color(Style::new(), Color::Cyan), self.color(Style::new(), Color::Yellow));
        self.pen(y).put(words::HELD, dim()).tab(LABEL).put(&in_use, cyan);
        self.pen(y + 1).put("backlog", dim()).tab(LABEL).put(&backlog, yellow);
        y + 2
    }
}
