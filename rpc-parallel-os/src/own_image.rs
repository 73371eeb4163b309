//! Where the executable of this process is in its memory.

/// Returns the address of the program headers of the executable, or `None` if the kernel has not
/// passed it to this process.
#[must_use]
pub fn program_headers_address() -> Option<u64> {
    // SAFETY: the function has no preconditions. It returns a value that the C library has kept.
    let address = unsafe { libc::getauxval(libc::AT_PHDR) };
    (address != 0).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_in_executable() {
        let address = program_headers_address().expect("the kernel passes it to each program");

        let executable = std::env::current_exe().expect("/proc is mounted");
        let maps = std::fs::read_to_string("/proc/self/maps").expect("/proc is mounted");
        let number = |it| u64::from_str_radix(it, 16).expect("an address");
        let mapping = maps.lines().find(|line| {
            let range = line.split(' ').next().expect("a line has fields");
            let (start, end) = range.split_once('-').expect("a range has a start and an end");
            (number(start)..number(end)).contains(&address)
        });
        let mapping = mapping.expect("it is mapped");
        assert!(mapping.ends_with(&executable.display().to_string()), "{mapping}");
    }
}
