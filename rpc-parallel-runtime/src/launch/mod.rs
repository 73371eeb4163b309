//! Worker processes, from both sides: how one is started, watched and ended by its master, and
//! what it does itself before and around the user's code.

mod mark;
mod role;
mod flavor;
mod redirect;
mod start;
mod order;
mod tail;
mod process;
mod keeper;
mod children;
mod starting;
mod listening;
mod work;

pub use self::flavor::Flavor;
pub use self::redirect::Redirect;
pub(crate) use self::children::{Children, Started};
pub(crate) use self::listening::listen;
pub(crate) use self::mark::{MARK_VARIABLE, Mark};
pub(crate) use self::role::Role;
pub(crate) use self::start::{Lives, Recipe, StartFailure};
pub(crate) use self::starting::{Plan, StartingError};
pub(crate) use self::work::work;
