//! The command `logs`.

use std::process::ExitCode;

use gem_setup::error::Failure;
use gem_setup::place;
use gem_setup::supervise::{Follower, tail};

use super::args::LogsArgs;
use super::session::Session;

/// Prints the end of the server's log and, with `-f`, new lines.
pub(crate) fn run(session: &Session<'_>, args: LogsArgs) -> Result<ExitCode, Failure> {
    let printer = session.printer;
    let path = session.layout.log_file();
    let failed = |error: std::io::Error| {
        Failure::cannot(format_args!("read the log `{}`", path.display()), &error)
            .with_hint(place::remedy(&path, &error))
    };
    let show = |lines: Vec<String>| {
        for line in lines {
            if printer.json() {
                printer.json_line(&serde_json::json!({"line": line}));
            } else {
                printer.line(&line);
            }
        }
    };
    if !args.follow {
        let lines = tail(&path, args.lines).map_err(failed)?;
        if lines.is_empty() && !path.exists() {
            let remark = printer.tilde(&format!("there is no log yet: `{}`", path.display()));
            printer.remark_in_prose(&remark, 2);
            if !session.is_installed() {
                printer.remark_in_prose(&session.not_installed()?, 2);
            }
        }
        show(lines);
        return Ok(ExitCode::SUCCESS);
    }
    let (mut follower, lines) = Follower::start(&path, args.lines).map_err(failed)?;
    show(lines);
    session.block_on(async {
        while !printer.is_closed() {
            show(follower.next_lines().await.map_err(failed)?);
        }
        Ok(ExitCode::SUCCESS)
    })
}
