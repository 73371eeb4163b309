//! A test executable without a `#[rpc_parallel::test]`: its tests cannot start workers.

use rpc_parallel::error::SpawnErrorKind;
use rpc_parallel::expert::initialized;
use rpc_parallel::prelude::*;
use rpc_parallel_tests::fixture::Fixture;
use rpc_parallel_tests::script::Script;

async fn assert_refused() {
    let spawned = Fixture::spawn(Script::default()).await;

    let error = spawned.map(drop).expect_err("this process is not a master");
    assert!(matches!(error.kind(), SpawnErrorKind::NotInitialized), "{error}");
    let cure = "or `#[rpc_parallel::test]` instead of `#[test]`";
    assert!(error.to_string().contains(cure), "{error}");
    assert_eq!(initialized(), None);
}

#[test]
fn spawn_in_plain_test_fails_with_cure() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();

    runtime.expect("build a runtime").block_on(assert_refused());
}

#[tokio::test]
async fn spawn_in_tokio_test_fails_with_cure() {
    assert_refused().await;
}
