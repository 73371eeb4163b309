//! Memory that is filled once, sealed, and then shared by forked processes.
//!
//! A fork copies the page tables of a process's heap, which takes 9 µs per MiB. It copies none for
//! a mapping of a file that was never written to, so large data belongs in one.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::plain::Plain;

/// A slice in memory of its own, which no process can change.
///
/// Processes that are forked share the memory, which lasts until the last of them has dropped it.
/// In contrast to the heap, its size does not slow down a fork.
pub struct SealedSlice<T: Plain> {
    mapping: Mapping<T>,
}

impl<T: Plain> SealedSlice<T> {
    /// Creates memory of its own for `len` elements, which are 0 until they are set.
    ///
    /// The kernel provides the memory when an element is first written, as it does for the heap. If
    /// there is none left then, it ends the process.
    ///
    /// # Errors
    ///
    /// The address space is too small, or the kernel refuses `memfd_create`.
    pub fn builder(len: usize) -> io::Result<SealedSliceBuilder<T>> {
        let size = len.checked_mul(size_of::<T>()).filter(|it| isize::try_from(*it).is_ok());
        let size = size.ok_or_else(|| failed("allocate", usize::MAX, Errno::NOMEM))?;
        let file = if size == 0 { None } else { Some(create(size)?) };
        let writable = ProtFlags::READ | ProtFlags::WRITE;
        let mapping = Mapping::new(file.as_ref(), len, writable, MapFlags::SHARED)?;
        Ok(SealedSliceBuilder { mapping, file, _being_filled: BeingFilled::new() })
    }

    /// Copies elements into memory of its own.
    ///
    /// # Errors
    ///
    /// As [`builder`](Self::builder) and [`SealedSliceBuilder::seal`].
    pub fn copy_of(elements: &[T]) -> io::Result<Self> {
        let mut builder = Self::builder(elements.len())?;
        builder.copy_from_slice(elements);
        builder.seal()
    }
}

impl<T: Plain> Deref for SealedSlice<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the mapping is readable and has the size and alignment of the slice until it is
        // dropped, and all bytes are values (`Plain`). No process can change them or truncate the
        // file, because it is sealed.
        unsafe { slice::from_raw_parts(self.mapping.address.as_ptr(), self.mapping.len) }
    }
}

impl<T: Plain> fmt::Debug for SealedSlice<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedSlice").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// The elements of a [`SealedSlice`] while they can be changed.
///
/// The process must not be forked while this exists, because both processes could change them.
pub struct SealedSliceBuilder<T: Plain> {
    mapping: Mapping<T>,
    /// `None` if there are no bytes.
    file: Option<OwnedFd>,
    _being_filled: BeingFilled,
}

impl<T: Plain> SealedSliceBuilder<T> {
    /// Makes the elements unchangeable for every process. It copies nothing.
    ///
    /// # Errors
    ///
    /// Another process maps the same memory, or the address space is exhausted.
    pub fn seal(self) -> io::Result<SealedSlice<T>> {
        let Self { mapping, file, _being_filled } = self;
        let len = mapping.len;
        // A file cannot be sealed while a mapping of it can be written to.
        drop(mapping);
        if let Some(file) = &file {
            let seals = SealFlags::WRITE | SealFlags::SEAL;
            fcntl_add_seals(file, seals).map_err(|it| failed("seal", len * size_of::<T>(), it))?;
        }
        // Before Linux 6.7, `MAP_SHARED` is refused for a file that is sealed against writing. A
        // private mapping that is never written to shares the memory as well.
        let mapping = Mapping::new(file.as_ref(), len, ProtFlags::READ, MapFlags::PRIVATE)?;
        Ok(SealedSlice { mapping })
    }
}

impl<T: Plain> Deref for SealedSliceBuilder<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the mapping is readable and has the size and alignment of the slice until it is
        // dropped, and all bytes are values (`Plain`). Only this process maps the file, it is not
        // forked meanwhile (`BeingFilled`), and `DerefMut` borrows `self` mutably.
        unsafe { slice::from_raw_parts(self.mapping.address.as_ptr(), self.mapping.len) }
    }
}

impl<T: Plain> DerefMut for SealedSliceBuilder<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as for `deref`, and the mapping is writable. `self` is borrowed mutably.
        unsafe { slice::from_raw_parts_mut(self.mapping.address.as_ptr(), self.mapping.len) }
    }
}

impl<T: Plain> fmt::Debug for SealedSliceBuilder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedSliceBuilder").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Pages that contain a slice, until this is dropped.
struct Mapping<T> {
    address: NonNull<T>,
    /// The number of elements.
    len: usize,
    _elements: PhantomData<[T]>,
}

// SAFETY: it owns its pages, as a `Box<[T]>` does, and unmapping is allowed on any thread.
unsafe impl<T: Send> Send for Mapping<T> {}
// SAFETY: a shared reference to it gives shared references to its elements at most.
unsafe impl<T: Sync> Sync for Mapping<T> {}

