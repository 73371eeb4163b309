//! Control groups with a memory limit.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::process::TEST_TIMEOUT;

/// The memory controller of cgroup v1, where the system has it.
const V1: &str = "/sys/fs/cgroup/memory";

/// The root of cgroup v2.
const V2: &str = "/sys/fs/cgroup";

/// A control group. Dropping it removes the group after its processes have exited.
#[derive(Debug)]
pub struct MemoryGroup(PathBuf);

impl MemoryGroup {
    /// Makes a group whose processes may use this many bytes together.
    ///
    /// # Errors
    ///
    /// Returns a text with the failed operation and its cause if the system has no control groups
    /// or denies access.
    pub fn new(bytes: u64) -> Result<Self, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("rpc-parallel-test-{}-{number}", std::process::id());
        let is_v1 = Path::new(V1).exists();
        let path = Path::new(if is_v1 { V1 } else { V2 }).join(name);
        let created = fs::create_dir(&path);
        created.map_err(|error| format!("failed to create {}: {error}", path.display()))?;
        let group = Self(path);
        let files = if is_v1 {
            ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"]
        } else {
            ["memory.max", "memory.swap.max"]
        };
        group.write(files[0], bytes)?;
        // The file does not exist on a system without swap.
        let _ = group.write(files[1], if is_v1 { bytes } else { 0 });
        Ok(group)
    }

    /// Moves a process into the group.
    ///
    /// # Errors
    ///
    /// Returns a text with the cause if the system denies it.
    pub fn add(&self, pid: u32) -> Result<(), String> {
        self.write("cgroup.procs", pid.into())
    }

    fn write(&self, file: &str, number: u64) -> Result<(), String> {
        let path = self.0.join(file);
        let written = fs::write(&path, number.to_string());
        written.map_err(|error| format!("failed to write {number} to {}: {error}", path.display()))
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        let began = Instant::now();
        while let Err(error) = fs::remove_dir(&self.0) {
            if error.kind() != io::ErrorKind::ResourceBusy || began.elapsed() > TEST_TIMEOUT {
                println!("failed to remove {}: {error}", self.0.display());
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}
