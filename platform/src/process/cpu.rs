//! Processor time.

use std::time::Duration;

use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

/// The processor time that the process `pid` and its descendants have used; `None` if there is no such process.
#[must_use]
pub fn cpu_time(pid: u32) -> Option<Duration> {
    let mut system = System::new().ok()?;
    let kind = ProcessRefreshKind::nothing().with_cpu().without_tasks();
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, kind);
    let mut family = vec![system.process(Pid::from_u32(pid))?];
    let mut total = 0;
    while let Some(process) = family.pop() {
        total += process.accumulated_cpu_time();
        let is_child = |other: &&sysinfo::Process| other.parent() == Some(process.pid());
        family.extend(system.processes().values().filter(is_child));
    }
    Some(Duration::from_millis(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_uses_processor_time() {
        let pid = std::process::id();
        let before = cpu_time(pid).unwrap();
        let start = std::time::Instant::now();
        while cpu_time(pid).unwrap() == before {
            assert!(start.elapsed() < Duration::from_secs(20));
        }
    }
}
