//! The build id that the linker has left in this executable.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};

/// Where the program headers of a 64-bit ELF file are said to be, in its first bytes.
const HEADER_LEN: usize = 64;

const PT_NOTE: u32 = 4;
const NT_GNU_BUILD_ID: u32 = 3;

/// Notes are short; one that claims to be longer is none of ours.
const MAX_NOTE_LEN: usize = 4096;

/// Returns what tells the running executable from other builds.
///
/// That is the GNU build id; the size of the file where the linker was told to leave none.
pub(super) fn build_id() -> String {
    let Ok(image) = File::open("/proc/self/exe") else { return String::new() };
    let note = read_build_id(|buffer, at| image.read_exact_at(buffer, at).ok());
    let note = note.map(|id| id.iter().map(|it| format!("{it:02x}")).collect());
    note.unwrap_or_else(|| image.metadata().map_or(0, |it| it.size()).to_string())
}

fn read_build_id(read: impl Fn(&mut [u8], u64) -> Option<()>) -> Option<Vec<u8>> {
    let mut header = [0; HEADER_LEN];
    read(&mut header, 0)?;
    // 64 bits, little endian: the only kind that we know.
    if header[..6] != *b"\x7fELF\x02\x01" {
        return None;
    }
    let (start, len, count) = (number(&header, 32)?, u16_at(&header, 54)?, u16_at(&header, 56)?);
    (0..u64::from(count)).find_map(|index| {
        let mut program = [0; 56];
        read(&mut program, start.checked_add(index * u64::from(len))?)?;
        if u32_at(&program, 0)? != PT_NOTE {
            return None;
        }
        let len = usize::try_from(number(&program, 32)?).ok().filter(|it| *it <= MAX_NOTE_LEN)?;
        let mut notes = vec![0; len];
        read(&mut notes, number(&program, 8)?)?;
        find_build_id(&notes)
    })
}

fn find_build_id(mut notes: &[u8]) -> Option<Vec<u8>> {
    loop {
        let (name_len, len, kind) = (u32_at(notes, 0)?, u32_at(notes, 4)?, u32_at(notes, 8)?);
        let name = notes.get(12..)?.get(..name_len as usize)?;
        let start = 12 + (name_len as usize).next_multiple_of(4);
        let content = notes.get(start..)?.get(..len as usize)?;
        if kind == NT_GNU_BUILD_ID && name == b"GNU\0" {
            return Some(content.to_vec());
        }
        notes = notes.get(start + (len as usize).next_multiple_of(4)..)?;
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|it| u64::from_le_bytes(*it))
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
    fn a_build_id_is_found_behind_other_notes() {
        let mut notes = Vec::new();
        for (name, kind, content) in [("Linux\0\0\0", 1, "abcd"), ("GNU\0", 3, "build-id")] {
            for number in [name.trim_end_matches('\0').len() + 1, content.len(), kind] {
                let number = u32::try_from(number).expect("these are small");
                notes.extend(number.to_le_bytes());
            }
            notes.extend([name, content].concat().as_bytes());
        }

        assert_eq!(find_build_id(&notes), Some(b"build-id".to_vec()));
        assert_eq!(find_build_id(&notes[..notes.len() - 1]), None);
    }

    #[test]
    fn what_is_no_executable_has_no_build_id() {
        assert_eq!(read_build_id(|_, _| None), None);
        assert_eq!(read_build_id(|buffer, _| Some(buffer.fill(0xff))), None);
    }

    #[test]
    fn this_executable_tells_itself_from_others() {
        assert_ne!(build_id(), "");
        assert_eq!(build_id(), build_id());
    }
}
