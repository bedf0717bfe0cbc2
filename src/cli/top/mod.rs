//! `top`: shows the lanes, the queue and the numbers of a server in the terminal.
//!
//! For a ninetabs it shows the event log of the control server, and for a Puma the numbers of `/stats`. Requests are
//! sent on a separate thread, so that keys work while no answer arrives. The terminal is restored however the command
//! ends, even by a panic or a signal.

mod asker;
mod canvas;
mod full_pool;
mod head;
mod inside;
mod look;
mod numbers;
mod outside;
mod screen;
mod view;
mod warnings;
mod words;
mod wrap;

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use crossbeam_channel::{Receiver, bounded, select};
use ratatui::DefaultTerminal;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::Rect;
use thiserror::Error;

use super::control_server::ControlServerArgs;
use super::typed::FromEnvironment;
use super::{failed, interrupt, misused, output, values};
use ninetabs_server::threads::{self, SpawnError};

use asker::{Answers, Asker, AskerError};
use look::{Look, Scrolled};
use screen::LEAST;
use view::TopView;

pub(super) const EXAMPLES: &str = "\
Keys: q, Esc or Ctrl-C quits; p pauses; arrows, PageUp and PageDown scroll the
threads; ? explains the screen.
It reads /stats, which resets backlog_max and reactor_max, as any reader does.

Exit status: 0 if quit by a key, 1 if no server answers at the start, 2 without
a terminal, 130 if ended by a signal.

Examples:
  ninetabs top
  ninetabs top --state tmp/puma.state
  ninetabs top --once | head -3";

/// How often the screen is redrawn if no answers arrive, since it shows how long there has been none.
const REDRAW: Duration = Duration::from_secs(1);
/// The number of events that `--once` prints, and its width without a terminal.
const ONCE_EVENTS: usize = 10;
const ONCE_WIDTH: u16 = 100;

/// Watch the threads and the queue of a ninetabs or Puma in the terminal
#[derive(Debug, Args)]
pub struct TopArgs {
    #[command(flatten)]
    pub server: ControlServerArgs,
    /// Interval of requests to the server [seconds; default: 0.5]
    #[arg(long, value_name = "SECS", value_parser = values::some_time, default_value = "0.5")]
    pub every: Duration,
    /// Print one screen as text and exit
    #[arg(long)]
    pub once: bool,
}

/// How the command ended.
enum TopEnd {
    ByKey,
    BySignal,
}

