//! Changes of this process's environment.
//!
//! C code reads the environment at any time and takes no lock, so it must not be changed while
//! another thread runs. The functions here check that.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use crate::threads::{NotSingleThreaded, check_single_threaded};

/// The environment could not be changed, and is unchanged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnvironmentError {
    /// Another thread may read the environment.
    #[error("failed to change the environment: the process must have a single thread")]
    Threads(#[from] NotSingleThreaded),
    /// The name is empty, or contains `=` or a zero byte.
    #[error("expected a name of an environment variable, found {0:?}")]
    Name(OsString),
    /// The value contains a zero byte.
    #[error("expected a value without zero bytes for the environment variable {0:?}")]
    Value(OsString),
}

/// Sets an environment variable of this process.
///
/// # Errors
///
/// The process has other threads, the name is empty or contains `=`, or one of both contains a zero
/// byte.
pub fn set_variable(name: &OsStr, value: &OsStr) -> Result<(), EnvironmentError> {
    check_name(name)?;
    check_value(name, value)?;
    check_single_threaded()?;
    set(name, value);
    Ok(())
}

/// Removes an environment variable of this process, if it exists.
///
/// # Errors
///
/// The process has other threads, or the name is empty or contains `=` or a zero byte.
pub fn remove_variable(name: &OsStr) -> Result<(), EnvironmentError> {
    check_name(name)?;
    check_single_threaded()?;
    // SAFETY: no other thread reads or writes the environment, because this one is the only one.
    unsafe { env::remove_var(name) };
    Ok(())
}

/// Replaces all environment variables of this process.
///
/// # Errors
///
/// As [`set_variable`]. Then no variable is changed.
pub fn replace_variables<N, V>(variables: &[(N, V)]) -> Result<(), EnvironmentError>
where
    N: AsRef<OsStr>,
    V: AsRef<OsStr>,
{
    for (name, value) in variables {
        check_name(name.as_ref())?;
        check_value(name.as_ref(), value.as_ref())?;
    }
    check_single_threaded()?;
    // SAFETY: no other thread reads or writes the environment, because this one is the only one.
    // Entries that are no variables are also removed.
    unsafe { libc::clearenv() };
    for (name, value) in variables {
        set(name.as_ref(), value.as_ref());
    }
    Ok(())
}

/// Sets a variable whose name and value are valid, in a process with a single thread.
fn set(name: &OsStr, value: &OsStr) {
    // SAFETY: no other thread reads or writes the environment: the callers have checked that this
    // one is the only one, and nothing that they do since has created another.
    unsafe { env::set_var(name, value) };
}

/// Accepts the names that `std::env::set_var` does not panic for.
fn check_name(name: &OsStr) -> Result<(), EnvironmentError> {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes.contains(&b'=') || bytes.contains(&0) {
        return Err(EnvironmentError::Name(name.to_owned()));
    }
    Ok(())
}

fn check_value(name: &OsStr, value: &OsStr) -> Result<(), EnvironmentError> {
    if value.as_bytes().contains(&0) {
        return Err(EnvironmentError::Value(name.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_names_and_values_are_errors() {
        for name in ["", "a=b", "a\0"] {
            let error = set_variable(name.as_ref(), "b".as_ref()).expect_err("it is no name");
            assert!(error.to_string().starts_with("expected a name"), "{error}");
        }

        let error = set_variable("a".as_ref(), "b\0".as_ref()).expect_err("it is no value");
        assert!(error.to_string().contains("without zero bytes for"), "{error}");
    }
}
