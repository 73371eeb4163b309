//! The answering end on a multi-thread runtime, which runs each call in a task of its own.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::{Connected, connected_with, settings, soon};
use crate::connection::scripted::{Functions, call, function};
use crate::wire::FunctionInfo;

const ECHO: &FunctionInfo = &function("echo");

fn functions() -> Functions {
    Functions::default().with(ECHO, async |x: u64| x)
}

/// Makes calls, one after the other.
async fn echo(connected: &Connected, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let echoed = soon("an answer", call::<_, u64>(&connected.client, ECHO, number)).await;
        assert_eq!(echoed.expect("the caller keeps to the limit"), number);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn sequential_calls_at_limit_keep_connection() {
    for max_calls in [1, 2] {
        let settings = settings().with_max_calls(max_calls);
        let connected = connected_with(100_000, settings, functions()).await;

        echo(&connected, 0..10_000).await;

        assert!(!connected.client.is_closed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn concurrent_calls_at_limit_keep_connection() {
    for max_calls in [1, 2] {
        let settings = settings().with_max_calls(max_calls);
        let connected = Arc::new(connected_with(100_000, settings, functions()).await);

        let mut callers = JoinSet::new();
        for caller in 0..8 {
            let connected = connected.clone();
            callers
                .spawn(async move { echo(&connected, caller * 1000..(caller + 1) * 1000).await });
        }
        while let Some(ended) = callers.join_next().await {
            ended.expect("all calls are answered");
        }

        assert!(!connected.client.is_closed());
    }
}
