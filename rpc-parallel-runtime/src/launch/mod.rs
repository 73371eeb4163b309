//! Worker processes, from both sides: how a master starts, supervises and ends one, and what the
//! worker process does before and around the user's code.

mod null;
mod queue;
mod running_program;
mod boot_token;
mod role;
mod flavor;
mod panics;
mod environment;
mod limit;
mod open_files;
mod redirect;
mod job_keeper;
#[cfg(feature = "pool")]
mod job_socket;
mod start_failure;
mod start;
mod set_up;
mod control_event;
mod runtime_command;
mod control_command;
mod tail;
mod lines;
mod stdio_lock;
mod relay;
mod heartbeat;
mod memory;
mod thread;
mod essential_thread;
mod starting_error;
mod boot_slots;
mod start_progress;
mod control_connection;
mod socket_control;
mod stream_control;
mod process_handle;
mod helper_process;
mod process;
mod orphans;
mod supervised;
mod supervisor_request;
mod supervisor_thread;
mod supervisor;
mod starter;
mod launch_request;
mod launcher;
mod children;
mod starting;
mod listening;
mod worker_index;
#[cfg(feature = "pool")]
mod items_thread;
mod link;
mod parent_exit;
mod control_end;
mod host;
mod serve;
mod exit;
mod work;
mod in_process;
mod initial_signals;
mod inheritance;
mod snapshot_error;
mod snapshot_messages;
mod snapshot_process;
mod snapshot_link;
mod snapshot;
mod entry_snapshot;

pub(crate) use self::boot_token::{BOOT_TOKEN_VARIABLE, BootToken, StartedAs};
pub(crate) use self::children::{Children, Started};
pub(crate) use self::control_command::ConnectionUse;
pub(crate) use self::entry_snapshot::{end_snapshot_of_entry, take_snapshot_of_entry};
pub(crate) use self::environment::BadVariable;
pub use self::flavor::RuntimeFlavor;
pub(crate) use self::flavor::block_on;
pub use self::in_process::InProcess;
pub(crate) use self::initial_signals::initial_signals;
#[cfg(feature = "pool")]
pub(crate) use self::job_keeper::JobKeeper;
#[cfg(feature = "pool")]
pub(crate) use self::job_socket::JobSocket;
pub use self::launch_request::{LaunchRequest, Launched};
pub(crate) use self::launcher::SharedLauncher;
pub use self::launcher::{Exec, Launcher, Launching, WrapperLauncher};
pub use self::limit::ResourceLimit;
pub(crate) use self::listening::listen;
pub use self::panics::PanicPolicy;
pub(crate) use self::process::{End, EndKind, KILL_TIMEOUT};
pub use self::redirect::Redirect;
pub(crate) use self::relay::Outputs;
pub(crate) use self::role::Role;
pub use self::snapshot::Snapshot;
pub use self::snapshot_error::SnapshotError;
pub(crate) use self::start::{Lifetime, SpawnDefaults};
pub(crate) use self::start_failure::StartFailure;
pub(crate) use self::starting::{FailedStart, SpawnConfig, StartingWorker, is_name_of_worker};
pub(crate) use self::starting_error::{LaunchError, StartingError};
#[cfg(feature = "pool")]
pub(crate) use self::supervisor::start_supervisor;
pub(crate) use self::thread::start_thread;
pub(crate) use self::work::work;
#[cfg(feature = "pool")]
pub use self::worker_index::worker_index;

/// Decodes bytes as a start message, and as a control event.
#[cfg(fuzzing)]
pub(crate) fn decode_everything(bytes: &[u8]) {
    let _ = control_event::ControlEvent::decode(bytes);
    if let Some((header, rest)) = bytes.split_first_chunk() {
        let _ = start::Header::decode(header);
        let _ = start::Start::decode(rest);
    }
}
