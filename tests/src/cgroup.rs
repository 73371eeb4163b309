//! Groups of processes that may have only so much memory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::process::PATIENCE;

/// Where the groups of the first version are, if the system has them.
const V1: &str = "/sys/fs/cgroup/memory";

/// Where those of the second version are.
const V2: &str = "/sys/fs/cgroup";

/// A group of processes; it goes when this is dropped, once its processes are gone.
#[derive(Debug)]
pub struct MemoryGroup(PathBuf);

impl MemoryGroup {
    /// Makes a group that may have so many bytes.
    ///
    /// # Errors
    ///
    /// The system has none, or we may not: the text says what was tried and what came of it.
    pub fn new(bytes: u64) -> Result<Self, String> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("rpc-parallel-test-{}-{number}", std::process::id());
        let first = Path::new(V1).exists();
        let group = Path::new(if first { V1 } else { V2 }).join(name);
        fs::create_dir(&group).map_err(|it| format!("make {}: {it}", group.display()))?;
        let group = Self(group);
        let limits = if first {
            ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"]
        } else {
            ["memory.max", "memory.swap.max"]
        };
        group.write(limits[0], bytes)?;
        // Where there is no swap there is nothing to be limited.
        let _ = group.write(limits[1], if first { bytes } else { 0 });
        Ok(group)
    }

    /// Puts a process into the group.
    ///
    /// # Errors
    ///
    /// We may not.
    pub fn take(&self, pid: u32) -> Result<(), String> {
        self.write("cgroup.procs", pid.into())
    }

    fn write(&self, file: &str, number: u64) -> Result<(), String> {
        let path = self.0.join(file);
        let written = fs::write(&path, number.to_string());
        written.map_err(|it| format!("write {number} to {}: {it}", path.display()))
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        let began = Instant::now();
        while let Err(error) = fs::remove_dir(&self.0) {
            if error.kind() != io::ErrorKind::ResourceBusy || began.elapsed() > PATIENCE {
                println!("left behind: {}: {error}", self.0.display());
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}
