//! What a process holds in memory that belongs to nobody else.

use std::fs;

use anyhow::Context;

/// Reads how many MiB of a process are not pages of files, shared pages by their share.
///
/// That is its heap, its stacks, memory shared with others, and the pages of the executable that it
/// has written to (relocated data, statics). Left out are unwritten pages of the executable and of
/// libraries: all workers of one executable share them with its master.
pub(crate) fn own_mebibytes(process: u32) -> anyhow::Result<f64> {
    let path = format!("/proc/{process}/smaps_rollup");
    let rollup = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    own_kibibytes(&rollup)
        .map(|it| it / 1024.0)
        .with_context(|| format!("find its fields in {path}"))
}

fn own_kibibytes(rollup: &str) -> Option<f64> {
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
";

    #[test]
    fn pages_of_files_do_not_count() {
        assert_eq!(own_kibibytes(ROLLUP), Some(272.0));
    }

    #[test]
    fn a_missing_field_is_no_zero() {
        assert_eq!(own_kibibytes("Rss: 2096 kB\n"), None);
    }

    #[test]
    fn this_very_process_holds_something() {
        assert!(own_mebibytes(std::process::id()).expect("one may read one's own") > 0.0);
    }
}
