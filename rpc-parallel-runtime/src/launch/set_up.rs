//! What a worker does to its own process before any of the user's code runs in it.

use std::ffi::OsString;
use std::fmt::Display;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, RawMode};
use rustix::io::Errno;
use rustix::process::{Pid, getpriority_process, setpriority_process, setsid, umask};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::limit::ResourceLimit;
use super::redirect::Output;
use super::start::StartFailure;
use crate::wire::fields;

/// What a worker's process shall be like, beside its output.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct SetUp {
    /// Whether it stays in its master's session.
    pub(crate) foreground: bool,
    pub(crate) nice: Option<i32>,
    pub(crate) cpus: Option<Vec<usize>>,
    pub(crate) umask: Option<u32>,
    pub(crate) current_dir: Option<OsString>,
    /// At most one of each kind.
    pub(crate) limits: Vec<ResourceLimit>,
}

fields!(struct SetUp { foreground, nice, cpus, umask, current_dir, limits });

impl SetUp {
    /// Makes this process like this.
    pub(super) fn apply(
        &self,
        [stdout, stderr]: [&Output; 2],
        mut descriptors: impl Iterator<Item = OwnedFd>,
    ) -> Result<(), StartFailure> {
        if !self.foreground {
            leave_session().map_err(failure("make a session for the worker"))?;
        }
        if let Some(nice) = self.nice {
            set_nice(nice).map_err(failure(format!("set nice value {nice}")))?;
        }
        if let Some(cpus) = &self.cpus {
            set_cpus(cpus).map_err(failure(format!("set the CPU affinity to {cpus:?}")))?;
        }
        if let Some(mask) = self.umask {
            umask(Mode::from_raw_mode(mask as RawMode));
        }
        if let Some(path) = &self.current_dir {
            let entered = std::env::set_current_dir(path);
            entered.map_err(|it| StartFailure::CurrentDir { why: it.to_string() })?;
        }
        redirect(stdout, "stdout", rustix::stdio::dup2_stdout, &mut descriptors)?;
        redirect(stderr, "stderr", rustix::stdio::dup2_stderr, &mut descriptors)?;
        // Last, lest they hold for what is done for the worker.
        for limit in &self.limits {
            limit.set().map_err(failure(format!("set the limit {limit}")))?;
        }
        Ok(())
    }
}

fn failure(tried: impl Into<String>) -> impl FnOnce(io::Error) -> StartFailure {
    |error| StartFailure::SetUp { tried: tried.into(), why: error.to_string() }
}

fn redirect(
    output: &Output,
    stream: &str,
    put: fn(OwnedFd) -> rustix::io::Result<()>,
    descriptors: impl Iterator<Item = OwnedFd>,
) -> Result<(), StartFailure> {
    let opened = output.open(descriptors);
    let put = opened.and_then(|it| Ok(it.map(put).transpose()?));
    put.map(|_| ()).map_err(|error| {
        let why = match output {
            Output::File { path, .. } => {
                format!("failed to open `{}`: {error}", Path::new(path).display())
            }
            Output::Inherit | Output::Null | Output::Descriptor => error.to_string(),
        };
        StartFailure::Redirect { stream: stream.into(), why }
    })
}

/// Leaves the session of the master: what happens at its terminal does not concern this process.
fn leave_session() -> io::Result<()> {
    match setsid() {
        // It leads a process group already, in which a launcher has put it: that will do.
        Ok(_) | Err(Errno::PERM) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn set_nice(nice: i32) -> io::Result<()> {
    for thread in threads() {
        setpriority_process(thread, nice)?;
    }
    match getpriority_process(None)? {
        set if set == nice => Ok(()),
        // The kernel clamps the value silently.
        set => {
            let bound = if nice < set { "minimum" } else { "maximum" };
            Err(io::Error::other(format!("the {bound} is {set}")))
        }
    }
}

fn set_cpus(cpus: &[usize]) -> io::Result<()> {
    let mut wanted = CpuSet::new();
    for cpu in cpus {
        if *cpu >= CpuSet::MAX_CPU {
            return Err(no_such_processors(&[cpu]));
        }
        wanted.set(*cpu);
    }
    for thread in threads() {
        sched_setaffinity(thread, &wanted)?;
    }
    // The system leaves those out that there are not, as long as there is one.
    let got = sched_getaffinity(None)?;
    let missing: Vec<_> = cpus.iter().filter(|it| !got.is_set(**it)).collect();
    if missing.is_empty() { Ok(()) } else { Err(no_such_processors(&missing)) }
}

fn no_such_processors(cpus: &[impl Display]) -> io::Error {
    let cpus: Vec<_> = cpus.iter().map(ToString::to_string).collect();
    io::Error::other(format!("CPU {} is not available to this process", cpus.join(", ")))
}

/// Returns the threads of this process: what they have in common in theory, Linux sets for each.
fn threads() -> Vec<Option<Pid>> {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten();
    let tasks = tasks.filter_map(|it| it.ok()?.file_name().to_str()?.parse().ok());
    let threads: Vec<_> = tasks.map(Pid::from_raw).collect();
    // There is only one, most probably: the others come later and inherit it.
    if threads.is_empty() { vec![None] } else { threads }
}
