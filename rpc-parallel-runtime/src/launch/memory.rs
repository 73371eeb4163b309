//! Detects that the kernel has killed a process because memory ran out.

use std::fs::{self, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The number of out-of-memory kills at the last check.
pub(super) struct OutOfMemory {
    /// Whether the kernel's log can be read, and contains process ids of this namespace.
    has_log: bool,
    kills: Option<u64>,
}

impl OutOfMemory {
    pub(super) fn watch() -> Self {
        let has_log = is_in_initial_pid_namespace() && fs::File::open(LOG).is_ok();
        Self { has_log, kills: kills(has_log) }
    }

    /// Returns whether the kernel killed a process, which has died by `SIGKILL`, because memory ran
    /// out.
    pub(super) fn has_killed(&mut self, pid: u32) -> bool {
        let kills = kills(self.has_log);
        if kills.is_none() || kills == self.kills {
            return false;
        }
        self.kills = kills;
        // The kernel killed a process. Without the log, this process is the most likely one: both
        // the kill and this exit have happened since the last exit.
        !self.has_log || log().is_none_or(|log| records_kill(&log, pid))
    }
}

/// The kernel's log, one record per line.
const LOG: &str = "/dev/kmsg";

/// Returns whether process ids of this process equal those in the kernel's log. They differ in a
/// container.
fn is_in_initial_pid_namespace() -> bool {
    // The kernel defines this inode number: `PROC_PID_INIT_INO`.
    const OUTERMOST: &str = "pid:[4026531836]";
    fs::read_link("/proc/self/ns/pid").is_ok_and(|it| it.as_os_str() == OUTERMOST)
}

/// Returns the number of out-of-memory kills: of the whole host if the log names the processes, and
/// otherwise of this process's own cgroup, which its workers usually share.
fn kills(has_log: bool) -> Option<u64> {
    let host = "/proc/vmstat".to_owned();
    if has_log {
        return counted_in(host);
    }
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    counters_of(&groups).chain([host]).find_map(counted_in)
}

/// Returns the counter files of these cgroups, for cgroups v1 and v2. For each group the root of
/// the mount follows, because a container may see its own group there.
fn counters_of(groups: &str) -> impl Iterator<Item = String> {
    groups.lines().flat_map(|group| {
        let (hierarchy, file) = match group.split_once("::") {
            Some(_) => ("", "memory.events"),
            None if group.contains(":memory:") => ("/memory", "memory.oom_control"),
            None => return vec![],
        };
        let path = group.rsplit(':').next().unwrap_or_default().trim_end_matches('/');
        [path, ""].map(|path| format!("/sys/fs/cgroup{hierarchy}{path}/{file}")).into()
    })
}

fn counted_in(file: impl AsRef<Path>) -> Option<u64> {
    let counters = fs::read_to_string(file).ok()?;
    counters.lines().find_map(|it| it.strip_prefix("oom_kill "))?.trim().parse().ok()
}

/// Reads the kernel's log, if this process may read it.
fn log() -> Option<String> {
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let mut file = OpenOptions::new().read(true).custom_flags(nonblocking).open(LOG).ok()?;
    let (mut log, mut record) = (String::new(), vec![0; 8 * 1024]);
    loop {
        match file.read(&mut record) {
            Ok(0) => return Some(log),
            Ok(len) => {
                log.push_str(&String::from_utf8_lossy(&record[..len]));
                log.push('\n');
            }
            // The record was overwritten while it was read. The next one is complete.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Some(log),
            Err(_) => return None,
        }
    }
}

/// Returns whether the kernel's log records that this process was killed for memory.
fn records_kill(log: &str, pid: u32) -> bool {
    let words = format!("Killed process {pid} ");
    log.lines().any(|it| it.contains(&words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kill_record_matches_only_its_process_id() {
        let log = "3,123,456,-;Memory cgroup out of memory: Killed process 1234 (exe) \
                   total-vm:107644kB, anon-rss:99876kB";

        assert!(records_kill(log, 1234));
        assert!(!records_kill(log, 123));
        assert!(!records_kill(log, 12345));
    }

    #[test]
    fn counter_files_of_both_cgroup_versions_are_listed() {
        let groups = "5:devices:/a\n4:memory:/b/c\n0::/d\n";

        let counters: Vec<_> = counters_of(groups).collect();

        assert_eq!(
            counters,
            [
                "/sys/fs/cgroup/memory/b/c/memory.oom_control",
                "/sys/fs/cgroup/memory/memory.oom_control",
                "/sys/fs/cgroup/d/memory.events",
                "/sys/fs/cgroup/memory.events",
            ]
        );
    }

    #[test]
    fn running_process_was_not_killed_for_memory() {
        let mut out_of_memory = OutOfMemory::watch();

        assert!(!out_of_memory.has_killed(std::process::id()));
    }
}
