//! A pull in a pseudo-terminal, for a runtime that asks its question only on a terminal.

use std::io::{self, Read, Write};

use gem_platform::process::Program;
use portable_pty::{Child, CommandBuilder, ExitStatus, PtySize, native_pty_system};
use tokio::sync::mpsc;

const SIZE: PtySize = PtySize {
    rows: 24,
    cols: 120,
    pixel_width: 0,
    pixel_height: 0,
};

/// A program that runs in its own pseudo-terminal.
pub(super) struct PseudoTerminal {
    /// The program's output; the channel closes when the program ends.
    pub(super) output: mpsc::Receiver<Vec<u8>>,
    keyboard: Box<dyn Write + Send>,
    child: Box<dyn Child + Send + Sync>,
}

impl PseudoTerminal {
    /// Starts `program`.
    pub(super) fn start(program: &Program) -> io::Result<Self> {
        let pair = native_pty_system().openpty(SIZE).map_err(io::Error::other)?;
        let mut command = CommandBuilder::new(&program.path);
        command.args(&program.args);
        for name in program.withheld() {
            command.env_remove(name);
        }
        for (name, value) in &program.env {
            command.env(name, value);
        }
        let child = pair.slave.spawn_command(command).map_err(io::Error::other)?;
        let reader = pair.master.try_clone_reader().map_err(io::Error::other)?;
        let keyboard = pair.master.take_writer().map_err(io::Error::other)?;
        let (pieces, output) = mpsc::channel(16);
        std::thread::Builder::new().name("pull".to_owned()).spawn(move || {
            // The terminal must exist as long as its output is read.
            let _master = pair.master;
            forward(reader, &pieces);
        })?;
        Ok(Self {
            output,
            keyboard,
            child,
        })
    }

    /// Sends `text` as if it were typed.
    pub(super) fn type_in(&mut self, text: &[u8]) -> io::Result<()> {
        self.keyboard.write_all(text)?;
        self.keyboard.flush()
    }

    /// Waits for the exit status, which comes soon because the output has ended.
    pub(super) fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait()
    }
}

impl Drop for PseudoTerminal {
    fn drop(&mut self) {
        // The program may already have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn forward(mut reader: Box<dyn Read + Send>, pieces: &mpsc::Sender<Vec<u8>>) {
    let mut buffer = [0; 4096];
    // When the last program in a terminal ends, Linux reports a device error.
    while let Ok(read @ 1..) = reader.read(&mut buffer) {
        if pieces.blocking_send(buffer[..read].to_vec()).is_err() {
            return;
        }
    }
}
