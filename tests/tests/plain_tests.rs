//! A test executable without a `#[rpc_parallel::test]`: no test of it starts workers.

use rpc_parallel::error::SpawnErrorKind;
use rpc_parallel::expert::initialized;
use rpc_parallel::prelude::*;

#[rpc_parallel::worker]
trait Nothing {}

#[derive(Default, WorkerState)]
struct Nobody;

#[rpc_parallel::worker]
impl Nothing for Nobody {}

async fn assert_refused() {
    let spawned = Nobody::spawn(()).await;

    let error = spawned.map(drop).expect_err("nothing has made this process a master");
    assert!(matches!(error.kind(), SpawnErrorKind::NotInitialized), "{error}");
    let cure = "or `#[rpc_parallel::test]` instead of `#[test]`";
    assert!(error.to_string().contains(cure), "{error}");
    assert_eq!(initialized(), None);
}

#[test]
fn plain_test_that_spawns_is_refused_with_the_cure() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();

    runtime.expect("make a runtime").block_on(assert_refused());
}

#[tokio::test]
async fn tokio_test_that_spawns_is_refused_with_the_cure() {
    assert_refused().await;
}
