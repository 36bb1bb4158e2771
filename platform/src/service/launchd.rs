//! An agent of macOS's launchd (`launchd.plist(5)`, `launchctl(1)`).

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use super::command::Tool;
use super::{Account, Error, Spec, Status, args, text};
use crate::file::ReplaceError;

/// The status with which `launchctl` reports that it is still removing a service of the same name.
const IN_PROGRESS: i32 = 37;
const ATTEMPTS: u32 = 10;
const WAIT: Duration = Duration::from_millis(300);

pub(super) fn path(label: &str, account: &Account) -> PathBuf {
    let agents = account.home.join("Library").join("LaunchAgents");
    agents.join(format!("{label}.plist"))
}

pub(super) fn render(spec: &Spec) -> Result<String, Error> {
    let arguments = words(&[text::path(&spec.program)?])? + &words(&spec.args)?;
    let mut environment = String::new();
    for (name, value) in &spec.environment {
        let (name, value) = (text::xml(name)?, text::xml(value)?);
        environment.push_str(&format!(
            "        <key>{name}</key>\n        <string>{value}</string>\n"
        ));
    }
    Ok(format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
    <key>Label</key>
    <string>{label}</string>
    <key>ProgramArguments</key>
    <array>
{arguments}    </array>
    <key>EnvironmentVariables</key>
    <dict>
{environment}    </dict>
    <key>RunAtLoad</key>
    <true/>
    <key>KeepAlive</key>
    <dict>
        <key>SuccessfulExit</key>
        <false/>
    </dict>
    <key>ThrottleInterval</key>
    <integer>10</integer>
    <key>ExitTimeOut</key>
    <integer>{stop_within}</integer>
    <key>StandardOutPath</key>
    <string>{log}</string>
    <key>StandardErrorPath</key>
    <string>{log}</string>
</dict>
</plist>
"#,
        label = spec.label,
        stop_within = text::seconds(spec.stop_within),
        log = text::xml(text::path(&spec.log)?)?,
    ))
}

/// The elements of the array of arguments, one per line.
fn words<T: AsRef<str>>(args: &[T]) -> Result<String, Error> {
    args.iter().try_fold(String::new(), |mut words, arg| {
        words.push_str(&format!("        <string>{}</string>\n", text::xml(arg.as_ref())?));
        Ok(words)
    })
}

pub(super) fn passes(definition: &str, args: &[&str]) -> Result<bool, Error> {
    Ok(definition.contains(&words(args)?))
}

/// The user's graphical session, in which agents run.
fn domain(account: &Account) -> String {
    format!("gui/{}", account.id)
}

fn service(label: &str, account: &Account) -> String {
    format!("{}/{label}", domain(account))
}

pub(super) fn probe(tool: &Tool<'_>, account: &Account) -> Result<(), Error> {
    tool.probe(&args(["print", &domain(account)])).map(drop)
}

pub(super) fn install(
    tool: &Tool<'_>,
    label: &str,
    account: &Account,
    write: impl FnOnce() -> Result<(), ReplaceError>,
    changed: bool,
) -> Result<(), Error> {
    let (domain, service) = (domain(account), service(label, account));
    probe(tool, account)?;
    write()?;
    let is_loaded = tool.ask(&args(["print", &service]))?.is_success();
    if is_loaded && !changed {
        tool.call(&args(["kickstart", &service]))?;
        return Ok(());
    }
    if is_loaded {
        tool.call(&args(["bootout", &service]))?;
    }
    tool.call(&args(["enable", &service]))?;
    let mut bootstrap = args(["bootstrap", &domain]);
    bootstrap.push(path(label, account).into_os_string());
    for _ in 1..ATTEMPTS {
        let output = tool.ask(&bootstrap)?;
        if output.is_success() {
            return Ok(());
        }
        if output.code != Some(IN_PROGRESS) {
            return Err(tool.failure(&bootstrap, &output));
        }
        thread::sleep(WAIT);
    }
    tool.call(&bootstrap).map(|_| ())
}

pub(super) fn stop(tool: &Tool<'_>, label: &str, account: &Account) -> Result<(), Error> {
    let service = service(label, account);
    if tool.ask(&args(["print", &service]))?.is_success() {
        tool.call(&args(["bootout", &service]))?;
    }
    Ok(())
}

pub(super) fn status(tool: &Tool<'_>, label: &str, account: &Account, definition: PathBuf) -> Result<Status, Error> {
    let output = tool.ask(&args(["print", &service(label, account)]))?;
    let field = |name: &str| {
        let line = output
            .stdout
            .lines()
            .find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(" = "));
        line.map(str::trim)
    };
    Ok(Status {
        definition,
        // A definition in the agents' directory is loaded at the next login, even if it is not loaded now.
        installed: true,
        running: Some(output.is_success() && field("state") == Some("running")),
        pid: field("pid").and_then(|pid| pid.parse().ok()),
    })
}