#[derive(Debug, Error)]
enum TopError {
    #[error("cannot draw on the terminal: {0}; --once prints one screen as text")]
    Terminal(#[from] io::Error),
    #[error(transparent)]
    Thread(#[from] SpawnError),
    #[error("cannot read keys from the terminal any more")]
    NoKeys,
    #[error("the thread that queries the server has ended")]
    NoAsker,
}

/// Shows the server until a key or a signal ends it.
pub fn run(args: TopArgs, from_environment: &FromEnvironment) -> ExitCode {
    if !args.once && !is_terminal() {
        return misused("standard output is not a terminal; --once prints one screen as text");
    }
    let mut asker = Asker::new(args.server);
    let view = match asker.ask() {
        Ok(answers) => TopView::new(answers, Instant::now()),
        Err(error) => return failed(from_environment.named(&error.to_string())),
    };
    if args.once {
        return print(&view);
    }
    let (news, signals) = match (asker.go_on(args.every), interrupt::each()) {
        (Ok(news), Ok(signals)) => (news, signals),
        (Err(error), _) => return failed(error),
        (_, Err(error)) => return failed(error),
    };
    let left = show(view, &news, &signals);
    ratatui::restore();
    match left {
        Ok(TopEnd::ByKey) => ExitCode::SUCCESS,
        Ok(TopEnd::BySignal) => ExitCode::from(interrupt::INTERRUPTED),
        Err(error) => failed(error),
    }
}

fn is_terminal() -> bool {
    io::stdout().is_terminal()
        && std::env::var_os("TERM").is_some_and(|name| !name.is_empty() && name != "dumb")
}

fn has_colors() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Prints the screen as text, with as many rows as it needs.
fn print(view: &TopView) -> ExitCode {
    let width =
        console::Term::stdout().size_checked().map_or(ONCE_WIDTH, |(_, columns)| columns.max(LEAST.0));
    let area = Rect::new(0, 0, width, screen::height_of_all(view, ONCE_EVENTS, width));
    let mut buffer = Buffer::empty(area);
    let look = Look { scroll: 0, paused: false, help: false, colors: false, keys: false, silence: None };
    screen::draw(view, &look, area, &mut buffer);
    let rows = buffer.content().chunks(usize::from(width));
    let rows = rows.map(canvas::text_of);
    let text = rows.map(|row| row.trim_end().to_owned()).collect::<Vec<_>>().join("\n");
    output::print(format!("{}\n", text.trim_end()).as_bytes())
}

fn show(
    view: TopView,
    news: &Receiver<Result<Answers, AskerError>>,
    signals: &Receiver<()>,
) -> Result<TopEnd, TopError> {
    // From here on, a panic restores the terminal before its message is printed.
    let mut terminal = ratatui::try_init()?;
    let keys = keys()?;
    let mut top = Top::new(view);
    loop {
        top.draw(&mut terminal)?;
        select! {
            recv(news) -> answers => top.hear(answers.map_err(|_| TopError::NoAsker)?),
            recv(keys) -> event => if top.obey(&event.map_err(|_| TopError::NoKeys)?) {
                return Ok(TopEnd::ByKey);
            },
            recv(signals) -> _ => return Ok(TopEnd::BySignal),
            default(REDRAW) => {}
        }
    }
}

/// Reads the terminal's events on a thread that ends with the terminal.
fn keys() -> Result<Receiver<Event>, SpawnError> {
    let (tell, told) = bounded(16);
    threads::spawn("keys", move || {
        while let Ok(event) = event::read() {
            if tell.send(event).is_err() {
                return;
            }
        }
    })?;
    Ok(told)
}

/// The state of the command: what the screen shows, and how.
struct Top {
    view: TopView,
    /// The view that is shown during a pause.
    paused: Option<TopView>,
    help: bool,
    scroll: usize,
    scrolled: Scrolled,
    colors: bool,
}

impl Top {
    fn new(view: TopView) -> Top {
        let scrolled = Scrolled::default();
        Top { view, paused: None, help: false, scroll: 0, scrolled, colors: has_colors() }
    }

    fn draw(&mut self, terminal: &mut DefaultTerminal) -> io::Result<()> {
        let silence = self.view.silence(Instant::now());
        let look = Look {
            scroll: self.scroll,
            paused: self.paused.is_some(),
            help: self.help,
            colors: self.colors,
            keys: true,
            silence: silence.as_deref(),
        };
        let view = self.paused.as_ref().unwrap_or(&self.view);
        let mut scrolled = self.scrolled;
        terminal.draw(|frame| scrolled = screen::draw(view, &look, frame.area(), frame.buffer_mut()))?;
        if !self.help {
            self.scrolled = scrolled;
        }
        Ok(())
    }

    fn hear(&mut self, answers: Result<Answers, AskerError>) {
        match answers {
            Ok(answers) => self.view.take(answers, Instant::now()),
            Err(error) => self.view.miss(error.to_string()),
        }
    }

    /// Reacts to an event. Returns whether the command must end.
    fn obey(&mut self, event: &Event) -> bool {
        let Event::Key(KeyEvent { code, modifiers, kind: KeyEventKind::Press, .. }) = event else {
            return false;
        };
        let page = self.scrolled.shown.max(1);
        // After the terminal has been resized, `scroll` may be beyond the end.
        let at = self.scroll.min(self.scrolled.last());
        match code {
            KeyCode::Char('c') if modifiers.contains(KeyModifiers::CONTROL) => return true,
            KeyCode::Char('q') | KeyCode::Esc => return true,
            KeyCode::Char('p') => {
                self.paused = if self.paused.is_some() { None } else { Some(self.view.clone()) };
            }
            KeyCode::Char('?') => self.help = !self.help,
            KeyCode::Up => self.scroll = at.saturating_sub(1),
            KeyCode::Down => self.scroll = at + 1,
            KeyCode::PageUp => self.scroll = at.saturating_sub(page),
            KeyCode::PageDown => self.scroll = at + page,
            KeyCode::Home => self.scroll = 0,
            KeyCode::End => self.scroll = self.scrolled.last(),
            _ => {}
        }
        false
    }
}
