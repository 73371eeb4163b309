//! A program as a process function: it runs in a first process, and the calling process supervises.

mod stray_jobs;
mod error;
mod locked;
mod pid_file;
mod private_directory;
mod set_up;
mod supervise;
mod first_process;

pub use self::error::FirstProcessError;
pub use self::first_process::{FirstProcess, run};
pub use self::stray_jobs::StrayJobs;
