//! Statistics of a worker's process while it runs.

use std::fmt;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::param::page_size;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::servers::Servers;
use crate::connection::{Counts, Traffic};
use crate::wire::{fields, host_name};

/// Statistics of a worker's process: its use of memory and processors, its calls and its
/// connections.
///
/// [`Control::stats`](crate::Control::stats) returns them. `Display` writes them in one line.
///
/// The numbers are those of the whole process, even if it serves several workers or is a master.
/// Counters count from the start of the process and never decrease, so the difference of two
/// statistics describes the time between them. The numbers are not read atomically, so that some
/// may be slightly older than others.
///
/// ```
/// use std::time::Duration;
///
/// use rpc_parallel::prelude::*;
///
/// /// Prints the rate of calls and the statistics of a worker.
/// async fn report<S: WorkerState>(worker: &Worker<S>) -> Result<(), Box<dyn std::error::Error>> {
///     let before = worker.stats().await?;
///     tokio::time::sleep(Duration::from_secs(10)).await;
///     let now = worker.stats().await?;
///     println!("{} calls per second", (now.calls_done() - before.calls_done()) / 10);
///     println!("{now}");
///     Ok(())
/// }
/// ```
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct WorkerStats {
    pid: u32,
    host: String,
    uptime: Duration,
    resident_memory: u64,
    private_memory: u64,
    cpu_time: Duration,
    calls_in_flight: u64,
    calls_done: u64,
    bytes_received: u64,
    bytes_sent: u64,
    open_pipes: u64,
    connections: u64,
}

fields!(struct WorkerStats {
    pid,
    host,
    uptime,
    resident_memory,
    private_memory,
    cpu_time,
    calls_in_flight,
    calls_done,
    bytes_received,
    bytes_sent,
    open_pipes,
    connections,
});

impl WorkerStats {
    /// Returns the statistics of this process. This does not block, and takes a few microseconds;
    /// in a worker of a snapshot 50 µs, and 5 ms more for each GiB of memory.
    pub(crate) fn here() -> Self {
        let Counts {
            calls_in_flight,
            calls_done,
            bytes_received,
            bytes_sent,
            open_pipes,
            connections,
        } = Traffic::here().counts();
        let (resident_memory, anonymous) = resident_and_anonymous_memory();
        let private_memory = IS_FORKED.load(Ordering::Relaxed).then(private_memory);
        Self {
            pid: std::process::id(),
            host: host_name(),
            uptime: Servers::get().uptime(),
            resident_memory,
            private_memory: private_memory.unwrap_or(anonymous),
            cpu_time: cpu_time(),
            calls_in_flight,
            calls_done,
            bytes_received,
            bytes_sent,
            open_pipes,
            connections,
        }
    }

    /// Returns the statistics of this process, without the call that requests them among the calls
    /// in flight.
    pub(super) fn in_call() -> Self {
        let stats = Self::here();
        Self { calls_in_flight: stats.calls_in_flight.saturating_sub(1), ..stats }
    }

    /// Returns the id of the process, on its host.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns the name of the host on which the process runs.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the time for which the process has been a worker: since the `init` of its first
    /// state completed.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.uptime
    }

    /// Returns the resident set size of the process in bytes, including memory that it shares with
    /// other processes.
    ///
    /// Returns 0 if there is no `/proc`.
    #[must_use]
    pub fn resident_memory(&self) -> u64 {
        self.resident_memory
    }

    /// Returns the memory in bytes that the process shares with no other one, and that would be free
    /// if the process ended.
    ///
    /// This is the heap, the stacks and other anonymous memory. Data of a
    /// [`Snapshot`](crate::Snapshot), which other processes use too, does not count, nor do the code
    /// of the program and other files.
    ///
    /// Returns 0 if there is no `/proc`.
    #[must_use]
    pub fn private_memory(&self) -> u64 {
        self.private_memory
    }

    /// Returns the processor time that all threads of the process have used, in user and kernel
    /// mode.
    #[must_use]
    pub fn cpu_time(&self) -> Duration {
        self.cpu_time
    }

    /// Returns the number of calls that the process has received and that have not ended.
    ///
    /// A call that waits in the socket's buffer while a function blocks the thread is not received.
    #[must_use]
    pub fn calls_in_flight(&self) -> u64 {
        self.calls_in_flight
    }

    /// Returns the number of received calls that have ended: answered, refused or cancelled.
    ///
    /// One-way calls and calls of [`stats`](crate::Control::stats) count too.
    #[must_use]
    pub fn calls_done(&self) -> u64 {
        self.calls_done
    }

    /// Returns the number of bytes received over all connections of the process, including those
    /// that it has opened.
    #[must_use]
    pub fn bytes_received(&self) -> u64 {
        self.bytes_received
    }

    /// Returns the number of bytes sent over all connections of the process, including those that
    /// it has opened.
    #[must_use]
    pub fn bytes_sent(&self) -> u64 {
        self.bytes_sent
    }

    /// Returns the number of open pipes to and from other processes, including those that other
    /// processes have created.
    ///
    /// For its reading process a pipe is open until its last element has been received, even if
    /// that has not been read.
    #[must_use]
    pub fn open_pipes(&self) -> u64 {
        self.open_pipes
    }

    /// Returns the number of connections that other processes have opened to this one, including
    /// its owning connection.
    ///
    /// Connections that a [`Worker`](crate::Worker) handle opens only for control requests, such as
    /// `stats`, do not count.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.connections
    }
}

