//! The report of `doctor`: failures, then warnings, one line for the rest, and the one command to run next.

use gem_setup::setup::{Check, Fix, Status};

use super::{Palette, Printer};

/// The `doctor` commands that can be advice, the most effective first: `install` applies all steps, a repair only the failed ones.
const ORDER: [&str; 3] = ["install", "doctor --fix --accept-terms", "doctor --fix"];

/// The columns before advice to follow by hand.
const BY_HAND_INDENT: usize = 4;

/// A task for a person.
#[derive(Debug, PartialEq, Eq)]
struct Task<'a> {
    advice: &'a str,
    /// The checks that ask for it.
    ids: Vec<&'static str>,
    /// Whether one of them failed; else they are warnings.
    is_needed: bool,
}

/// The checks of one `doctor` run, grouped for a person.
pub(crate) struct Diagnosis<'a> {
    checks: &'a [Check],
    /// The one command to run next.
    command: Option<&'a str>,
    /// The command that installs, if there is no installation.
    install: Option<&'a str>,
}

impl<'a> Diagnosis<'a> {
    /// `install` is the command for a home without an installation.
    pub(crate) fn new(checks: &'a [Check], install: Option<&'a str>) -> Self {
        let is_empty = !checks.iter().any(is_running);
        Self {
            checks,
            command: next_command(checks),
            install: install.filter(|_| is_empty),
        }
    }

    pub(crate) fn print(&self, printer: &Printer) {
        let palette = printer.out();
        let statuses: &[Status] = match printer.is_verbose() {
            true => &[Status::Fail, Status::Warn, Status::Ok, Status::Skip],
            false => &[Status::Fail, Status::Warn],
        };
        let shown = statuses.iter().flat_map(|status| self.with(*status));
        let mut rows: Vec<_> = shown.flat_map(|check| self.rows_of(palette, check)).collect();
        let others = self.with(Status::Ok).count();
        if others > 0 && !printer.is_verbose() {
            let text = format!("{others} other checks (`-v` lists them)");
            rows.push([mark(palette, Status::Ok), text]);
        }
        printer.table(&rows, 1);
        for (is_needed, heading) in [(true, "By hand:"), (false, "By hand, not needed for routing:")] {
            let tasks = self.by_hand().into_iter().filter(|task| task.is_needed == is_needed);
            let tasks: Vec<Task<'_>> = tasks.collect();
            if !tasks.is_empty() {
                printer.line("");
                printer.line(heading);
            }
            for Task { advice, ids, .. } in tasks {
                let text = printer.tilde(&format!("  {}: {advice}", ids.join(", ")));
                printer.prose(&text, BY_HAND_INDENT);
            }
        }
        printer.line("");
        self.verdict(printer).iter().for_each(|line| printer.line(line));
    }

    /// The checks with this status that the report shows.
    fn with(&self, status: Status) -> impl Iterator<Item = &'a Check> {
        let is_empty = self.install.is_some();
        let checks = self.checks.iter().filter(move |check| check.status == status);
        checks.filter(move |check| !(is_empty && check.has_failed() && !is_by_hand(check)))
    }

    /// The check, and below it its fix.
    fn rows_of(&self, palette: Palette, check: &Check) -> Vec<[String; 2]> {
        let text = format!("{}: {}", check.id, check.detail);
        let mut rows = vec![[mark(palette, check.status), text]];
        if let Some(fix @ Fix::Command(command)) = &check.fix
            && (command.or.is_some() || !self.covers(&command.args))
        {
            rows.push([String::new(), format!("  {} {fix}", palette.dim("fix:"))]);
        }
        rows
    }

    /// Whether the one command to run includes the effect of `args`: a repair starts the server too.
    fn covers(&self, args: &str) -> bool {
        self.command == Some(args)
            || ["doctor --fix", "start", "restart"]
                .iter()
                .any(|start| args.starts_with(start))
    }

    /// The tasks to do by hand, each with its checks.
    fn by_hand(&self) -> Vec<Task<'a>> {
        let mut tasks: Vec<Task<'a>> = Vec::new();
        for check in self.with(Status::Fail).chain(self.with(Status::Warn)) {
            let Some(Fix::ByHand(text) | Fix::Later(text)) = &check.fix else {
                continue;
            };
            match tasks.iter_mut().find(|task| task.advice == text) {
                Some(task) => task.ids.push(check.id),
                None => tasks.push(Task {
                    advice: text,
                    ids: vec![check.id],
                    is_needed: check.has_failed(),
                }),
            }
        }
        tasks
    }

    /// Whether there is a failure that only a person can resolve: a command before that would fail too.
    fn waits_for_a_person(&self) -> bool {
        self.with(Status::Fail).any(is_by_hand)
    }

    /// The last lines: whether routing works, and the next step.
    fn verdict(&self, printer: &Printer) -> Vec<String> {
        if let Some(args) = self.install {
            return vec![if self.waits_for_a_person() {
                format!("not installed: follow the steps under \"By hand\", then run `gem-setup {args}`")
            } else {
                format!("not installed: run `gem-setup {args}`")
            }];
        }
        let faults = self.with(Status::Fail).count();
        let state = match (faults, self.with(Status::Warn).count()) {
            (0, 0) => "Routing works on this machine.".to_owned(),
            (0, 1) => "Routing works on this machine; 1 warning.".to_owned(),
            (0, warnings) => format!("Routing works on this machine; {warnings} warnings."),
            _ if self.with(Status::Fail).all(is_of_records) => {
                "gem-setup cannot use its own files; routing may still work.".to_owned()
            }
            (1, _) => "1 fault keeps routing from working.".to_owned(),
            (faults, _) => format!("{faults} faults keep routing from working."),
        };
        let command = |args: &str| printer.typed(&format!("gem-setup {args}"));
        let next = match self.command {
            args if self.waits_for_a_person() => {
                let args = args.unwrap_or("doctor");
                Some(format!("Follow the steps under \"By hand\", then: {}", command(args)))
            }
            Some(args) => Some(format!("Next: {}", command(args))),
            None if self.with(Status::Fail).any(is_later) => {
                Some(format!("When that is done, run: {}", command("doctor")))
            }
            None => None,
        };
        [Some(state), next].into_iter().flatten().collect()
    }
}

