//! Whether the kernel has killed a process because memory ran out.

use std::fs::{self, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

/// How many processes of this machine were killed for memory, when this process looked last.
pub(super) struct OutOfMemory {
    kills: Option<u64>,
}

impl OutOfMemory {
    pub(super) fn watch() -> Self {
        Self { kills: kills() }
    }

    /// Says whether a process that died by `SIGKILL` was killed for memory.
    pub(super) fn has_killed(&mut self, pid: u32) -> bool {
        let kills = kills();
        if kills.is_none() || kills == self.kills {
            return false;
        }
        self.kills = kills;
        // Some process was. Where the kernel's log does not tell which, it is this one by all
        // likelihood: both have happened since the last death.
        !numbers_are_the_kernels() || log().is_none_or(|log| names(&log, pid))
    }
}

/// Says whether processes have the same numbers here as in the kernel's log: they have others in a
/// container.
fn numbers_are_the_kernels() -> bool {
    // The kernel has this number fixed: `PROC_PID_INIT_INO`.
    const OUTERMOST: &str = "pid:[4026531836]";
    fs::read_link("/proc/self/ns/pid").is_ok_and(|it| it.as_os_str() == OUTERMOST)
}

/// Returns how many processes of this machine were killed for memory since it began.
fn kills() -> Option<u64> {
    let counters = fs::read_to_string("/proc/vmstat").ok()?;
    counters.lines().find_map(|it| it.strip_prefix("oom_kill "))?.trim().parse().ok()
}

/// Returns the kernel's log, if this process may read it.
fn log() -> Option<String> {
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let mut file =
        OpenOptions::new().read(true).custom_flags(nonblocking).open("/dev/kmsg").ok()?;
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
    fn a_process_that_nobody_killed_for_memory_was_not() {
        let mut out_of_memory = OutOfMemory::watch();

        assert!(!out_of_memory.has_killed(std::process::id()));
    }
}
