//! A run on a pseudo-terminal, with an answer to a question.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::process::Stdio;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::{Gem, Run};

/// Runs `gem` on a terminal and types `answer` once `question` is on the screen. Both output streams are combined.
pub(crate) fn on_a_terminal(gem: Gem, question: &str, answer: &str) -> Run {
    on_a_terminal_of(None, gem, question, |terminal| {
        terminal.write_all(answer.as_bytes()).unwrap();
    })
}

/// Sets the terminal's width in columns.
pub(crate) fn resize(terminal: &File, columns: u16) {
    let size = Winsize {
        ws_row: 24,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(terminal, size).unwrap();
}

/// The same on a terminal with this number of columns, or of unknown width; calls `react` once `question` is on the screen.
pub(crate) fn on_a_terminal_of(columns: Option<u16>, gem: Gem, question: &str, react: impl FnOnce(&mut File)) -> Run {
    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&controller).unwrap();
    unlockpt(&controller).unwrap();
    let name = ptsname(&controller, Vec::new()).unwrap();
    let mut controller = File::from(controller);
    if let Some(columns) = columns {
        resize(&controller, columns);
    }
    let terminal = OpenOptions::new()
        .read(true)
        .write(true)
        .open(name.to_str().unwrap())
        .unwrap();
    let stream = || Stdio::from(terminal.try_clone().unwrap());
    let mut command = gem.into_command();
    // Variables of the terminal that runs the tests are replaced.
    for (name, value) in [("TERM", "xterm"), ("TMUX", ""), ("STY", ""), ("XTERM_VERSION", "")] {
        if !command.get_envs().any(|(given, _)| given == name) {
            command.env(name, value);
        }
    }
    let child = command.stdin(stream()).stdout(stream()).stderr(stream()).spawn();
    let mut child = child.unwrap();
    // Now only the child keeps the terminal open, so its end ends the reading.
    drop(command);
    drop(terminal);
    let mut said = Vec::new();
    let mut react = Some(react);
    let mut buffer = [0; 4096];
    loop {
        match controller.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => said.extend_from_slice(&buffer[..read]),
            // Linux returns this error when the other side is closed.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("{error}"),
        }
        if String::from_utf8_lossy(&said).contains(question)
            && let Some(react) = react.take()
        {
            react(&mut controller);
        }
    }
    assert!(
        react.is_none(),
        "`{question}` was never asked:\n{}",
        String::from_utf8_lossy(&said)
    );
    Run {
        status: child.wait().unwrap().code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&said).into_owned(),
        stderr: String::new(),
    }
}
