//! Spans of callers: which keys calls carry, and how long the process can find a span by its key.

use super::peer::{accept_as_worker, connect_as_caller, frame, kind};
use crate::connection::scripted::{Functions, call, function};
use crate::wire::FunctionInfo;

/// Returns its argument.
const ECHO: &FunctionInfo = &function("echo");

fn echo() -> Functions {
    Functions::default().with(ECHO, async |it: u64| it)
}

#[tokio::test(start_paused = true)]
async fn call_with_spans_is_answered_without_subscriber() {
    let (mut peer, _worker, _connection) = connect_as_caller(echo()).await;
    let function = ECHO.id().get().to_le_bytes();
    let keys = [7; 2 * 16];

    peer.send(&frame(kind::CALL, &[&[1; 8], &function, &[4], &[7], &keys, &[2]]));

    let answer = frame(kind::ANSWER, &[&[1; 8], &[0], &[0], &[7]]);
    assert_eq!(peer.receive().await.as_deref(), Some(&answer[4..]));
}

#[tokio::test(start_paused = true)]
async fn call_outside_of_spans_sends_no_span_keys() {
    let (mut peer, client) = accept_as_worker().await;

    tokio::spawn(call::<_, u64>(&client, ECHO, 7_u64));

    let sent = peer.receive().await.expect("the client sends its call");
    assert_eq!(sent[17..], [0, 7], "expected no extras and the argument");
}

#[cfg(feature = "tracing")]
mod with_tracing {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use tokio::time::sleep;
    use tracing::{Instrument, Metadata, Span, Subscriber, info_span, span};
    use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
    use tracing_subscriber::registry::{LookupSpan, Registry};

    use super::*;
    use crate::connection::spans::{Callers, Reading, find, process};
    use crate::connection::tests::connected;
    use crate::wire::SpanKey;

    /// Returns how many spans of callers its own span has, and the name of the innermost.
    const CALLERS: &FunctionInfo = &function("callers");

    /// Counts the closed spans that are named `counted`.
    struct CountClosed(Arc<AtomicUsize>);

    impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for CountClosed {
        fn on_close(&self, id: span::Id, ctx: Context<'_, S>) {
            if ctx.span(&id).is_some_and(|it| it.name() == "counted") {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn running_function_finds_span_of_its_caller() {
        let _subscriber = tracing::subscriber::set_default(Registry::default());
        let functions = Functions::default().with(CALLERS, async |(): ()| {
            let keys = Callers::of_span(&Span::current());
            let caller = find(keys.keys());
            let name = caller.as_ref().and_then(Span::metadata).map(Metadata::name);
            (keys.keys().len(), name.map(str::to_owned))
        });
        let connected = connected(1024, functions).await;
        let call = || call::<_, (usize, Option<String>)>(&connected.client, CALLERS, ());

        let without_span = call().await.expect("the call succeeds");
        let in_span = call().instrument(info_span!("caller")).await.expect("the call succeeds");

        assert_eq!(without_span, (0, None));
        assert_eq!(in_span, (1, Some("caller".to_owned())));
    }

    #[tokio::test(start_paused = true)]
    async fn span_outlives_its_call_only_while_logs_are_read() {
        let closed = Arc::new(AtomicUsize::new(0));
        let subscriber = Registry::default().with(CountClosed(closed.clone()));
        let _subscriber = tracing::subscriber::set_default(subscriber);
        let connected = connected(1024, echo()).await;
        let call = || {
            let span = info_span!("counted");
            call::<_, u64>(&connected.client, ECHO, 7_u64).instrument(span)
        };

        call().await.expect("the call succeeds");
        assert_eq!(closed.load(Ordering::Relaxed), 1);

        let reading = Reading::begin();
        call().await.expect("the call succeeds");
        assert_eq!(closed.load(Ordering::Relaxed), 1, "the second span is still kept");
        sleep(Duration::from_secs(3)).await;
        assert_eq!(closed.load(Ordering::Relaxed), 2);

        for _ in 0..5000 {
            call().await.expect("the call succeeds");
        }
        let kept = 5002 - closed.load(Ordering::Relaxed);
        assert_eq!(kept, 1024, "the number of kept spans is bounded");
        sleep(Duration::from_secs(3)).await;
        assert_eq!(closed.load(Ordering::Relaxed), 5002);

        drop(reading);
        call().await.expect("the call succeeds");
        assert_eq!(closed.load(Ordering::Relaxed), 5003);
    }

    #[test]
    fn span_key_of_another_process_is_not_found() {
        let other = SpanKey { process: process().wrapping_add(1), span: 0 };

        assert!(find(&[other]).is_none());
    }
}
