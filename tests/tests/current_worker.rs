//! The handle and the settings of a worker, from inside of its functions.

use rpc_parallel::Settings;
use rpc_parallel::prelude::*;
use rpc_parallel_tests::spawn_ok::{ConnectOk as _, SpawnOk as _, SpawnerOk as _};

/// Functions that look at their own worker, or call another.
#[rpc_parallel::worker]
trait SelfAware {
    fn pid(&self) -> u32;
    fn handle(&self, cx: &Context) -> Worker<Aware>;
    fn max_message_size(&self, cx: &Context) -> usize;
    async fn pid_of(&self, other: Worker<Aware>) -> Result<u32, AnyError>;
    async fn pid_by_own_handle(&self, cx: &Context) -> Result<u32, AnyError>;
}

#[derive(Default, WorkerState)]
struct Aware;

#[rpc_parallel::worker]
impl SelfAware for Aware {
    fn pid(&self) -> u32 {
        std::process::id()
    }

    fn handle(&self, cx: &Context) -> Worker<Self> {
        Worker::current(cx)
    }

    fn max_message_size(&self, cx: &Context) -> usize {
        cx.settings().max_message_size()
    }

    async fn pid_of(&self, other: Worker<Self>) -> Result<u32, AnyError> {
        Ok(other.connect(()).await?.pid().await?)
    }

    async fn pid_by_own_handle(&self, cx: &Context) -> Result<u32, AnyError> {
        self.pid_of(Worker::current(cx)).await
    }
}

#[rpc_parallel::test]
async fn own_handle_of_started_worker_connects_to_it() {
    let worker = Aware::start_ok(()).await;
    let client = worker.connect_ok().await;
    let pid = client.pid().await.expect("the worker runs");

    let handle = client.handle().await.expect("the worker can listen");

    assert_eq!(handle, worker);
    assert_eq!(handle.connect_ok().await.pid().await, Ok(pid));
    assert_eq!(client.pid_by_own_handle().await, Ok(pid));
}

#[rpc_parallel::test]
async fn own_handle_of_spawned_worker_connects_other_worker() {
    let spawned = Aware::spawn_ok(()).await;
    let other = Aware::spawn_ok(()).await;
    let pid = spawned.pid().await.expect("the worker runs");

    let handle = spawned.handle().await.expect("the worker can listen");

    assert_eq!(other.pid_of(handle).await, Ok(pid));
}

#[rpc_parallel::test]
async fn own_handle_of_server_connects_to_it() {
    let server = Aware::serve(()).await.expect("the server starts");
    let client = server.connect_ok().await;
    let other = Aware::spawn_ok(()).await;

    let handle = client.handle().await.expect("the server can listen");

    assert_eq!(handle, server);
    assert_eq!(other.pid_of(handle).await, Ok(std::process::id()));
}

#[rpc_parallel::test]
async fn context_has_settings_of_worker() {
    let settings = Settings::default().with_max_message_size(4096);
    let client = Aware::spawner().settings(settings).spawn_ok(()).await;

    assert_eq!(client.max_message_size().await, Ok(4096));
}
