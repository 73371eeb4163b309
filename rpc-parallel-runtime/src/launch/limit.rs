//! Resource limits of workers.

use std::fmt;
use std::io;

use rustix::process::{Resource, Rlimit, setrlimit};

use crate::wire::fields;

/// A resource limit of a worker, as set by `setrlimit(2)`.
///
/// Each constructor sets both the *soft* limit, which the kernel enforces, and the *hard* limit, up
/// to which the worker may raise the soft one. [`hard`](Self::hard) sets a different hard limit.
/// Only a privileged process may raise a hard limit above that of its master.
///
/// Processes that the worker starts inherit the limit.
///
/// ```
/// use rpc_parallel::launch::ResourceLimit;
///
/// let limits = [ResourceLimit::memory(2 << 30), ResourceLimit::open_files(256).hard(1024)];
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ResourceLimit {
    of: Limited,
    soft: u64,
    hard: u64,
}

/// A limited resource.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Limited {
    Memory,
    Data,
    Stack,
    LockedMemory,
    CpuSeconds,
    FileSize,
    CoreSize,
    OpenFiles,
    Processes,
}

fields!(struct ResourceLimit { of, soft, hard });
fields!(enum Limited {
    0 => Memory,
    1 => Data,
    2 => Stack,
    3 => LockedMemory,
    4 => CpuSeconds,
    5 => FileSize,
    6 => CoreSize,
    7 => OpenFiles,
    8 => Processes,
});

impl ResourceLimit {
    /// The value that stands for no limit.
    pub const UNLIMITED: u64 = u64::MAX;

    /// Limits the address space, in bytes: all mappings, used or not (`RLIMIT_AS`).
    ///
    /// A worker whose allocation fails aborts. The threads of a worker need tens of MiB of address
    /// space.
    #[must_use]
    pub fn memory(bytes: u64) -> Self {
        Self::new(Limited::Memory, bytes)
    }

    /// Limits the private writable memory, in bytes: mainly the heap (`RLIMIT_DATA`).
    #[must_use]
    pub fn data(bytes: u64) -> Self {
        Self::new(Limited::Data, bytes)
    }

    /// Limits the stack of the main thread, in bytes (`RLIMIT_STACK`).
    ///
    /// Functions run on the main thread, unless the worker's runtime has several threads.
    #[must_use]
    pub fn stack(bytes: u64) -> Self {
        Self::new(Limited::Stack, bytes)
    }

    /// Limits the memory that the worker may lock into RAM, in bytes (`RLIMIT_MEMLOCK`).
    #[must_use]
    pub fn locked_memory(bytes: u64) -> Self {
        Self::new(Limited::LockedMemory, bytes)
    }

    /// Limits the processor time, in seconds (`RLIMIT_CPU`).
    ///
    /// At the soft limit the kernel sends `SIGXCPU`, which kills a worker that does not handle it.
    /// At the hard limit the kernel kills the worker.
    #[must_use]
    pub fn cpu_seconds(seconds: u64) -> Self {
        Self::new(Limited::CpuSeconds, seconds)
    }

    /// Limits the size of files that the worker writes, in bytes (`RLIMIT_FSIZE`).
    ///
    /// A write beyond it raises `SIGXFSZ`, which kills a worker that does not handle it.
    #[must_use]
    pub fn file_size(bytes: u64) -> Self {
        Self::new(Limited::FileSize, bytes)
    }

    /// Limits the size of a core dump, in bytes (`RLIMIT_CORE`). With 0 the kernel writes none.
    #[must_use]
    pub fn core_size(bytes: u64) -> Self {
        Self::new(Limited::CoreSize, bytes)
    }

    /// Limits the number of open descriptors: files, sockets, pipes (`RLIMIT_NOFILE`).
    ///
    /// The framework itself needs about 20 in each worker.
    #[must_use]
    pub fn open_files(count: u64) -> Self {
        Self::new(Limited::OpenFiles, count)
    }

    /// Limits the number of processes and threads (`RLIMIT_NPROC`).
    ///
    /// The worker fails to start a process or thread while the user of this process has that many
    /// or more, in all processes together. The limit does not hold for privileged users.
    #[must_use]
    pub fn processes(count: u64) -> Self {
        Self::new(Limited::Processes, count)
    }

    /// Sets the hard limit, up to which the worker itself may raise the soft limit.
    ///
    /// Default: the soft limit.
    #[must_use]
    pub fn hard(self, hard: u64) -> Self {
        Self { hard, ..self }
    }

    fn new(of: Limited, limit: u64) -> Self {
        Self { of, soft: limit, hard: limit }
    }

    /// Returns whether both values limit the same resource.
    pub(crate) fn concerns(&self, other: &Self) -> bool {
        self.of == other.of
    }

    /// Sets the limit for this process.
    pub(super) fn set(&self) -> io::Result<()> {
        let resource = match self.of {
            Limited::Memory => Resource::As,
            Limited::Data => Resource::Data,
            Limited::Stack => Resource::Stack,
            Limited::LockedMemory => Resource::Memlock,
            Limited::CpuSeconds => Resource::Cpu,
            Limited::FileSize => Resource::Fsize,
            Limited::CoreSize => Resource::Core,
            Limited::OpenFiles => Resource::Nofile,
            Limited::Processes => Resource::Nproc,
        };
        let [current, maximum] =
            [self.soft, self.hard].map(|it| (it != Self::UNLIMITED).then_some(it));
        Ok(setrlimit(resource, Rlimit { current, maximum })?)
    }
}

impl fmt::Display for ResourceLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, unit) = match self.of {
            Limited::Memory => ("memory", " bytes"),
            Limited::Data => ("data", " bytes"),
            Limited::Stack => ("stack", " bytes"),
            Limited::LockedMemory => ("locked memory", " bytes"),
            Limited::CpuSeconds => ("processor time", " s"),
            Limited::FileSize => ("file size", " bytes"),
            Limited::CoreSize => ("core size", " bytes"),
            Limited::OpenFiles => ("open files", ""),
            Limited::Processes => ("processes", ""),
        };
        let number = |it| match it {
            Self::UNLIMITED => "unlimited".to_owned(),
            number => format!("{number}{unit}"),
        };
        write!(f, "{what} {}", number(self.soft))?;
        if self.hard != self.soft {
            write!(f, " (hard: {})", number(self.hard))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_of_limit_names_resource_and_values() {
        let limits = [
            ResourceLimit::memory(2 << 30),
            ResourceLimit::open_files(256).hard(1024),
            ResourceLimit::cpu_seconds(10).hard(ResourceLimit::UNLIMITED),
        ];

        let texts = limits.map(|it| it.to_string());

        let expected = [
            "memory 2147483648 bytes",
            "open files 256 (hard: 1024)",
            "processor time 10 s (hard: unlimited)",
        ];
        assert_eq!(texts, expected);
    }
}
