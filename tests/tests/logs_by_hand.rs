//! A program may give its workers a subscriber of its own, with our layer in it or without.

use rpc_parallel::logs::LogItem;
use rpc_parallel::prelude::*;
use rpc_parallel_tests::waiting::soon;
use serde::{Deserialize, Serialize};
use tracing::subscriber::set_global_default;
use tracing::{Level, info};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// A worker that chooses how it logs.
#[rpc_parallel::worker]
trait Speaks {
    fn say(&self, line: &str);
}

struct Speaker;

/// Which subscriber a worker installs.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Installs {
    /// One with our layer.
    Layer,
    /// The usual one of `tracing_subscriber`, in the usual way, which panics if there is another.
    Fmt,
    /// One without any layer.
    GlobalDefault,
}

impl WorkerState for Speaker {
    type Init = Installs;

    async fn init(installs: Installs) -> Result<Self, BoxError> {
        info!("nobody listens yet");
        match installs {
            Installs::Layer => Registry::default().with(rpc_parallel::logs::layer()).try_init()?,
            Installs::Fmt => tracing_subscriber::fmt().with_writer(std::io::stderr).init(),
            Installs::GlobalDefault => set_global_default(Registry::default())?,
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

#[rpc_parallel::test]
async fn a_worker_with_a_subscriber_of_its_own_has_our_layer_if_it_wants() {
    let speaker = Speaker::spawn(Installs::Layer).await.expect("there was no subscriber before");
    let mut logs = speaker.logs().await.expect("it has logs");

    speaker.say("hello").await.expect("it says it");

    for message in ["it begins", "hello"] {
        let next = soon(logs.next()).await.expect("it goes on").expect("the worker lives");
        let LogItem::Record(record) = next else { panic!("{next}") };
        assert_eq!(record.message(), message);
    }
}

#[rpc_parallel::test]
async fn worker_without_opt_in_installs_its_own_subscriber() {
    for installs in [Installs::Fmt, Installs::GlobalDefault] {
        let speaker = Speaker::spawn(installs).await.expect("there was no subscriber before");

        assert_eq!(speaker.say("hello").await, Ok(()), "{installs:?}");
    }
}

#[rpc_parallel::test]
async fn logs_of_worker_that_keeps_none_hold_one_warning() {
    let speaker = Speaker::spawn(Installs::GlobalDefault).await.expect("there was none before");
    let mut logs = speaker.logs().await.expect("it has logs");
    let forwarding = rpc_parallel::logs::forward(&speaker).await.expect("it answers");

    speaker.say("hello").await.expect("it says it");

    let next = soon(logs.next()).await.expect("it goes on").expect("the worker lives");
    let LogItem::Record(record) = next else { panic!("{next}") };
    assert_eq!(record.level(), Level::WARN);
    assert!(record.message().contains("`worker_logs = true`"), "{record}");
    soon(forwarding.flush()).await;
    assert!(format!("{forwarding:?}").contains("seen: 1"), "{forwarding:?}");
}
