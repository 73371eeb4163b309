//! The processes, threads and descriptors of this process.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::deadline::Deadline;
use crate::process::children;

/// The thread that acquires the lock of std's stderr for relayed output, by the name that the
/// kernel keeps, of 15 bytes.
///
/// A process starts it when it relays the first output of a worker, and keeps it. Most workers
/// print nothing, so the first output may come after the baseline, for instance from a worker whose
/// master was killed while it started the worker.
const LOCK_THREAD: &str = "rpc-parallel lo";

/// The resources that this process holds.
#[derive(Clone, PartialEq)]
pub(crate) struct Resources {
    processes: Vec<u32>,
    threads: Vec<String>,
    /// The target of each descriptor.
    descriptors: BTreeMap<u32, String>,
}

impl Resources {
    /// Lists the current resources of this process.
    pub(crate) fn current() -> Self {
        Self {
            processes: children(std::process::id()),
            threads: threads(),
            descriptors: descriptors(),
        }
    }

    /// Waits until this process holds no more than `self`. Returns a description of the surplus if
    /// that takes longer than `bound`.
    ///
    /// `with_descriptors` is false where other processes may connect to this one at any time.
    pub(crate) async fn wait_for_release(
        &self,
        bound: Duration,
        with_descriptors: bool,
    ) -> Option<String> {
        let mut deadline = Deadline::after(bound);
        loop {
            let surplus = Self::current().surplus(self, with_descriptors)?;
            if !deadline.tick().await {
                return Some(surplus);
            }
        }
    }

    /// Describes the resources in `self` that were not there before.
    fn surplus(&self, before: &Self, with_descriptors: bool) -> Option<String> {
        if self.processes.len() > before.processes.len() {
            return Some(format!("processes {:?}, including zombies", self.processes));
        }
        let kept = usize::from(self.has_lock_thread() && !before.has_lock_thread());
        if self.threads.len() > before.threads.len() + kept {
            return Some(format!("threads {:?}, before {:?}", self.threads, before.threads));
        }
        if with_descriptors && self.descriptors.len() > before.descriptors.len() {
            let mut after = self.descriptors.clone();
            after.retain(|number, target| before.descriptors.get(number) != Some(target));
            return Some(format!("descriptors {after:?}"));
        }
        None
    }

    fn has_lock_thread(&self) -> bool {
        self.threads.iter().any(|it| it == LOCK_THREAD)
    }
}

fn threads() -> Vec<String> {
    let Ok(threads) = fs::read_dir("/proc/self/task") else { return Vec::new() };
    let name = |path: PathBuf| fs::read_to_string(path.join("comm")).ok();
    threads.flatten().filter_map(|it| Some(name(it.path())?.trim().to_owned())).collect()
}

fn descriptors() -> BTreeMap<u32, String> {
    let Ok(descriptors) = fs::read_dir("/proc/self/fd") else { return BTreeMap::new() };
    let open = descriptors.flatten().filter_map(|it| {
        let target = fs::read_link(it.path()).ok()?;
        // The descriptor of this listing is closed afterwards.
        if target.ends_with("fd") {
            return None;
        }
        Some((it.file_name().to_str()?.parse().ok()?, target.to_string_lossy().into_owned()))
    });
    open.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_file_is_a_surplus_descriptor() {
        let before = Resources::current();
        let file = fs::File::open("/dev/null").expect("/dev/null exists");
        let meanwhile = Resources::current();
        drop(file);

        let surplus = meanwhile.surplus(&before, true).expect("a file is open");
        assert!(surplus.contains("/dev/null"), "{surplus}");
        assert_eq!(meanwhile.surplus(&before, false), None);
    }

    #[test]
    fn first_lock_thread_is_no_surplus() {
        let before = with_threads(&["main"]);
        let locking = with_threads(&["main", LOCK_THREAD]);

        assert_eq!(locking.surplus(&before, true), None);
    }

    #[test]
    fn second_lock_thread_is_surplus() {
        let before = with_threads(&["main"]);
        let locking = with_threads(&["main", LOCK_THREAD]);
        let leaking = with_threads(&["main", LOCK_THREAD, LOCK_THREAD]);

        assert!(leaking.surplus(&before, true).is_some());
        assert!(leaking.surplus(&locking, true).is_some());
    }

    #[test]
    fn other_thread_beside_first_lock_thread_is_surplus() {
        let before = with_threads(&["main"]);
        let leaking = with_threads(&["main", LOCK_THREAD, "worker"]);

        assert!(leaking.surplus(&before, true).is_some());
    }

    fn with_threads(names: &[&str]) -> Resources {
        Resources {
            processes: Vec::new(),
            threads: names.iter().map(|&it| it.to_owned()).collect(),
            descriptors: BTreeMap::new(),
        }
    }
}
