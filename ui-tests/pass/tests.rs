//! Every kind of test. The programs of `pass` are not run, so these tests only compile.

#![allow(dead_code)]

#[rpc_parallel::test]
async fn nothing() {}

#[rpc_parallel::test(flavor = "multi_thread", worker(flavor = "multi_thread", threads = 2))]
async fn with_settings() -> Result<(), String> {
    Ok(())
}

#[rpc_parallel::test]
#[should_panic(expected = "panics")]
#[ignore = "only compiled"]
async fn panics() {
    panic!("it panics")
}

#[rpc_parallel::test]
fn sync() {}

#[rpc_parallel::test]
fn r#loop() {}

fn main() {}
