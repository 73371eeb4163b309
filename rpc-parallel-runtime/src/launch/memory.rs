//! Whether the kernel has killed a process because memory ran out.

use std::fs::{self, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// How many processes were killed for memory, when this process looked last.
pub(super) struct OutOfMemory {
    log_tells: bool,
    kills: Option<u64>,
}

impl OutOfMemory {
    pub(super) fn watch() -> Self {
        let log_tells = numbers_are_the_kernels() && fs::File::open(LOG).is_ok();
        Self { log_tells, kills: kills(log_tells) }
    }

    /// Says whether a process that died by `SIGKILL` was killed for memory.
    pub(super) fn has_killed(&mut self, pid: u32) -> bool {
        let kills = kills(self.log_tells);
        if kills.is_none() || kills == self.kills {
            return false;
        }
        self.kills = kills;
        // Some process was. Where the kernel's log does not tell which, it is this one by all
        // likelihood: both have happened since the last death.
        !self.log_tells || log().is_none_or(|log| names(&log, pid))
    }
}

/// What the kernel says, line by line.
const LOG: &str = "/dev/kmsg";

/// Says whether processes have the same numbers here as in the kernel's log: they have others in a
/// container.
fn numbers_are_the_kernels() -> bool {
    // The kernel has this number fixed: `PROC_PID_INIT_INO`.
    const OUTERMOST: &str = "pid:[4026531836]";
    fs::read_link("/proc/self/ns/pid").is_ok_and(|it| it.as_os_str() == OUTERMOST)
}

/// Returns how many processes were killed for memory: of the whole machine, where the log tells
/// which, or else of this process's own cgroup, where its workers mostly are.
fn kills(log_tells: bool) -> Option<u64> {
    let machine = "/proc/vmstat".to_owned();
    if log_tells {
        return counted_in(machine);
    }
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    counters_of(&groups).chain([machine]).find_map(counted_in)
}

/// Returns the files in which the kernel counts for one of these groups: of both versions of cgroups,
/// and where a container sees its own group as the uppermost.
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

/// Returns the kernel's log, if this process may read it.
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
            // The record was overwritten while we read; the next one is whole.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Some(log),
            Err(_) => return None,
        }
    }
}

/// Says whether the kernel's log tells of the killing of this process.
fn names(log: &str, pid: u32) -> bool {
    let words = format!("Killed process {pid} ");
    log.lines().any(|it| it.contains(&words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_names_one_process_and_no_other() {
        let log = "3,123,456,-;Memory cgroup out of memory: Killed process 1234 (exe) \
                   total-vm:107644kB, anon-rss:99876kB";

        assert!(names(log, 1234));
        assert!(!names(log, 123));
        assert!(!names(log, 12345));
    }

    #[test]
    fn the_counters_of_a_group_are_found_in_both_versions() {
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
    fn a_process_that_nobody_killed_for_memory_was_not() {
        let mut out_of_memory = OutOfMemory::watch();

        assert!(!out_of_memory.has_killed(std::process::id()));
    }
}
