//! A unit of systemd itself, or of its instance for one user (`systemd.service(5)`).

use std::ffi::OsString;
use std::fmt::Write;
use std::path::PathBuf;

use super::command::Tool;
use super::{Account, Error, Kind, Spec, Status, args, text};
use crate::file::ReplaceError;

pub(super) fn path(label: &str, account: &Account) -> PathBuf {
    let config = account.config.clone().unwrap_or_else(|| account.home.join(".config"));
    config.join("systemd").join("user").join(unit(label))
}

pub(super) fn machine_path(label: &str) -> PathBuf {
    PathBuf::from("/etc/systemd/system").join(unit(label))
}

/// Restrictions for a unit of the whole machine: a user of its own, whose home is below `/var/lib`, and no write or
/// read access to anything else (`systemd.exec(5)`). Memory may become executable, because an engine may compile code
/// while it runs. A forbidden system call fails instead of killing the engine, which may only have tried a faster way.
const CONFINEMENT: &str = "\
DynamicUser=yes
StateDirectory={label}
StateDirectoryMode=0700
CapabilityBoundingSet=
LockPersonality=yes
NoNewPrivileges=yes
PrivateDevices=yes
PrivateTmp=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHome=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProtectSystem=strict
RemoveIPC=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
UMask=0077
";

/// The arguments that select the instance of systemd; they come first.
fn instance(tool: &Tool<'_>) -> &'static [&'static str] {
    match tool.kind() {
        Kind::SystemdMachine => &[],
        _ => &["--user"],
    }
}

fn words_for(tool: &Tool<'_>, words: &[&str]) -> Vec<OsString> {
    args(instance(tool).iter().copied().chain(words.iter().copied()))
}

fn unit(label: &str) -> String {
    format!("{label}.service")
}

pub(super) fn render(kind: Kind, spec: &Spec) -> Result<String, Error> {
    let (confinement, target) = match kind {
        Kind::SystemdMachine => (CONFINEMENT.replace("{label}", &spec.label), "multi-user.target"),
        _ => (String::new(), "default.target"),
    };
    Ok(format!(
        "\
[Unit]
Description={description}
StartLimitIntervalSec=300
StartLimitBurst=5

[Service]
Type=notify
NotifyAccess=main
{command}
{settings}Restart=on-failure
RestartSec=2
TimeoutStartSec=120
TimeoutStopSec={stop_within}
KillMode=mixed
{confinement}
[Install]
WantedBy={target}
",
        description = text::unit(&spec.description)?,
        command = command(spec)?,
        settings = settings(spec)?,
        stop_within = text::seconds(spec.stop_within),
    ))
}

fn command(spec: &Spec) -> Result<String, Error> {
    // The colon keeps systemd from expanding variables in the command line.
    let mut command = String::from("ExecStart=:");
    let program = text::path(&spec.program)?;
    if program.contains(['"', '\'', '\\']) {
        // systemd accepts such a character in every word but the first.
        command.push_str("/usr/bin/env ");
    }
    command.push_str(&text::unit_word(program)?);
    command.push_str(&words(&spec.args)?);
    Ok(command)
}

fn settings(spec: &Spec) -> Result<String, Error> {
    let mut settings = String::new();
    for (name, value) in &spec.environment {
        let word = text::unit_word(&format!("{name}={value}"))?;
        line(&mut settings, "Environment", &word);
    }
    if let Some(watchdog) = spec.watchdog {
        line(&mut settings, "WatchdogSec", &format!("{}ms", watchdog.as_millis()));
    }
    if !spec.final_statuses.is_empty() {
        let statuses: Vec<_> = spec.final_statuses.iter().map(u8::to_string).collect();
        line(&mut settings, "RestartPreventExitStatus", &statuses.join(" "));
    }
    Ok(settings)
}

/// Words for a command line, each after a space.
fn words<T: AsRef<str>>(args: &[T]) -> Result<String, Error> {
    args.iter().try_fold(String::new(), |mut words, arg| {
        words.push(' ');
        words.push_str(&text::unit_word(arg.as_ref())?);
        Ok(words)
    })
}

/// Each word is quoted and contains no quote, so no word can match inside another.
pub(super) fn passes(definition: &str, args: &[&str]) -> Result<bool, Error> {
    Ok(definition.contains(&words(args)?))
}

fn line(settings: &mut String, name: &str, value: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(settings, "{name}={value}");
}

pub(super) fn probe(tool: &Tool<'_>) -> Result<(), Error> {
    tool.probe(&words_for(tool, &["show-environment"])).map(drop)
}

pub(super) fn install(
    tool: &Tool<'_>,
    label: &str,
    write: impl FnOnce() -> Result<(), ReplaceError>,
    changed: bool,
) -> Result<(), Error> {
    let unit = unit(label);
    probe(tool)?;
    write()?;
    tool.call(&words_for(tool, &["daemon-reload"]))?;
    tool.call(&words_for(tool, &["enable", &unit]))?;
    let verb = if changed { "restart" } else { "start" };
    tool.call(&words_for(tool, &[verb, &unit]))?;
    Ok(())
}

pub(super) fn stop(tool: &Tool<'_>, label: &str) -> Result<(), Error> {
    probe(tool)?;
    tool.call(&words_for(tool, &["disable", "--now", &unit(label)]))?;
    Ok(())
}

/// Tells systemd that the definition is gone. A systemd that is not running is fine too.
pub(super) fn forget(tool: &Tool<'_>) {
    let _ = tool.ask(&words_for(tool, &["daemon-reload"]));
}

pub(super) fn status(tool: &Tool<'_>, label: &str, definition: PathBuf) -> Result<Status, Error> {
    let properties = "--property=UnitFileState,ActiveState,MainPID";
    let output = tool.probe(&words_for(tool, &["show", properties, &unit(label)]))?;
    let property = |name: &str| {
        let line = output
            .stdout
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or_default().trim()
    };
    Ok(Status {
        definition,
        installed: property("UnitFileState") == "enabled",
        running: Some(matches!(property("ActiveState"), "active" | "activating" | "reloading")),
        pid: property("MainPID").parse().ok().filter(|pid| *pid != 0),
    })
}
