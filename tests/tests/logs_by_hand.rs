//! A program may give its workers a subscriber of its own, with our layer in it or without.

use rpc_parallel::logs::LogItem;
use rpc_parallel::prelude::*;
use rpc_parallel_tests::waiting::soon;
use tracing::info;
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// A worker that chooses how it logs.
#[rpc_parallel::worker]
trait Speaks {
    fn say(&self, line: &str);
}

struct Speaker;

impl WorkerState for Speaker {
    /// Whether our layer is part of it.
    type Init = bool;

    async fn init(with_layer: bool) -> Result<Self, BoxError> {
        info!("nobody listens yet");
        if with_layer {
            Registry::default().with(rpc_parallel::logs::layer()).try_init()?;
        } else {
            Registry::default().try_init()?;
        }
        info!("it begins");
        Ok(Self)
    }
}

#[rpc_parallel::worker]
impl Speaks for Speaker {
    fn say(&self, line: &str) {
        info!("{line}");
    }
}

#[rpc_parallel::test(worker_logs = false)]
async fn a_worker_with_a_subscriber_of_its_own_has_our_layer_if_it_wants() {
    let speaker = Speaker::spawn(true).await.expect("there was no subscriber before");
    let mut logs = speaker.logs().await.expect("it has logs");

    speaker.say("hello").await.expect("it says it");

    for message in ["it begins", "hello"] {
        let next = soon(logs.next()).await.expect("it goes on").expect("the worker lives");
        let LogItem::Record(record) = next else { panic!("{next}") };
        assert_eq!(record.message(), message);
    }
}

#[rpc_parallel::test(worker_logs = false)]
async fn a_worker_without_our_layer_keeps_nothing() {
    let speaker = Speaker::spawn(false).await.expect("there was no subscriber before");
    let forwarding = rpc_parallel::logs::forward(&speaker).await.expect("it answers");

    speaker.say("hello").await.expect("it says it");

    soon(forwarding.flush()).await;
    assert!(format!("{forwarding:?}").contains("seen: 0"), "{forwarding:?}");
}
