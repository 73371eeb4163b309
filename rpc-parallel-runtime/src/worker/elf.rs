//! The program headers of an object file: 64-bit little-endian ELF.

/// The length of a program header, in bytes.
const HEADER_LEN: usize = 56;

const PT_LOAD: u32 = 1;
const PT_INTERP: u32 = 3;
const PT_NOTE: u32 = 4;
const NT_GNU_BUILD_ID: u32 = 3;

/// A program header.
struct Header {
    kind: u32,
    /// The position of the segment in the file.
    offset: u64,
    /// The address of the segment, before the loader has moved the object.
    address: u64,
    len_in_file: u64,
    len_in_memory: u64,
}

/// Returns the program headers in the first bytes of an object file.
fn program_headers(elf: &[u8]) -> Option<impl Iterator<Item = Header>> {
    if !elf.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (start, count) = (usize::try_from(u64_at(elf, 32)?).ok()?, u16_at(elf, 56)?);
    let headers = elf.get(start..)?.chunks_exact(HEADER_LEN).take(count.into());
    Some(headers.filter_map(|it| {
        let (kind, offset, address) = (u32_at(it, 0)?, u64_at(it, 8)?, u64_at(it, 16)?);
        let (len_in_file, len_in_memory) = (u64_at(it, 32)?, u64_at(it, 40)?);
        Some(Header { kind, offset, address, len_in_file, len_in_memory })
    }))
}

/// Finds the build id in the first bytes of an object file.
pub(super) fn read_build_id(elf: &[u8]) -> Option<&[u8]> {
    let mut notes = program_headers(elf)?.filter(|it| it.kind == PT_NOTE);
    notes.find_map(|it| {
        let content = elf.get(usize::try_from(it.offset).ok()?..)?;
        find_build_id(content.get(..usize::try_from(it.len_in_file).ok()?)?)
    })
}

/// Returns whether an object names its dynamic loader, as programs do and shared libraries do not.
pub(super) fn names_loader(elf: &[u8]) -> bool {
    program_headers(elf).into_iter().flatten().any(|it| it.kind == PT_INTERP)
}

/// Returns whether an address in this process is in the segments of its executable.
///
/// `elf` are the first bytes of the executable. `headers` is the address of its program headers in
/// this process.
pub(super) fn is_in_image(elf: &[u8], headers: u64, address: u64) -> bool {
    find_in_image(elf, headers, address).unwrap_or(false)
}

fn find_in_image(elf: &[u8], headers: u64, address: u64) -> Option<bool> {
    let offset = u64_at(elf, 32)?;
    let segments = || program_headers(elf).into_iter().flatten().filter(|it| it.kind == PT_LOAD);
    let first = segments()
        .find(|it| offset.checked_sub(it.offset).is_some_and(|at| at < it.len_in_file))?;
    // How far the loader has moved the object.
    let moved = headers.wrapping_sub(first.address.wrapping_add(offset - first.offset));
    let address = address.wrapping_sub(moved);
    Some(segments().any(|it| address.wrapping_sub(it.address) < it.len_in_memory))
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

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
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
            rest in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300),
            headers: u64,
        ) {
            let elf = [&b"\x7fELF\x02\x01"[..], &rest].concat();

            let _ = read_build_id(&elf);
            let _ = names_loader(&elf);
            let _ = is_in_image(&elf, headers, 7);
        }
    }

    #[test]
    fn only_object_with_interpreter_is_program() {
        let header = |kind: u32| {
            let mut elf = vec![0; 64 + HEADER_LEN];
            elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
            elf[32] = 64;
            elf[56] = 1;
            elf[64..68].copy_from_slice(&kind.to_le_bytes());
            elf
        };

        assert!(names_loader(&header(PT_INTERP)));
        assert!(!names_loader(&header(PT_NOTE)));
        assert!(!names_loader(b"#!/bin/sh"));
    }
}
