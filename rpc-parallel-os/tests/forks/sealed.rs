//! Memory that forked processes share and none can change.

use std::fs;
use std::sync::OnceLock;

use rpc_parallel_os::{SealedSlice, run_on_joined_thread};
use rustix::mm::{MprotectFlags, mprotect};

use crate::sibling::run_in_sibling;

crate::harness::tests! {
    sealed_memory_is_the_same_in_sibling
    write_to_sealed_memory_ends_process
    sealed_memory_of_others_cannot_be_changed
}

static DATA: OnceLock<SealedSlice<u64>> = OnceLock::new();

/// Makes the data of these tests, as a program does before workers are forked.
fn warm() -> &'static SealedSlice<u64> {
    let data = run_on_joined_thread("warm", || {
        let mut data = SealedSlice::builder(100_000).expect("there is memory");
        data.iter_mut().zip(1..).for_each(|(element, value)| *element = value);
        data.seal().expect("nobody else maps it")
    });
    DATA.get_or_init(|| data.expect("no thread is left"))
}

/// Returns the line of the data in the list of mappings: addresses, permissions, device, inode.
fn mapping() -> String {
    let address = format!("{:x}-", DATA.get().expect("it is warm").as_ptr() as usize);
    let maps = fs::read_to_string("/proc/self/maps").expect("/proc is mounted");
    let mapping = maps.lines().find(|it| it.starts_with(&address));
    mapping.expect("it is mapped").to_owned()
}

fn sealed_memory_is_the_same_in_sibling() {
    warm();

    let ended = run_in_sibling(|_| {
        assert_eq!(DATA.get().map(|it| it.iter().sum()), Some(5_000_050_000_u64));
        print!("{}", mapping());
    });

    ended.assert_success();
    assert_eq!(ended.output, mapping());
    assert!(ended.output.contains("/memfd:rpc-parallel sealed"), "{}", ended.output);
    assert!(ended.output.contains(" r--"), "{}", ended.output);
}

fn write_to_sealed_memory_ends_process() {
    let data = warm();

    let ended = run_in_sibling(|_| {
        let first = data.as_ptr().cast_mut();
        // SAFETY: none. The kernel must refuse it.
        unsafe { first.write_volatile(7) };
    });

    assert_eq!(ended.status.terminating_signal(), Some(libc::SIGSEGV), "{}", ended.output);
    assert_eq!(data[0], 1);
}

fn sealed_memory_of_others_cannot_be_changed() {
    let data = warm();

    let ended = run_in_sibling(|_| {
        let first = data.as_ptr().cast_mut();
        let writable = MprotectFlags::READ | MprotectFlags::WRITE;
        // SAFETY: none. The process must get a page of its own.
        unsafe { mprotect(first.cast(), 8, writable) }.expect("a private mapping may be changed");
        // SAFETY: none, as above.
        unsafe { first.write_volatile(7) };
        // SAFETY: the page is mapped.
        assert_eq!(unsafe { first.read_volatile() }, 7);
    });

    ended.assert_success();
    assert_eq!(data[0], 1);
}
