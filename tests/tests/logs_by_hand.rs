//! Workers can install their own subscriber, with or without the log layer.

use rpc_parallel::logs::LogItem;
use rpc_parallel::prelude::*;
use rpc_parallel_tests::waiting::soon;
use serde::{Deserialize, Serialize};
use tracing::subscriber::set_global_default;
use tracing::{Level, info};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// A function that logs.
#[rpc_parallel::worker]
trait Logging {
    fn log(&self, line: &str);
}

struct LoggingWorker;

/// Which subscriber a worker installs.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Installs {
    /// A registry with the log layer.
    Layer,
    /// `fmt().init()` of `tracing_subscriber`, which panics if there is a subscriber already.
    Fmt,
    /// A registry without layers.
    GlobalDefault,
}

impl WorkerState for LoggingWorker {
    type Init = Installs;

    async fn init(installs: Installs) -> Result<Self, BoxError> {
        info!("before the subscriber");
        match installs {
            Installs::Layer => Registry::default().with(rpc_parallel::logs::layer()).try_init()?,
            Installs::Fmt => tracing_subscriber::fmt().with_writer(std::io::stderr).init(),
            Installs::GlobalDefault => set_global_default(Registry::default())?,
        }
        info!("initialized");
        Ok(Self)
    }
}

#[rpc_parallel::worker]
impl Logging for LoggingWorker {
    fn log(&self, line: &str) {
        info!("{line}");
    }
}

#[rpc_parallel::test]
async fn worker_adds_log_layer_to_its_own_subscriber() {
    let client =
        LoggingWorker::spawn(Installs::Layer).await.expect("the process has no other subscriber");
    let mut logs = client.logs().await.expect("the worker has logs");

    client.log("hello").await.expect("the call succeeds");

    for message in ["initialized", "hello"] {
        let next =
            soon(logs.next()).await.expect("the logs do not end").expect("the logs do not fail");
        let LogItem::Record(record) = next else { panic!("{next}") };
        assert_eq!(record.message(), message);
    }
}

#[rpc_parallel::test]
async fn worker_without_opt_in_installs_its_own_subscriber() {
    for installs in [Installs::Fmt, Installs::GlobalDefault] {
        let client =
            LoggingWorker::spawn(installs).await.expect("the process has no other subscriber");

        assert_eq!(client.log("hello").await, Ok(()), "{installs:?}");
    }
}

#[rpc_parallel::test]
async fn logs_without_opt_in_contain_one_warning() {
    let client = LoggingWorker::spawn(Installs::GlobalDefault)
        .await
        .expect("the process has no other subscriber");
    let mut logs = client.logs().await.expect("the worker has logs");
    let forwarding = rpc_parallel::logs::forward(&client).await.expect("the worker answers");

    client.log("hello").await.expect("the call succeeds");

    let next = soon(logs.next()).await.expect("the logs do not end").expect("the logs do not fail");
    let LogItem::Record(record) = next else { panic!("{next}") };
    assert_eq!(record.level(), Level::WARN);
    assert!(record.message().contains("`worker_logs = true`"), "{record}");
    soon(forwarding.flush()).await;
    assert!(format!("{forwarding:?}").contains("seen: 1"), "{forwarding:?}");
}
