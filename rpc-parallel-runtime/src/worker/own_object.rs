//! The file that contains the code of this library: the executable, or another file that the
//! executable has loaded.

use std::ffi::OsStr;
use std::fs::{File, read_link};
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rpc_parallel_os::program_headers_address;

use super::elf::{is_in_image, names_loader};

/// The number of bytes of a file that are read. The headers and notes are at its beginning.
const PREFIX_LEN: usize = 4096;

/// The number of bytes of `/proc/self/maps` that are read at once. They usually contain the first
/// mappings of the executable. The kernel takes longer for each further mapping.
const READ_LEN: usize = 512;

/// The running executable.
const EXECUTABLE: &str = "/proc/self/exe";

/// The file that contains the code of this library.
pub(crate) struct OwnObject {
    /// The file, if it is not the executable: a shared library, or a program that was passed to the
    /// dynamic loader (`ld.so ./program`), which is the executable then.
    loaded: Option<MappedFile>,
    /// `None` if the file cannot be read.
    image: Option<Image>,
}

/// A file that contains code, and its first bytes.
pub(super) struct Image {
    pub(super) file: File,
    pub(super) prefix: Vec<u8>,
}

/// A file that is mapped into this process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct MappedFile {
    path: PathBuf,
    /// The device and the inode, as `/proc/self/maps` prints them.
    pub(super) id: String,
    /// The name of the mapping in `/proc/self/map_files`.
    range: String,
}

impl OwnObject {
    /// Finds the file. Without `/proc` the executable is assumed, which cannot be read then.
    pub(crate) fn find() -> Self {
        let executable = Image::open(Path::new(EXECUTABLE)).ok();
        let address = Self::find as *const () as usize;
        // This is the usual case, and quicker than `/proc/self/maps`.
        let headers = program_headers_address();
        let contains_code =
            |it: &Image| headers.is_some_and(|at| is_in_image(&it.prefix, at, address as u64));
        if executable.as_ref().is_some_and(contains_code) {
            return Self { loaded: None, image: executable };
        }
        match find_loaded(address) {
            Some(loaded) => Self { image: loaded.open().ok(), loaded: Some(loaded) },
            None => Self { loaded: None, image: executable },
        }
    }

    /// Returns the first bytes of the file and the rest, if it can be read.
    pub(super) fn image(&self) -> Option<&Image> {
        self.image.as_ref()
    }

    /// Returns the file, if it is not the executable.
    pub(super) fn loaded(&self) -> Option<&MappedFile> {
        self.loaded.as_ref()
    }

    /// Returns the path of the file, if it is a program that the dynamic loader runs, which is the
    /// executable of this process.
    pub(crate) fn program_run_by_loader(&self) -> Option<&Path> {
        // A shared library does not name a loader.
        let is_program = self.image().is_some_and(|it| names_loader(&it.prefix));
        Some(&*self.loaded.as_ref().filter(|_| is_program)?.path)
    }
}

impl Image {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let mut prefix = vec![0; PREFIX_LEN];
        let read = file.read_at(&mut prefix, 0)?;
        prefix.truncate(read);
        Ok(Self { file, prefix })
    }
}

impl MappedFile {
    fn open(&self) -> io::Result<Image> {
        // This path also leads to a deleted file, but the kernel reserves it for privileged
        // processes.
        let mapped = Image::open(&Path::new("/proc/self/map_files").join(&self.range));
        mapped.or_else(|_| Image::open(&self.path))
    }
}

/// Finds the file whose mapping contains an address. Returns `None` if it is the executable.
fn find_loaded(address: usize) -> Option<MappedFile> {
    let mapped = find_mapping(File::open("/proc/self/maps").ok()?, address).ok()??;
    // Paths are compared instead of inodes, because overlay file systems have two inodes for a
    // file. Both paths come from the kernel in the same form.
    let executable = read_link(EXECUTABLE).ok()?;
    let is_executable = mapped.path.as_os_str().as_bytes() == escape(&executable);
    (!is_executable).then_some(mapped)
}

/// Finds the file whose mapping contains an address. `maps` has the format of `/proc/self/maps`.
fn find_mapping(mut maps: impl Read, address: usize) -> io::Result<Option<MappedFile>> {
    let (mut text, mut searched) = (Vec::new(), 0);
    loop {
        let len = text.len();
        text.resize(len + READ_LEN, 0);
        let read = maps.read(&mut text[len..])?;
        text.truncate(len + read);
        while let Some(end) = text[searched..].iter().position(|it| *it == b'\n') {
            let line = &text[searched..searched + end];
            if let Some((range, file)) = parse_line(line)
                && range.contains(&address)
            {
                return Ok(file);
            }
            searched += end + 1;
        }
        if read == 0 {
            return Ok(None);
        }
    }
}