impl fmt::Display for WorkerStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pid, host, calls_in_flight, calls_done, open_pipes, connections, .. } = self;
        write!(
            f,
            "pid {pid} on {host}: up {:.1} s, {} of memory ({} private), {:.1} s of cpu time; \
             {calls_in_flight} calls in flight, {calls_done} done; {} received, {} sent; \
             {open_pipes} pipes and {connections} connections open",
            self.uptime.as_secs_f64(),
            Bytes(self.resident_memory),
            Bytes(self.private_memory),
            self.cpu_time.as_secs_f64(),
            Bytes(self.bytes_received),
            Bytes(self.bytes_sent),
        )
    }
}

/// Formats a number of bytes with a binary unit.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
        if self.0 < 1024 {
            return write!(f, "{} bytes", self.0);
        }
        let mut value = self.0 as f64 / 1024.0;
        let mut units = UNITS.iter();
        let mut unit = units.next();
        while value >= 1023.95
            && let Some(next) = units.next()
        {
            (value, unit) = (value / 1024.0, Some(next));
        }
        write!(f, "{value:.1} {}", unit.unwrap_or(&""))
    }
}

/// Whether this process was forked, so that other processes may share its anonymous memory.
static IS_FORKED: AtomicBool = AtomicBool::new(false);

/// Declares that this process was forked. The kernel then counts its private pages, which takes longer.
pub(crate) fn count_private_pages() {
    IS_FORKED.store(true, Ordering::Relaxed);
}

/// Returns the resident set size of this process, and the part that no file holds, in bytes; 0 if
/// there is no `/proc`.
pub(crate) fn resident_and_anonymous_memory() -> (u64, u64) {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let mut pages = statm.split(' ').skip(1).map(|it| it.parse().unwrap_or(0_u64));
    let (resident, of_files) = (pages.next().unwrap_or(0), pages.next().unwrap_or(0));
    let bytes = |pages| pages * page_size() as u64;
    (bytes(resident), bytes(resident.saturating_sub(of_files)))
}

/// Returns the written memory that this process shares with no other one, in bytes; 0 if there is no
/// `/proc`.
fn private_memory() -> u64 {
    let sums = fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    let private = sums.lines().find_map(|it| it.strip_prefix("Private_Dirty:"));
    let kibibytes = private.and_then(|it| it.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}

fn cpu_time() -> Duration {
    clock_gettime(ClockId::ProcessCPUTime).try_into().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::*;

    fn stats() -> WorkerStats {
        WorkerStats {
            pid: 4711,
            host: "ada".to_owned(),
            uptime: Duration::from_millis(83_250),
            resident_memory: 12_900_000,
            private_memory: 2_900_000,
            cpu_time: Duration::from_millis(1960),
            calls_in_flight: 3,
            calls_done: 1_000_000,
            bytes_received: 1023,
            bytes_sent: 1024 * 1024 * 1024 - 1,
            open_pipes: 0,
            connections: 2,
        }
    }

    #[test]
    fn stats_print_as_one_line() {
        assert_eq!(
            stats().to_string(),
            "pid 4711 on ada: up 83.2 s, 12.3 MiB of memory (2.8 MiB private), 2.0 s of cpu time; \
             3 calls in flight, 1000000 done; 1023 bytes received, 1.0 GiB sent; 0 pipes and 2 connections open"
        );
    }

    #[test]
    fn bytes_print_in_fitting_unit() {
        let text = |bytes| Bytes(bytes).to_string();

        assert_eq!([text(0), text(1024)], ["0 bytes", "1.0 KiB"]);
        assert_eq!([text(1024 * 1024 - 1), text(1024 * 1024)], ["1.0 MiB", "1.0 MiB"]);
        assert_eq!(text(u64::MAX), "16384.0 PiB");
    }

    #[test]
    fn used_memory_is_measured() {
        const LEN: usize = 64 * 1024 * 1024;
        let before = WorkerStats::here();

        let used = black_box(vec![7_u8; LEN]);
        let after = WorkerStats::here();

        drop(used);
        assert!(before.resident_memory() > 1024 * 1024, "{before}");
        // Other tests in this process free memory at the same time.
        for memory in [WorkerStats::resident_memory, WorkerStats::private_memory] {
            let more = memory(&after).saturating_sub(memory(&before));
            assert!(more > LEN as u64 / 2, "{before}\n{after}");
        }
    }

    #[test]
    fn spent_cpu_time_is_measured() {
        let before = WorkerStats::here().cpu_time();

        let mut turns = 0_u64;
        while WorkerStats::here().cpu_time() < before + Duration::from_millis(20) {
            turns = black_box(turns + 1);
        }

        assert!(turns > 0);
    }
}
