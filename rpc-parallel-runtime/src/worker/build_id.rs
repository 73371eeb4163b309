//! Identifies the build of the file that contains the code of this library.

use std::fmt::Write;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::elf::read_build_id;
use super::own_object::{Image, OwnObject};
use crate::wire::ContentHash;

/// The number of bytes that are read at once to hash the file.
const HASHED_LEN: usize = 64 * 1024;

/// Returns a text that differs between builds of the file that contains the code of this library.
///
/// It is the GNU build id, or a hash of the content if the linker wrote no build id. It is the
/// device and the inode of a shared library that was deleted, and empty if there is no `/proc` or
/// if the executable is not readable.
pub(super) fn build_id() -> String {
    if cfg!(miri) {
        // The file of this process is Miri's, and interpreted code takes minutes to hash it.
        return String::new();
    }
    let object = OwnObject::find();
    let identified = object.image().and_then(|it| identify(it).ok());
    identified.or_else(|| object.loaded().map(|it| it.id.clone())).unwrap_or_default()
}

/// Returns the build id of a file, or the hash of its content.
fn identify(image: &Image) -> io::Result<String> {
    let mut text = String::new();
    match read_build_id(&image.prefix) {
        Some(id) => id.iter().for_each(|it| {
            let _ = write!(text, "{it:02x}");
        }),
        None => {
            let _ = write!(text, "{:016x}", hash(&image.file)?);
        }
    }
    Ok(text)
}

/// Returns the hash of the whole file.
fn hash(file: &File) -> io::Result<u64> {
    let (mut hash, mut offset, mut buffer) = (ContentHash::default(), 0, vec![0; HASHED_LEN]);
    loop {
        let mut filled = 0;
        // Only the last piece may be shorter, so the pieces do not depend on the file system.
        while filled < buffer.len() {
            match file.read_at(&mut buffer[filled..], offset) {
                Ok(0) => break,
                Ok(read) => (filled, offset) = (filled + read, offset + read as u64),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        hash.update(&buffer[..filled]);
        if filled < buffer.len() {
            return Ok(hash.finish());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the id of a file with this content.
    fn identify_content(content: &[u8]) -> String {
        let mut file = tempfile::tempfile().expect("make a file");
        io::Write::write_all(&mut file, content).expect("write to the file");
        identify(&Image { file, prefix: Vec::new() }).expect("the file is readable")
    }

    #[test]
    fn files_of_equal_size_without_build_id_have_different_ids() {
        let mut content = vec![7; HASHED_LEN + 100];
        let first = identify_content(&content);
        let same = identify_content(&content);
        for position in [0, HASHED_LEN - 1, HASHED_LEN, HASHED_LEN + 99] {
            content[position] = 8;
            let changed = identify_content(&content);
            content[position] = 7;

            assert_ne!(first, changed, "{position}");
        }

        assert_eq!(first, same);
    }

    #[test]
    fn build_id_is_present_and_stable() {
        assert_ne!(build_id(), "");
        assert_eq!(build_id(), build_id());
    }
}