fn is_running(check: &Check) -> bool {
    check.id == "server.process" && check.status == Status::Ok
}

fn is_of_records(check: &Check) -> bool {
    check.id == "setup.records"
}

fn is_by_hand(check: &Check) -> bool {
    matches!(check.fix, Some(Fix::ByHand(_)))
}

fn is_later(check: &Check) -> bool {
    matches!(check.fix, Some(Fix::Later(_)))
}

/// The command that resolves most of the failures, or of the warnings if nothing failed.
fn next_command(checks: &[Check]) -> Option<&str> {
    let worst = checks.iter().map(|check| check.status).max()?;
    let fixes = checks.iter().filter(|check| check.status == worst);
    let commands = fixes.filter_map(|check| check.fix.as_ref()?.args());
    commands.min_by_key(|args| {
        ORDER
            .iter()
            .position(|start| args.starts_with(start))
            .unwrap_or(ORDER.len())
    })
}

fn mark(palette: Palette, status: Status) -> String {
    match status {
        Status::Ok => palette.good("ok  "),
        Status::Skip => palette.dim("skip"),
        Status::Warn => palette.doubtful("warn"),
        Status::Fail => palette.bad("FAIL"),
    }
}

#[cfg(test)]
mod tests {
    use gem_setup::setup::Subject;

    use super::*;

    fn failed(id: &'static str, args: &str) -> Check {
        Subject::new(id, "title").fail("wrong", Fix::run(args))
    }

    #[test]
    fn the_widest_command_is_the_next() {
        let repair = failed("a", "doctor --fix");
        let accept = failed("b", "doctor --fix --accept-terms");
        let start = failed("c", "start");
        let install = failed("d", "install --port 9380");
        assert_eq!(next_command(&[start.clone(), repair.clone()]), Some("doctor --fix"));
        let both = [repair.clone(), accept];
        assert_eq!(next_command(&both), Some("doctor --fix --accept-terms"));
        assert_eq!(next_command(&[start, repair, install]), Some("install --port 9380"));
    }

    #[test]
    fn a_warning_waits_for_the_failures() {
        let warning = Subject::new("a", "title").warn("odd", Fix::run("start"));
        let by_hand = Subject::new("b", "title").fail("wrong", Fix::by_hand("do it"));
        assert_eq!(next_command(std::slice::from_ref(&warning)), Some("start"));
        assert_eq!(next_command(&[warning, by_hand]), None);
    }

    #[test]
    fn a_fault_that_waits_for_another_ends_with_doctor() {
        let later = Fix::Later("wait until it is done, then run `gem-setup doctor` again".to_owned());
        let checks = [Subject::new("a", "title").fail("wrong", later)];
        let printer = Printer::new(false, false, Some(false));
        printer.begin_commands_with("npx gem-setup".to_owned());
        let lines = Diagnosis::new(&checks, None).verdict(&printer);
        assert_eq!(lines.last().unwrap(), "When that is done, run: npx gem-setup doctor");
        assert_eq!(printer.here("run `gem-setup start`"), "run `npx gem-setup start`");
    }

    #[test]
    fn one_advice_is_given_once() {
        let checks = ["a", "b"].map(|id| Subject::new(id, "title").fail("wrong", Fix::by_hand("free some room")));
        let diagnosis = Diagnosis::new(&checks, None);
        let task = Task {
            advice: "free some room",
            ids: vec!["a", "b"],
            is_needed: true,
        };
        assert_eq!(diagnosis.by_hand(), [task]);
    }
}
