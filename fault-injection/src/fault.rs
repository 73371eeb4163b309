//! Injection of faults by signals.

use std::thread;
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};

use crate::plan::Fault;
use crate::process::{self, ProcessState, RoundProcess};

/// The maximum number of SIGSEGV signals for one fault. std's handler treats the first one as a
/// page fault and leaves the next one to the kernel. Signals that arrive before the handler has run
/// merge into one.
const MAX_SEGV: u32 = 20;
const SEGV_INTERVAL: Duration = Duration::from_micros(500);

impl Fault {
    fn signal(self) -> Signal {
        match self {
            Self::Kill => Signal::KILL,
            Self::Segv => Signal::SEGV,
            Self::Term => Signal::TERM,
            Self::Pause(_) | Self::Stop => Signal::STOP,
        }
    }
}

/// Injects a fault into this process.
pub(crate) fn inject_into_self(fault: Fault) {
    let times = if fault == Fault::Segv { MAX_SEGV } else { 1 };
    for _ in 0..times {
        let _ = kill_process(getpid(), fault.signal());
    }
}

/// Injects a fault into a process. Returns false if the process has exited before.
pub(crate) fn inject(process: &RoundProcess, fault: Fault) -> bool {
    let sent = process.send(fault.signal());
    if fault == Fault::Segv {
        for _ in 1..MAX_SEGV {
            thread::sleep(SEGV_INTERVAL);
            if process::state(process.pid) == ProcessState::Exited {
                break;
            }
            process.send(Signal::SEGV);
        }
    }
    sent
}
