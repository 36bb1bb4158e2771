//! A task of Windows' Task Scheduler, run when its user logs on ("Task Scheduler Schema" in Microsoft's documentation).

use std::path::{Path, PathBuf};

use super::command::Tool;
use super::{Account, Error, Spec, Status, args, text};
use crate::file::ReplaceError;

pub(super) fn path(label: &str, account: &Account) -> PathBuf {
    account.own.join(format!("{label}.xml"))
}

const SETTINGS: &str = "  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <StartWhenAvailable>true</StartWhenAvailable>
    <Enabled>true</Enabled>
    <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>
    <RestartOnFailure>
      <Interval>PT1M</Interval>
      <Count>3</Count>
    </RestartOnFailure>
  </Settings>";

pub(super) fn render(spec: &Spec, account: &Account) -> Result<String, Error> {
    // The trigger names the user too: only an administrator can register a task for every user's logon.
    let user = text::xml(&account.name)?;
    Ok(format!(
        r#"<?xml version="1.0" encoding="UTF-16"?>
<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <RegistrationInfo>
    <Description>{description}</Description>
  </RegistrationInfo>
  <Triggers>
    <LogonTrigger>
      <Enabled>true</Enabled>
      <UserId>{user}</UserId>
    </LogonTrigger>
  </Triggers>
  <Principals>
    <Principal id="Author">
      <UserId>{user}</UserId>
      <LogonType>InteractiveToken</LogonType>
      <RunLevel>LeastPrivilege</RunLevel>
    </Principal>
  </Principals>
{SETTINGS}
  <Actions Context="Author">
    <Exec>
      <Command>{program}</Command>
      <Arguments>{arguments}</Arguments>
    </Exec>
  </Actions>
</Task>
"#,
        description = text::xml(&spec.description)?,
        program = text::xml(text::path(&spec.program)?)?,
        arguments = words(&spec.args)?,
    ))
}

/// Joins words into a command line.
fn words<T: AsRef<str>>(args: &[T]) -> Result<String, Error> {
    let words: Vec<_> = args.iter().map(|arg| text::windows_arg(arg.as_ref())).collect();
    text::xml(&words.join(" "))
}

pub(super) fn passes(definition: &str, args: &[&str]) -> Result<bool, Error> {
    let line = definition.split_once("<Arguments>").map(|(_, rest)| rest);
    let line = line.and_then(|rest| rest.split_once("</Arguments>"));
    let wanted = format!(" {} ", words(args)?);
    Ok(line.is_some_and(|(line, _)| format!(" {line} ").contains(&wanted)))
}

/// Every Windows has the Task Scheduler; its tool can be missing.
pub(super) fn probe(tool: &Tool<'_>) -> Result<(), Error> {
    tool.ask(&args(["/Query", "/?"])).map(drop)
}

pub(super) fn install(
    tool: &Tool<'_>,
    label: &str,
    path: &Path,
    write: impl FnOnce() -> Result<(), ReplaceError>,
) -> Result<(), Error> {
    write()?;
    let mut create = args(["/Create", "/F", "/TN", label, "/XML"]);
    create.push(path.as_os_str().to_owned());
    tool.call(&create)?;
    tool.call(&args(["/Run", "/TN", label]))?;
    Ok(())
}

/// Deleting also succeeds for a task that is already gone.
pub(super) fn remove(tool: &Tool<'_>, label: &str) -> Result<(), Error> {
    if tool.ask(&args(["/Query", "/TN", label]))?.is_success() {
        // `/End` fails for a task that is not running, which is fine.
        let _ = tool.ask(&args(["/End", "/TN", label]))?;
        tool.call(&args(["/Delete", "/F", "/TN", label]))?;
    }
    Ok(())
}

pub(super) fn status(tool: &Tool<'_>, label: &str, definition: PathBuf) -> Result<Status, Error> {
    Ok(Status {
        definition,
        installed: tool.ask(&args(["/Query", "/TN", label]))?.is_success(),
        // The tool prints in the system's language, so its text is not parsed.
        running: None,
        pid: None,
    })
}
