//! Spans of callers: what of them travels, and how long they are known.

use super::peer::{frame, kind, play_caller, play_worker};
use crate::connection::scripted::{Functions, call, function};
use crate::wire::FunctionInfo;

/// Returns its argument.
const ECHO: &FunctionInfo = &function("echo");

fn echo() -> Functions {
    Functions::default().with(ECHO, async |it: u64| it)
}

#[tokio::test(start_paused = true)]
async fn a_call_that_tells_its_spans_is_answered_by_whoever_does_not_ask_for_them() {
    let (mut peer, _worker, _connection) = play_caller(echo()).await;
    let function = ECHO.id().get().to_le_bytes();
    let keys = [7; 2 * 16];

    peer.say(&frame(kind::CALL, &[&[1; 8], &function, &[4], &[7], &keys, &[2]]));

    let answer = frame(kind::ANSWER, &[&[1; 8], &[0], &[0], &[7]]);
    assert_eq!(peer.hear().await.as_deref(), Some(&answer[4..]));
}

#[tokio::test(start_paused = true)]
async fn a_call_outside_of_spans_tells_of_none() {
    let (mut peer, client) = play_worker().await;

    tokio::spawn(call::<_, u64>(&client, ECHO, 7_u64));

    let sent = peer.hear().await.expect("it is sent");
    assert_eq!(sent[17..], [0, 7], "no extras, and the argument");
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

    /// Tells of which calls it is part: how many, and whether they are ours.
    const CALLERS: &FunctionInfo = &function("callers");

    /// Counts spans that are closed.
    struct Closed(Arc<AtomicUsize>);

    impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Closed {
        fn on_close(&self, id: span::Id, ctx: Context<'_, S>) {
            if ctx.span(&id).is_some_and(|it| it.name() == "counted") {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_function_knows_the_span_of_its_caller_while_it_runs() {
        let _subscriber = tracing::subscriber::set_default(Registry::default());
        let functions = Functions::default().with(CALLERS, async |(): ()| {
            let keys = Callers::of_span(&Span::current());
            let caller = find(keys.keys());
            let name = caller.as_ref().and_then(Span::metadata).map(Metadata::name);
            (keys.keys().len(), name.map(str::to_owned))
        });
        let connected = connected(1024, functions).await;
        let call = || call::<_, (usize, Option<String>)>(&connected.client, CALLERS, ());

        let in_none = call().await.expect("it is answered");
        let in_one = call().instrument(info_span!("near")).await.expect("it is answered");

        assert_eq!(in_none, (0, None));
        assert_eq!(in_one, (1, Some("near".to_owned())));
    }

    #[tokio::test(start_paused = true)]
    async fn a_span_stays_known_after_its_call_only_while_somebody_reads_logs() {
        let closed = Arc::new(AtomicUsize::new(0));
        let subscriber = Registry::default().with(Closed(closed.clone()));
        let _subscriber = tracing::subscriber::set_default(subscriber);
        let connected = connected(1024, echo()).await;
        let call = || {
            let span = info_span!("counted");
            call::<_, u64>(&connected.client, ECHO, 7_u64).instrument(span)
        };

        call().await.expect("it is answered");
        assert_eq!(closed.load(Ordering::Relaxed), 1);

        let reading = Reading::begin();
        call().await.expect("it is answered");
        assert_eq!(closed.load(Ordering::Relaxed), 1, "it is still known");
        sleep(Duration::from_secs(3)).await;
        assert_eq!(closed.load(Ordering::Relaxed), 2);

        for _ in 0..5000 {
            call().await.expect("it is answered");
        }
        let known = 5002 - closed.load(Ordering::Relaxed);
        assert_eq!(known, 1024, "no more of them are kept");
        sleep(Duration::from_secs(3)).await;
        assert_eq!(closed.load(Ordering::Relaxed), 5002);

        drop(reading);
        call().await.expect("it is answered");
        assert_eq!(closed.load(Ordering::Relaxed), 5003);
    }

    #[test]
    fn a_span_of_another_process_is_not_one_of_this() {
        let other = SpanKey { process: process().wrapping_add(1), span: 0 };

        assert!(find(&[other]).is_none());
    }
}