impl<T> Mapping<T> {
    /// Maps `len` elements of a file, or nothing if there is none because there are no bytes.
    fn new(
        file: Option<&OwnedFd>,
        len: usize,
        protection: ProtFlags,
        flags: MapFlags,
    ) -> io::Result<Self> {
        let Some(file) = file else {
            return Ok(Self { address: NonNull::dangling(), len, _elements: PhantomData });
        };
        let size = len * size_of::<T>();
        // SAFETY: without an address, the kernel chooses one where nothing is mapped.
        let address = unsafe { mmap(std::ptr::null_mut(), size, protection, flags, file, 0) };
        let address = address.map_err(|it| failed("map", size, it))?;
        let address =
            NonNull::new(address.cast::<T>()).ok_or_else(|| failed("map", size, Errno::INVAL))?;
        Ok(Self { address, len, _elements: PhantomData })
    }
}

impl<T> Drop for Mapping<T> {
    fn drop(&mut self) {
        let size = self.len * size_of::<T>();
        if size > 0 {
            // SAFETY: `new` has mapped these pages, nothing else unmaps them, and whoever borrows
            // from them also borrows `self`.
            let unmapped = unsafe { munmap(self.address.as_ptr().cast(), size) };
            debug_assert_eq!(unmapped, Ok(()), "the pages were mapped");
        }
    }
}

/// Creates a file in memory of a fixed size, which is more than 0.
fn create(size: usize) -> io::Result<OwnedFd> {
    const NAME: &str = "rpc-parallel sealed";
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = match memfd_create(NAME, flags | MemfdFlags::NOEXEC_SEAL) {
        // Linux before 6.3.
        Err(Errno::INVAL) => memfd_create(NAME, flags),
        result => result,
    };
    let file = file.map_err(|it| failed("create a memory file of", size, it))?;
    // `fallocate` would report a lack of memory here, but calls the OOM killer before it does.
    ftruncate(&file, size as u64).map_err(|it| failed("allocate", size, it))?;
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW)
        .map_err(|it| failed("seal", size, it))?;
    Ok(file)
}

fn failed(attempt: &str, size: usize, errno: Errno) -> io::Error {
    let error = io::Error::from(errno);
    io::Error::new(
        error.kind(),
        format!("failed to {attempt} {size} bytes of shared memory: {error}"),
    )
}

/// How many slices exist that can be changed.
static BEING_FILLED: AtomicUsize = AtomicUsize::new(0);

/// Counts a slice that can be changed.
struct BeingFilled(());

impl BeingFilled {
    fn new() -> Self {
        BEING_FILLED.fetch_add(1, Ordering::Relaxed);
        Self(())
    }
}

impl Drop for BeingFilled {
    fn drop(&mut self) {
        BEING_FILLED.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Returns whether a [`SealedSliceBuilder`] exists.
pub(crate) fn is_being_filled() -> bool {
    BEING_FILLED.load(Ordering::Relaxed) > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_zero_until_they_are_set() {
        let mut builder = SealedSlice::<i32>::builder(3000).expect("there is memory");
        assert!(builder.iter().all(|it| *it == 0));

        builder[2999] = -7;
        let sealed = builder.seal().expect("nobody else maps it");

        assert_eq!((sealed.len(), sealed[0], sealed[2999]), (3000, 0, -7));
    }

    #[test]
    fn sealed_file_cannot_be_changed() {
        let builder = SealedSlice::<u8>::builder(10).expect("there is memory");
        let file = builder.file.as_ref().expect("it has bytes").try_clone();
        let file = file.expect("there are descriptors");

        let sealed = builder.seal().expect("nobody else maps it");

        let write = rustix::io::pwrite(&file, b"a", 0);
        assert_eq!(write, Err(Errno::PERM));
        let shrink = ftruncate(&file, 5);
        assert_eq!(shrink, Err(Errno::PERM));
        let unseal = fcntl_add_seals(&file, SealFlags::empty());
        assert_eq!(unseal, Err(Errno::PERM));
        assert_eq!(*sealed, [0; 10]);
    }

    #[test]
    fn copy_equals_original() {
        let points = [[0.5, f64::MAX, -0.0], [1.0, 2.0, 3.0]];

        let sealed = SealedSlice::copy_of(&points).expect("there is memory");

        assert_eq!(*sealed, points);
    }

    #[test]
    fn slices_without_bytes_need_no_memory() {
        let empty = SealedSlice::<u64>::copy_of(&[]).expect("nothing is allocated");
        let unsized_elements = SealedSlice::copy_of(&[[0_u8; 0]; 5]).expect("nothing is allocated");

        assert_eq!(*empty, [] as [u64; 0]);
        assert_eq!(unsized_elements.len(), 5);
    }

    #[test]
    fn too_many_bytes_are_an_error() {
        for len in [usize::MAX, isize::MAX as usize / 8 + 1, 1 << 50] {
            let error = SealedSlice::<u64>::builder(len).expect_err("no machine has them");

            assert!(error.kind() == io::ErrorKind::OutOfMemory, "{error}");
        }
    }

    #[test]
    fn sealed_slice_moves_to_other_thread() {
        let sealed = SealedSlice::copy_of(&[1_u8, 2, 3]).expect("there is memory");

        let thread = std::thread::spawn(move || sealed.iter().sum());

        assert_eq!(thread.join().ok(), Some(6_u8));
    }
}
