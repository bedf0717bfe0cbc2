//! The rows above the lanes: the server, its gauge and its numbers.

use ratatui::style::{Color, Style};

use super::canvas::{Canvas, LABEL, bar, bold, dim};
use super::view::TopView;
use super::words::long_span;
use crate::words;

impl Canvas<'_> {
    pub fn title(&mut self, view: &TopView) {
        let puma = view.stats.versions.puma.as_deref();
        let what = match (&view.stats.versions.ninetabs, puma) {
            (Some(ninetabs), puma) => format!("ninetabs {ninetabs}, as Puma {}", puma.unwrap_or_default()),
            (None, puma) => format!("Puma {}", puma.unwrap_or_default()).trim_end().to_owned(),
        };
        let mut pen = self.pen(0);
        pen.put(&view.address, bold());
        pen.put_if_it_fits(&format!("  {what}"), Style::new());
        if let Some(up_us) = view.up_us {
            pen.put_if_it_fits(&format!("  up {}", long_span(up_us / 1_000_000)), Style::new());
        }
    }

    pub fn gauge(&mut self, view: &TopView) {
        let pool = view.stats.whole();
        let held = view.record.as_ref().map(|record| record.held() as u64);
        let (Some(count), Some(max)) = (held.or_else(|| pool.taken()), pool.max_threads) else { return };
        // Threads that are marked as IO-bound do not count toward the maximum.
        let max = max.max(pool.running.unwrap_or_default());
        let is_full = pool.pool_capacity == Some(0);
        let style = self.color(Style::new(), if is_full { Color::Yellow } else { Color::Cyan });
        let width = (self.area.width / 4).clamp(8, 32);
        let mut pen = self.pen(1);
        pen.put("threads", dim()).tab(LABEL).put(&bar(count, max, width), style);
        pen.put(&format!(" {count} of {max}"), bold())
            .put_if_it_fits(&format!(" threads {}", words::HELD), Style::new());
    }

    pub fn numbers(&mut self, view: &TopView) {
        let pool = view.stats.whole();
        let items = [
            ("busy", pool.busy_threads, pool.busy_threads > pool.max_threads),
            ("backlog", pool.backlog, pool.backlog > Some(0)),
            ("capacity", pool.pool_capacity, pool.pool_capacity == Some(0)),
            ("requests", pool.requests_count, false),
            ("running", pool.running, false),
            ("io", pool.io_threads, false),
        ];
        let items = items.into_iter().filter_map(|(name, value, alarm)| Some((name, value?, alarm)));
        self.items(2, "stats", items.collect());
    }

    /// The numbers of a ninetabs that Puma does not have: streams, database and connections.
    pub fn ours(&mut self, view: &TopView) {
        let (Some(streams), Some(database)) = (view.stats.streams, view.stats.database) else { return };
        let mut items = vec![
            ("open", streams.open, false),
            ("opened", streams.opened, false),
            ("failed", streams.disconnected, false),
            (words::REAPED, streams.reaped, false),
            ("database", database.busy, database.busy == database.size),
            ("of", database.size, database.busy == database.size),
        ];
        if database.waiting > 0 {
            items.push((words::WAITING, database.waiting, true));
        }
        if let Some(open) = view.stats.connections.and_then(|connections| connections.open) {
            items.push(("connections", open, false));
        }
        self.items(3, "streams", items);
    }
}
