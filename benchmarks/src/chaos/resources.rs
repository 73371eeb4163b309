//! What a process holds that it should not hold for ever.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use super::patience::Patience;
use super::signal::children;

/// What this process holds.
#[derive(Clone, PartialEq)]
pub(super) struct Resources {
    processes: Vec<u32>,
    threads: Vec<String>,
    /// What each descriptor leads to.
    descriptors: BTreeMap<u32, String>,
}

impl Resources {
    pub(super) fn now() -> Self {
        Self {
            processes: children(std::process::id()),
            threads: threads(),
            descriptors: descriptors(),
        }
    }

    /// Waits until this process holds no more than it did, and says what is too much if that does
    /// not come to pass.
    ///
    /// Descriptors do not count where others come and go.
    pub(super) async fn settled(&self, bound: Duration, with_descriptors: bool) -> Option<String> {
        let mut patience = Patience::of(bound);
        loop {
            let surplus = Self::now().beyond(self, with_descriptors)?;
            if !patience.wait().await {
                return Some(surplus);
            }
        }
    }

    /// Says what there is now that was not there before.
    fn beyond(&self, before: &Self, with_descriptors: bool) -> Option<String> {
        if self.processes.len() > before.processes.len() {
            return Some(format!("processes {:?}, zombies included", self.processes));
        }
        if self.threads.len() > before.threads.len() {
            return Some(format!("threads {:?} after {:?}", self.threads, before.threads));
        }
        if with_descriptors && self.descriptors.len() > before.descriptors.len() {
            let mut after = self.descriptors.clone();
            after.retain(|number, what| before.descriptors.get(number) != Some(what));
            return Some(format!("descriptors {after:?}"));
        }
        None
    }
}

fn threads() -> Vec<String> {
    let Ok(threads) = fs::read_dir("/proc/self/task") else { return Vec::new() };
    let name = |path: std::path::PathBuf| fs::read_to_string(path.join("comm")).ok();
    threads.flatten().filter_map(|it| Some(name(it.path())?.trim().to_owned())).collect()
}

fn descriptors() -> BTreeMap<u32, String> {
    let Ok(descriptors) = fs::read_dir("/proc/self/fd") else { return BTreeMap::new() };
    let open = descriptors.flatten().filter_map(|it| {
        let target = fs::read_link(it.path()).ok()?;
        // The one that lists them is closed again.
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
    fn what_is_open_is_too_much_until_it_is_closed() {
        let before = Resources::now();
        let file = fs::File::open("/dev/null").expect("there is always a /dev/null");
        let meanwhile = Resources::now();
        drop(file);

        let surplus = meanwhile.beyond(&before, true).expect("a file is open");
        assert!(surplus.contains("/dev/null"), "{surplus}");
        assert_eq!(meanwhile.beyond(&before, false), None);
    }
}
