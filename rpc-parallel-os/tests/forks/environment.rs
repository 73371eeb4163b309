//! Changes of the environment, which other programs get to see.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::process::Command;
use std::sync::mpsc;
use std::thread;

use rpc_parallel_os::{EnvironmentError, remove_variable, replace_variables, set_variable};

crate::harness::tests! {
    variables_are_set_and_removed
    all_variables_are_replaced
    invalid_variable_changes_nothing
    second_thread_refuses_changes
}

/// Returns what a program that is started gets.
fn environment_of_program() -> Vec<String> {
    let output = Command::new("/usr/bin/env").output().expect("start a program");
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(str::to_owned).collect()
}

fn variables_are_set_and_removed() {
    let name = OsStr::new("RPC_PARALLEL_TEST");

    set_variable(name, "a=b".as_ref()).expect("there is one thread");
    let set = environment_of_program();
    remove_variable(name).expect("there is one thread");
    let removed = environment_of_program();

    assert!(set.contains(&"RPC_PARALLEL_TEST=a=b".to_owned()), "{set:?}");
    assert_eq!(env::var_os(name), None);
    assert_eq!(removed.len() + 1, set.len());
}

fn all_variables_are_replaced() {
    let bytes = OsString::from_vec(vec![0xff]);
    let variables = [("A".into(), OsString::new()), ("B".into(), bytes)];

    replace_variables(&variables).expect("there is one thread");

    let mut found: Vec<_> = env::vars_os().collect();
    found.sort();
    assert_eq!(found, variables);
    assert_eq!(environment_of_program().len(), 2);
    replace_variables::<&str, &str>(&[]).expect("there is one thread");
    assert_eq!(env::vars_os().count(), 0);
    assert_eq!(environment_of_program(), Vec::<String>::new());
}

fn invalid_variable_changes_nothing() {
    let before: Vec<_> = env::vars_os().collect();

    let error = replace_variables(&[("A", "a"), ("B=", "b")]).expect_err("`=` is in a name");

    assert_eq!(error.to_string(), "expected a name of an environment variable, found \"B=\"");
    assert_eq!(env::vars_os().collect::<Vec<_>>(), before);
}

fn second_thread_refuses_changes() {
    let name = OsStr::new("RPC_PARALLEL_TEST");
    let (_stop, stopped) = mpsc::channel::<()>();
    thread::spawn(move || stopped.recv().is_err());

    let set = set_variable(name, name);
    let removed = remove_variable(name);
    let replaced = replace_variables(&[(name, name)]);

    for result in [set, removed, replaced] {
        assert!(matches!(result, Err(EnvironmentError::Threads(_))), "{result:?}");
    }
    assert_eq!(env::var_os(name), None);
}
