//! Makes the terminal appear a little narrower than it is. So the `^C` that it echoes stays on the bar's line, and is cleared with the bar.

use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use console::Term;
use gem_platform::console::is_in_foreground;
use gem_setup::environment::Environment;
use indicatif::{ProgressDrawTarget, TermLike};

const MARGIN: u16 = 3;

/// Whether the terminal wraps lines when it becomes narrower. Xterm, `st`, GNU Screen and Linux's console cut them off, so the row above a
/// bar does not belong to it. Inside tmux the variables may come from the terminal around it.
pub(super) fn breaks_lines(environment: &Environment) -> bool {
    let is_set = |name| environment.var(name).is_some();
    let name = environment.var("TERM").unwrap_or_default();
    let cuts = is_set("XTERM_VERSION") || is_set("STY") || name == "linux" || name.starts_with("st-");
    !cuts || is_set("TMUX")
}

/// Standard error without its last columns; for `breaks_lines` see the function.
pub(super) fn target(breaks_lines: bool) -> ProgressDrawTarget {
    ProgressDrawTarget::term_like(Box::new(Margin {
        term: Term::buffered_stderr(),
        drawn: AtomicU16::new(0),
        breaks_lines,
    }))
}

/// The columns of standard error's terminal.
pub(super) fn columns() -> u16 {
    Term::stderr().size().1
}

#[derive(Debug)]
struct Margin {
    term: Term,
    /// The columns of the text on the screen, up to which the line is filled; 0 if there is none.
    drawn: AtomicU16,
    breaks_lines: bool,
}

impl Margin {
    /// The rows that the line takes after the terminal became narrower.
    fn rows(&self) -> u16 {
        let columns = self.term.size().1.max(1);
        self.drawn.load(Ordering::Relaxed).div_ceil(columns)
    }

    /// Draws, unless this is a background job now: the shell in the foreground has the screen.
    fn draw(&self, draw: impl FnOnce(&Term) -> io::Result<()>) -> io::Result<()> {
        if is_in_foreground() { draw(&self.term) } else { Ok(()) }
    }
}

impl TermLike for Margin {
    fn width(&self) -> u16 {
        self.term.size().1.saturating_sub(MARGIN)
    }

    fn height(&self) -> u16 {
        self.term.size().0
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.draw(|term| term.move_cursor_up(n))
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.draw(|term| term.move_cursor_down(n))
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.draw(|term| term.move_cursor_right(n))
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.draw(|term| term.move_cursor_left(n))
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.draw(|term| term.write_line(text))
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.draw(|term| term.write_str(text))
    }

    fn clear_line(&self) -> io::Result<()> {
        if !is_in_foreground() {
            return Ok(());
        }
        let rows = self.rows();
        if rows > 1 && self.breaks_lines {
            self.drawn.store(0, Ordering::Relaxed);
            self.term.move_cursor_up((rows - 1).into())?;
            self.term.write_str("\r")?;
            self.term.clear_to_end_of_screen()?;
        }
        self.term.clear_line()
    }

    fn flush(&self) -> io::Result<()> {
        self.drawn.store(self.width(), Ordering::Relaxed);
        self.term.flush()
    }
}
