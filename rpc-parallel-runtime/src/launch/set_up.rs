//! The set-up of a worker process, which it applies to itself before any user code runs.

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
use super::null::NULL;
use super::redirect::Output;
use super::start_failure::StartFailure;
use crate::wire::fields;

/// The attributes of a worker's process, except for its output streams.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct SetUp {
    /// Whether the process stays in the session of its master.
    pub(crate) foreground: bool,
    /// Whether the process group of the process is killed at its end.
    pub(crate) kill_children: bool,
    pub(crate) nice: Option<i32>,
    pub(crate) cpus: Option<Vec<usize>>,
    pub(crate) umask: Option<u32>,
    pub(crate) current_dir: Option<OsString>,
    /// At most one limit for each resource.
    pub(crate) limits: Vec<ResourceLimit>,
}

fields!(struct SetUp { foreground, kill_children, nice, cpus, umask, current_dir, limits });

impl SetUp {
    /// Applies the attributes and redirects to this process.
    pub(super) fn apply(
        &self,
        [stdout, stderr]: [&Output; 2],
        mut descriptors: impl Iterator<Item = OwnedFd>,
    ) -> Result<(), StartFailure> {
        if !self.foreground {
            leave_session().map_err(failure("create a session for it"))?;
        }
        if self.kill_children && self.foreground {
            let why = "in the foreground it shares the process group of its master";
            return Err(failure(KILL_CHILDREN)(io::Error::other(why)));
        }
        if let Some(nice) = self.nice {
            set_nice(nice).map_err(failure(format!("set its nice value to {nice}")))?;
        }
        if let Some(cpus) = &self.cpus {
            set_cpus(cpus).map_err(failure(format!("set its CPU affinity to {cpus:?}")))?;
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
        // The limits are last, so that they do not hold for the steps above.
        for limit in &self.limits {
            limit.set().map_err(failure(format!("set its resource limit {limit}")))?;
        }
        Ok(())
    }
}

/// The failed step in the error of a worker whose children cannot end with it.
pub(super) const KILL_CHILDREN: &str = "let its children end with it";

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
            Output::Null => format!("failed to open `{NULL}`: {error}"),
            Output::Inherit | Output::Descriptor => error.to_string(),
        };
        StartFailure::Redirect { stream: stream.into(), why }
    })
}

/// Leaves the session of the master, so that signals of its terminal do not reach this process.
fn leave_session() -> io::Result<()> {
    match setsid() {
        // The process leads the process group that a launcher has made for it, which suffices.
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
    // The kernel ignores CPUs that do not exist, as long as one of the set exists.
    let got = sched_getaffinity(None)?;
    let missing: Vec<_> = cpus.iter().filter(|it| !got.is_set(**it)).collect();
    if missing.is_empty() { Ok(()) } else { Err(no_such_processors(&missing)) }
}

fn no_such_processors(cpus: &[impl Display]) -> io::Error {
    let cpus: Vec<_> = cpus.iter().map(ToString::to_string).collect();
    io::Error::other(format!("CPU {} is not available to this process", cpus.join(", ")))
}

/// Returns the threads of this process. Linux sets niceness and CPU affinity for each thread.
fn threads() -> Vec<Option<Pid>> {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten();
    let tasks = tasks.filter_map(|it| it.ok()?.file_name().to_str()?.parse().ok());
    let threads: Vec<_> = tasks.map(Pid::from_raw).collect();
    // Without `/proc` only this thread is set. Threads that start later inherit its attributes.
    if threads.is_empty() { vec![None] } else { threads }
}
