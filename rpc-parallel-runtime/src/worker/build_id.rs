//! Reads the GNU build id of this executable.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};

/// The number of bytes that are read from the file. The headers and notes are at its beginning.
const PREFIX_LEN: usize = 4096;

/// The length of a program header of a 64-bit ELF file, in bytes.
const PROGRAM_LEN: usize = 56;

const PT_NOTE: u32 = 4;
const NT_GNU_BUILD_ID: u32 = 3;

/// Returns a text that differs between builds of the executable.
///
/// It is the GNU build id, or the size of the file in bytes if the linker wrote no build id. It is
/// empty if there is no `/proc`.
pub(super) fn build_id() -> String {
    let Ok(image) = File::open("/proc/self/exe") else { return String::new() };
    let mut prefix = [0; PREFIX_LEN];
    let read = image.read_at(&mut prefix, 0).unwrap_or_default();
    let id = read_build_id(&prefix[..read]);
    let id = id.map(|it| it.iter().map(|it| format!("{it:02x}")).collect());
    id.unwrap_or_else(|| image.metadata().map_or(0, |it| it.size()).to_string())
}

/// Finds the build id in the first bytes of an executable.
fn read_build_id(elf: &[u8]) -> Option<&[u8]> {
    // Only 64-bit little-endian files are supported.
    if !elf.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (start, count) = (offset(elf, 32)?, u16_at(elf, 56)?);
    let programs = elf.get(start..)?.chunks_exact(PROGRAM_LEN).take(count.into());
    let mut notes = programs.filter(|it| u32_at(it, 0) == Some(PT_NOTE));
    notes.find_map(|it| find_build_id(elf.get(offset(it, 8)?..)?.get(..offset(it, 32)?)?))
}

fn find_build_id(mut notes: &[u8]) -> Option<&[u8]> {
    loop {
        let (name_len, len, kind) = (u32_at(notes, 0)?, u32_at(notes, 4)?, u32_at(notes, 8)?);
        let name = notes.get(12..)?.get(..name_len as usize)?;
        let start = 12 + (name_len as usize).next_multiple_of(4);
        let content = notes.get(start..)?.get(..len as usize)?;
        if kind == NT_GNU_BUILD_ID && name == b"GNU\0" {
            return Some(content);
        }
        notes = notes.get(start + (len as usize).next_multiple_of(4)..)?;
    }
}

fn offset(bytes: &[u8], at: usize) -> Option<usize> {
    let number = bytes.get(at..)?.first_chunk().map(|it| u64::from_le_bytes(*it));
    usize::try_from(number?).ok()
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|it| u32::from_le_bytes(*it))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|it| u16::from_le_bytes(*it))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn build_id_is_found_after_other_notes() {
        let mut notes = Vec::new();
        for (name, kind, content) in [("Linux\0\0\0", 1, "abcd"), ("GNU\0", 3, "build-id")] {
            for number in [name.trim_end_matches('\0').len() + 1, content.len(), kind] {
                let number = u32::try_from(number).expect("these are small");
                notes.extend(number.to_le_bytes());
            }
            notes.extend([name, content].concat().as_bytes());
        }

        assert_eq!(find_build_id(&notes), Some(&b"build-id"[..]));
        assert_eq!(find_build_id(&notes[..notes.len() - 1]), None);
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_executable_is_read_without_panic(
            rest in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)
        ) {
            let _ = read_build_id(&[&b"\x7fELF\x02\x01"[..], &rest].concat());
        }
    }

    #[test]
    fn build_id_is_present_and_stable() {
        assert_ne!(build_id(), "");
        assert_eq!(build_id(), build_id());
    }
}
