//! The memory of a process: what it uses for itself, and what it shares with no other one.

use std::fs;

use anyhow::Context;

/// Reads the proportional set size of a process without file-backed pages, in MiB.
///
/// It includes the heap, the stacks, shared memory in proportion to its users, and the written
/// pages of the executable (relocated data, statics). It excludes unwritten pages of the executable
/// and of libraries, which all workers share with their master.
pub(crate) fn anonymous_mebibytes(process: u32) -> anyhow::Result<f64> {
    Ok(read(process, anonymous_kibibytes)? / 1024.0)
}

/// Reads the memory that a process shares with no other one, in KiB.
pub(crate) fn private_kibibytes(process: u32) -> anyhow::Result<f64> {
    read(process, private)
}

fn read(process: u32, value: fn(&str) -> Option<f64>) -> anyhow::Result<f64> {
    let path = format!("/proc/{process}/smaps_rollup");
    let rollup = fs::read_to_string(&path).with_context(|| format!("failed to read {path}"))?;
    value(&rollup).with_context(|| format!("expected the fields of smaps_rollup in {path}"))
}

fn private(rollup: &str) -> Option<f64> {
    Some(field(rollup, "Private_Clean:")? + field(rollup, "Private_Dirty:")?)
}

fn anonymous_kibibytes(rollup: &str) -> Option<f64> {
    Some(field(rollup, "Pss_Anon:")? + field(rollup, "Pss_Shmem:")?)
}

fn field(rollup: &str, name: &str) -> Option<f64> {
    let rest = rollup.lines().find_map(|it| it.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLLUP: &str = "\
55d0-7ffc ---p 00000000 00:00 0                          [rollup]
Rss:                2096 kB
Pss:                 412 kB
Pss_Anon:            168 kB
Pss_File:            140 kB
Pss_Shmem:           104 kB
Private_Clean:         4 kB
Private_Dirty:       136 kB
";

    #[test]
    fn private_memory_is_clean_and_dirty() {
        assert_eq!(private(ROLLUP), Some(140.0));
    }

    #[test]
    fn file_backed_pages_do_not_count() {
        assert_eq!(anonymous_kibibytes(ROLLUP), Some(272.0));
    }

    #[test]
    fn missing_field_is_not_zero() {
        assert_eq!(anonymous_kibibytes("Rss: 2096 kB\n"), None);
    }

    #[test]
    fn this_process_uses_memory() {
        assert!(
            anonymous_mebibytes(std::process::id())
                .expect("a process may read its own memory statistics")
                > 0.0
        );
    }
}
