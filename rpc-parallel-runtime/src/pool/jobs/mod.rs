//! Jobs: calls of process functions that any process of the program starts, and any may join.
//!
//! The process at the top of the tree runs the *keeper*, a worker server. It starts the process of
//! each job and keeps the results. All processes, also the top, call it over a connection.

mod end;
mod table;
mod running;
mod run_directory;
mod protocol;
mod keeper;
mod top;
mod job_id;
mod start_error;
mod join_error;
mod job;
mod start;

pub(super) use self::end::JobEnd;
pub use self::job::Job;
pub use self::job_id::JobId;
pub use self::join_error::JoinError;
pub use self::keeper::ACCEPT_JOBS;
pub use self::run_directory::run_directory;
pub(super) use self::run_directory::set_run_directory;
pub(super) use self::running::{EndOrder, RunningJobs};
pub use self::start::{StartJob, TryStartJob, start};
pub use self::start_error::StartJobError;