/// Parses a line of `/proc/self/maps`. The second value is `None` if no file is mapped there.
fn parse_line(line: &[u8]) -> Option<(Range<usize>, Option<MappedFile>)> {
    // start-end permissions offset device inode      path
    let mut fields = line.splitn(6, |it| *it == b' ');
    let mut field = || std::str::from_utf8(fields.next()?).ok();
    let range = field()?;
    let (_permissions, _offset) = (field()?, field()?);
    let id = format!("{} {}", field()?, field()?);
    let path = fields.next().unwrap_or_default().trim_ascii_start();
    let (start, end) = range.split_once('-')?;
    let number = |it| usize::from_str_radix(it, 16).ok();
    let (start, end) = (number(start)?, number(end)?);
    let file = path.starts_with(b"/").then(|| MappedFile {
        path: OsStr::from_bytes(path).into(),
        id,
        range: range.to_owned(),
    });
    Some((start..end, file))
}

/// Escapes a path as the kernel does in `/proc/self/maps`.
fn escape(path: &Path) -> Vec<u8> {
    let bytes = path.as_os_str().as_bytes();
    bytes.split(|it| *it == b'\n').collect::<Vec<_>>().join(&b"\\012"[..])
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const MAPS: &str = "\
558931ea3000-558931ea5000 r--p 00000000 fe:00 247282                     /opt/my program/run
558931ea5000-558931eab000 r-xp 00002000 fe:00 247282                     /opt/my program/run
558931eb0000-558931ed1000 rw-p 00000000 00:00 0                          [heap]
7f0000000000-7f0000002000 rw-p 00000000 00:00 0 
7f0000002000-7f0000005000 r-xp 00001000 fe:01 77                         /opt/lib.so (deleted)
";

    fn find(address: usize) -> Option<(String, String)> {
        let found = find_mapping(MAPS.as_bytes(), address).expect("reading a slice succeeds");
        found.map(|it| (it.path.display().to_string(), it.id))
    }

    #[test]
    fn mapping_that_contains_address_is_found() {
        let program = ("/opt/my program/run".to_owned(), "fe:00 247282".to_owned());
        let library = ("/opt/lib.so (deleted)".to_owned(), "fe:01 77".to_owned());

        assert_eq!(find(0x5589_31ea_4fff), Some(program.clone()));
        assert_eq!(find(0x5589_31ea_5000), Some(program));
        assert_eq!(find(0x7f00_0000_4000), Some(library));
    }

    #[test]
    fn address_outside_of_files_has_no_mapping() {
        for address in [0, 0x5589_31ea_b000, 0x5589_31eb_0000, 0x7f00_0000_0000, usize::MAX] {
            assert_eq!(find(address), None, "{address:x}");
        }
    }

    #[test]
    fn mappings_are_read_no_further_than_necessary() {
        let rest = io::repeat(b'x').take(u64::MAX);
        let maps = MAPS.as_bytes().chain(rest);

        let found = find_mapping(maps, 0x5589_31ea_5000);

        assert!(found.is_ok_and(|it| it.is_some()));
    }

    #[test]
    fn newline_in_path_is_escaped() {
        assert_eq!(escape(Path::new("/a\nb\n")), b"/a\\012b\\012");
    }

    #[test]
    fn code_of_this_test_is_in_executable() {
        let own = OwnObject::find();

        assert_eq!(own.loaded(), None);
        assert!(own.image().is_some());
        assert_eq!(own.program_run_by_loader(), None);
    }

    #[test]
    fn both_ways_find_executable() {
        let address = OwnObject::find as *const () as usize;
        let executable = Image::open(Path::new(EXECUTABLE)).expect("/proc is mounted");
        let headers = program_headers_address().expect("the kernel passes it to each program");

        assert!(is_in_image(&executable.prefix, headers, address as u64));
        assert_eq!(find_loaded(address), None);
    }

    #[test]
    fn mapping_of_shared_library_is_found_in_both_ways() {
        let maps = fs::read_to_string("/proc/self/maps").expect("/proc is mounted");
        let library = maps.lines().find(|it| it.contains("/libc.so") || it.contains("/libc-"));
        let Some(library) = library else {
            println!("skipped: this executable loads no libc");
            return;
        };
        let (range, _) = parse_line(library.as_bytes()).expect("the kernel wrote the line");
        let executable = Image::open(Path::new(EXECUTABLE)).expect("/proc is mounted");
        let headers = program_headers_address().expect("the kernel passes it to each program");

        let loaded = find_loaded(range.start).expect("it is not the executable");

        assert!(!is_in_image(&executable.prefix, headers, range.start as u64));
        assert!(library.ends_with(loaded.path.to_str().expect("the path is UTF-8")));
        assert!(loaded.open().is_ok_and(|it| it.prefix.starts_with(b"\x7fELF")));
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_maps_are_read_without_panic(
            maps in "([0-9a-f]{1,20}-? ?[rwxp\n/ ]{0,9}){0,60}",
            address in proptest::prelude::any::<usize>(),
        ) {
            let found = find_mapping(maps.as_bytes(), address);

            proptest::prop_assert!(found.is_ok());
        }
    }
}
