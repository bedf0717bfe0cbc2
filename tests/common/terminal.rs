//! A pseudo terminal that runs a program, with its screen as a user sees it.

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

use crate::common::{program, wait_for};

/// A program in its own terminal. It is killed when dropped.
pub struct Terminal {
    pub child: Child,
    keyboard: File,
    /// Kept open, so that the terminal outlives the program.
    line: OwnedFd,
    before: Termios,
    screen: Arc<Mutex<vt100::Parser>>,
}

impl Terminal {
    /// Starts `ninetabs` with these arguments. `setsid` makes this terminal its controlling terminal; if `setsid`
    /// is not installed, prints a message and returns `None`.
    pub fn start(args: &[&str], variables: &[(&str, &str)], (width, height): (u16, u16)) -> Option<Terminal> {
        let setsid = program("setsid")?;
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let name = std::ffi::OsStr::from_bytes(name.to_bytes());
        let line = open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        tcsetwinsize(&master, size(width, height)).unwrap();
        let before = tcgetattr(&line).unwrap();

        let mut command = Command::new(setsid);
        command.arg("--ctty").arg(env!("CARGO_BIN_EXE_ninetabs")).args(args);
        command.env("TERM", "xterm-256color").env_remove("NO_COLOR");
        command.env_remove("NINETABS_CONTROL_URL").env_remove("NINETABS_CONTROL_TOKEN");
        command.envs(variables.iter().copied());
        let line_again = || Stdio::from(line.try_clone().unwrap());
        command.stdin(line_again()).stdout(line_again()).stderr(line_again());
        let child = command.spawn().unwrap();

        let screen = Arc::new(Mutex::new(vt100::Parser::new(cells(height), cells(width), 0)));
        let (mut output, to) = (File::from(master.try_clone().unwrap()), Arc::clone(&screen));
        // This thread ends when no process has the terminal open any more, since reading then fails.
        thread::spawn(move || {
            let mut bytes = [0; 16 * 1024];
            while let Ok(count) = output.read(&mut bytes) {
                to.lock().unwrap().process(&bytes[..count]);
            }
        });
        Some(Terminal { child, keyboard: File::from(master), line, before, screen })
    }

    pub fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    pub fn resize(&self, width: u16, height: u16) {
        self.screen.lock().unwrap().set_size(cells(height), cells(width));
        tcsetwinsize(&self.keyboard, size(width, height)).unwrap();
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// The text on the screen, one line per row, without trailing blanks, which an earlier, longer row may leave.
    pub fn text(&self) -> String {
        let contents = self.screen.lock().unwrap().screen().contents();
        contents.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
    }

    /// Waits until the screen is as expected, and returns its text.
    pub fn wait_for(&self, what: &str, mut wanted: impl FnMut(&str) -> bool) -> String {
        let mut last = String::new();
        let look = || {
            last = self.text();
            wanted(&last).then_some(())
        };
        let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| wait_for(what, look)));
        assert!(seen.is_ok(), "did not see {what}; the screen shows\n{last}");
        last
    }

    /// Waits until this text is on the screen, and returns all of its text.
    pub fn wait_for_text(&self, text: &str) -> String {
        self.wait_for(text, |screen| screen.contains(text))
    }

    /// Whether any cell has a color.
    pub fn has_colors(&self) -> bool {
        let parser = self.screen.lock().unwrap();
        let (rows, columns) = parser.screen().size();
        (0..rows.get()).any(|row| {
            (0..columns.get()).any(|column| {
                let cell = parser.screen().cell(row, column);
                cell.is_some_and(|cell| cell.fgcolor() != vt100::Color::Default)
            })
        })
    }

    /// Waits for the end of the program, and checks that the terminal was restored.
    pub fn wait_for_exit(&mut self) -> ExitStatus {
        let child = &mut self.child;
        let status = wait_for("the program's end", || child.try_wait().unwrap());
        self.wait_until_restored();
        status
    }

    fn wait_until_restored(&self) {
        wait_for("the old screen and its cursor", || {
            let parser = self.screen.lock().unwrap();
            let screen = parser.screen();
            (!screen.alternate_screen() && !screen.hide_cursor()).then_some(())
        });
        let modes = |it: &Termios| (it.input_modes, it.output_modes, it.control_modes, it.local_modes);
        assert_eq!(modes(&tcgetattr(&self.line).unwrap()), modes(&self.before));
    }

    /// Whether the program uses the alternate screen and reads single keys.
    pub fn is_taken(&self) -> bool {
        let modes = tcgetattr(&self.line).unwrap().local_modes;
        self.screen.lock().unwrap().screen().alternate_screen() && modes != self.before.local_modes
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn size(width: u16, height: u16) -> Winsize {
    Winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 }
}

fn cells(count: u16) -> NonZeroU16 {
    NonZeroU16::new(count).unwrap()
}
