//! The command `token`: makes a token for a client of a gateway.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use gem_platform::file;
use gem_setup::error::{Failure, Kind};
use gem_setup::gateway::{ClientToken, NewToken};
use gem_setup::place;
use serde_json::json;

use super::access_args::TokenArgs;
use super::session::Session;

/// Prints a new token. Adds its hash to a file, or prints the hash too.
pub(crate) fn run(session: &Session<'_>, args: &TokenArgs) -> Result<ExitCode, Failure> {
    let made = NewToken::random(&args.name);
    let made = made.ok_or_else(|| Failure::cannot("make a token", "the system provides no random numbers"))?;
    let file = args
        .token_file
        .as_ref()
        .map(|file| session.environment.current_dir().join(file));
    let earlier = match &file {
        Some(file) => add(file, &args.name, &made.line)?,
        None => 0,
    };
    if session.printer.json() {
        session
            .printer
            .json_line(&json!({"name": args.name, "token": made.token, "line": made.line, "file": file}));
        return Ok(ExitCode::SUCCESS);
    }
    session.printer.line(&made.token);
    session.printer.remark(&match &file {
        Some(file) => format!(
            "its hash is in `{}`; the token itself is not stored anywhere",
            file.display()
        ),
        None => format!("add this line to the gateway's token file: {}", made.line),
    });
    if let Some(file) = file.filter(|_| earlier > 0) {
        session.printer.remark_in_prose(
            &format!(
                "`{}` has several tokens now; the earlier ones stay valid until you delete their lines from `{}`",
                args.name,
                file.display()
            ),
            2,
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Adds `line` to the private file at `path`; returns how many tokens the client `name` had. Refuses a file that is not a
/// token file.
fn add(path: &Path, name: &str, line: &str) -> Result<usize, Failure> {
    let cannot = |error: &io::Error| {
        let failure = Failure::cannot_at("add a line to the token file", path, error);
        match file::is_limit_of_size(error) || file::is_absence(error) {
            true => failure,
            false => failure.with_hint(place::remedy(path, error)),
        }
    };
    let before = place::read_if_present(path)
        .map_err(|error| cannot(&error))?
        .unwrap_or_default();
    let before = String::from_utf8(before).map_err(|_| "it is not UTF-8".to_owned());
    let before = before.and_then(|text| ClientToken::check_file(&text).map(|()| text));
    let before = before.map_err(|reason| {
        let message = format!("`{}` is not a token file: {reason}; nothing was added", path.display());
        Failure::new(Kind::Usage, message).with_hint("pass a token file, or the path of a new one, with `--token-file`")
    })?;
    append(path, &before, line).map_err(|error| cannot(&error))?;
    let names = before.lines().filter_map(|line| line.split_ascii_whitespace().next());
    Ok(names.filter(|known| *known == name).count())
}

/// Adds `line` to the text `before`, with a line break between them if needed.
fn append(path: &Path, before: &str, line: &str) -> io::Result<()> {
    let lead = if before.is_empty() || before.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    let mut file = file::open_private(OpenOptions::new().create(true).append(true), path)?;
    file.write_all(format!("{lead}{line}\n").as_bytes())?;
    file.sync_all()
}
