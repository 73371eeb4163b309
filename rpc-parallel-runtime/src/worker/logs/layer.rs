//! Makes records of what is logged in this process.

use std::env;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once};
use std::time::{Instant, SystemTime};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber, subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry, SpanRef};

use super::backlog::Backlog;
use super::forward;
use super::record::{Fields, LogRecord, LogSpan};
use super::text::Text;
use crate::connection::{AnyError, Callers, Inherited, diagnose, process};
use crate::wire::SpanKey;

/// How many bytes of texts an event may have.
const MOST_OF_EVENT: usize = 16 * 1024;

/// How many bytes of texts a span may have.
const MOST_OF_SPAN: usize = 2 * 1024;

/// How many spans a record tells, of those it is in: the innermost.
const MOST_SPANS: usize = 32;

/// Returns a layer that keeps what this process logs, for [`logs`](crate::Control::logs) of the
/// workers in it.
///
/// It is for programs whose workers install a subscriber of their own. With
/// [`worker_logs`](crate::Master::worker_logs) workers install a subscriber that consists of this
/// layer.
///
/// `RUST_LOG` says what is kept: `info,app::parse=debug`; `info` if it is not set. What it lets
/// through down to `trace` is told of the ends of its spans as well. Other layers are not affected.
///
/// ```
/// # use rpc_parallel_runtime as rpc_parallel;
/// use tracing_subscriber::prelude::*;
///
/// tracing_subscriber::registry()
///     .with(rpc_parallel::logs::layer()) // for those who ask for logs
///     // .with(tracing_subscriber::fmt::layer()) // and for whoever reads stderr
///     .init();
/// ```
pub fn layer<S>() -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    IS_KEPT.store(true, Ordering::Relaxed);
    let directives = env::var("RUST_LOG").unwrap_or_default();
    let (targets, wrong) = targets(&directives);
    for (directive, why) in wrong {
        diagnose(format_args!("`{directive}` in `RUST_LOG` is left out for workers' logs: {why}"));
    }
    of(targets, Backlog::get().clone())
}

/// Whether this process has made a layer that keeps its logs.
static IS_KEPT: AtomicBool = AtomicBool::new(false);

/// Keeps what a worker logs, unless the program has a subscriber already.
pub(crate) fn install() {
    let _ = subscriber::set_global_default(Registry::default().with(layer()));
}

/// Adds a warning to the log of this process, once, if nothing keeps what it logs: a reader of the
/// log would wait for ever, and not know why.
pub(super) fn warn_unless_kept() {
    static WARNED: Once = Once::new();
    if IS_KEPT.load(Ordering::Relaxed) {
        return;
    }
    WARNED.call_once(|| {
        let message = "this process keeps no logs: start its program with `worker_logs = true`, or \
                       put `rpc_parallel::logs::layer()` into its `tracing` subscriber";
        Backlog::get().add(LogRecord {
            time: SystemTime::now(),
            level: Level::WARN,
            target: "rpc_parallel".into(),
            message: message.to_owned(),
            fields: Fields::default(),
            file: None,
            line: None,
            spans: Vec::new(),
            lasted: None,
            worker: None,
            process: process(),
            callers: Vec::new(),
        });
    });
}

fn of<S>(targets: Targets, backlog: Arc<Backlog>) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    LogLayer { ends: targets.clone(), backlog }.with_filter(targets)
}

/// Reads what stands in `RUST_LOG`, and returns what of it cannot be understood.
fn targets(directives: &str) -> (Targets, Vec<(&str, String)>) {
    let mut targets = Targets::new();
    let (mut understood, mut wrong) = (0, Vec::new());
    for directive in directives.split(',').map(str::trim).filter(|it| !it.is_empty()) {
        match directive.parse::<Targets>() {
            Ok(it) => {
                targets = targets.with_targets(it.iter());
                if let Some(level) = it.default_level() {
                    targets = targets.with_default(level);
                }
                understood += 1;
            }
            Err(error) => wrong.push((directive, error.to_string())),
        }
    }
    if understood == 0 {
        targets = targets.with_default(LevelFilter::INFO);
    }
    (targets, wrong)
}

/// Makes records and gives them to a backlog.
///
/// Values are written out before any lock is taken: what users write for that may log.
struct LogLayer {
    /// Of which spans the ends are told.
    ends: Targets,
    backlog: Arc<Backlog>,
}

/// What is known of a span that is open.
struct OpenSpan {
    fields: Fields,
    since: Instant,
}

impl<S> Layer<S> for LogLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, ctx: Context<'_, S>) {
        let mut values = Values::within(MOST_OF_SPAN);
        attributes.record(&mut values);
        if let Some(span) = ctx.span(id) {
            let fields = values.into_fields();
            span.extensions_mut().replace(OpenSpan { fields, since: Instant::now() });
        }
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, ctx: Context<'_, S>) {
        let mut values = Values::within(MOST_OF_SPAN);
        record.record(&mut values);
        if let Some(span) = ctx.span(id)
            && let Some(open) = span.extensions_mut().get_mut::<OpenSpan>()
        {
            values.given.into_iter().for_each(|(name, value)| open.fields.set(name, value));
        }
    }

    fn on_event(&self, event: &Event<'_>, ctx: Context<'_, S>) {
        let scope = ctx.event_span(event);
        if let Some(forwarded) = forward::forwarded(event.metadata()) {
            // It was logged in another process: here it is passed on as it was there.
            let (mut spans, mut callers) = surroundings(scope);
            spans.extend(forwarded.spans);
            if !forwarded.callers.is_empty() {
                callers = forwarded.callers;
            }
            return self.backlog.add(LogRecord { spans, callers, ..forwarded });
        }
        let mut values = Values::within(MOST_OF_EVENT);
        event.record(&mut values);
        let message = values.take_message();
        self.backlog.add(record(event.metadata(), message, values.into_fields(), scope));
    }

    fn on_close(&self, id: Id, ctx: Context<'_, S>) {
        let Some(span) = ctx.span(&id) else { return };
        let metadata = span.metadata();
        if !self.ends.would_enable(metadata.target(), &Level::TRACE) {
            return;
        }
        let lasted = span.extensions().get::<OpenSpan>().map(|it| it.since.elapsed());
        let Some(lasted) = lasted else { return };
        let message = format!("{} has ended after {lasted:?}", metadata.name());
        let record = record(metadata, message, Fields::default(), Some(span));
        self.backlog.add(LogRecord { level: Level::TRACE, lasted: Some(lasted), ..record });
    }
}

fn record<'a, R: LookupSpan<'a>>(
    metadata: &'static Metadata<'static>,
    message: String,
    fields: Fields,
    scope: Option<SpanRef<'a, R>>,
) -> LogRecord {
    let (spans, callers) = surroundings(scope);
    LogRecord {
        time: SystemTime::now(),
        level: *metadata.level(),
        target: metadata.target().into(),
        message,
        fields,
        file: metadata.file().map(Into::into),
        line: metadata.line(),
        spans,
        lasted: None,
        worker: None,
        process: process(),
        callers,
    }
}

/// Returns the spans around something, outermost first, and those of its callers.
fn surroundings<'a, R: LookupSpan<'a>>(
    innermost: Option<SpanRef<'a, R>>,
) -> (Vec<LogSpan>, Vec<SpanKey>) {
    let (mut spans, mut callers) = (Vec::new(), None);
    for span in innermost.iter().flat_map(SpanRef::scope) {
        let extensions = span.extensions();
        if callers.is_none() {
            callers = extensions.get::<Inherited>().map(|it| it.0.clone());
        }
        if spans.len() < MOST_SPANS
            && let Some(open) = extensions.get::<OpenSpan>()
        {
            spans.push(LogSpan { name: span.name().into(), fields: open.fields.clone() });
        }
    }
    spans.reverse();
    // A call whose own span is not wanted has callers nevertheless.
    let callers = callers.unwrap_or_else(Callers::here);
    (spans, callers.keys().to_vec())
}

/// Writes values out.
struct Values {
    text: Text,
    given: Vec<(&'static str, String)>,
}

impl Values {
    fn within(bytes: usize) -> Self {
        Self { text: Text::within(bytes), given: Vec::new() }
    }

    fn take_message(&mut self) -> String {
        let at = self.given.iter().position(|it| it.0 == "message");
        at.map(|it| self.given.remove(it).1).unwrap_or_default()
    }

    fn into_fields(self) -> Fields {
        Fields(self.given.into_iter().map(|(name, value)| (name.into(), value)).collect())
    }

    fn add(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        // A field `r#type` is called `type`.
        let name = field.name();
        let name = name.strip_prefix("r#").unwrap_or(name);
        let value = self.text.of(value);
        self.given.push((name, value));
    }
}

impl Visit for Values {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, format_args!("{value}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        // With all its causes.
        self.add(field, format_args!("{}", AnyError::of(value)));
    }
}

#[cfg(test)]
mod tests {
    use tracing::{Level, info};

    use super::super::record::LogItem;
    use super::*;

    /// Returns the first record that this closure logs.
    fn first(log: impl FnOnce()) -> LogRecord {
        let backlog = Arc::new(Backlog::default());
        let (wanted, _) = targets("debug");
        let subscriber = Registry::default().with(of(wanted, backlog.clone()));
        subscriber::with_default(subscriber, log);
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        match backlog.follow().poll_next(&mut cx) {
            std::task::Poll::Ready(LogItem::Record(record)) => *record,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn default_filter_keeps_info_level() {
        for directives in ["", " , ", "loud=very"] {
            let (targets, _) = targets(directives);

            assert!(targets.would_enable("any", &Level::INFO), "{directives:?}");
            assert!(!targets.would_enable("any", &Level::DEBUG), "{directives:?}");
        }
    }

    #[test]
    fn directives_filter_by_target_and_level() {
        let (targets, wrong) = targets("warn,app=debug, app::quiet=off,other=so,app::loud");

        let kept = [
            ("other", Level::WARN, true),
            ("other", Level::INFO, false),
            ("app::parse", Level::DEBUG, true),
            ("app::parse", Level::TRACE, false),
            ("app::quiet", Level::ERROR, false),
            ("app::loud", Level::TRACE, true),
        ];
        for (target, level, expected) in kept {
            assert_eq!(targets.would_enable(target, &level), expected, "{target} {level}");
        }
        assert_eq!(wrong.iter().map(|it| it.0).collect::<Vec<_>>(), ["other=so"]);
    }

    #[test]
    fn field_values_are_recorded_as_text() {
        let error = std::io::Error::other("no disk");
        let error: &(dyn std::error::Error + 'static) = &error;

        let record =
            first(|| info!(number = -7, text = "a", debug = ?"a", error, r#type = true, "done"));

        assert_eq!(record.message(), "done");
        let fields = record.fields();
        let expected = [
            ("number", "-7"),
            ("text", "a"),
            ("debug", "\"a\""),
            ("error", "no disk"),
            ("type", "true"),
        ];
        assert!(fields.eq(expected), "{record:?}");
    }

    #[test]
    fn long_event_is_truncated() {
        let long = "x".repeat(10 * MOST_OF_EVENT);

        let record = first(|| info!(long, other = 7, "{long}"));

        assert!(record.size() < MOST_OF_EVENT + 2048, "{}", record.size());
        let missing = format!(".. ({} bytes more)", 9 * MOST_OF_EVENT);
        let texts = [record.message(), record.field("long").expect("it has one")];
        assert!(texts.iter().any(|it| it.ends_with(&missing)), "{texts:?}");
        assert_eq!(record.field("other"), Some(".. (1 bytes more)"));
    }

    #[test]
    fn excess_spans_keep_innermost() {
        let record = first(|| {
            let spans = (0..100).map(|number| tracing::info_span!("one", number).entered());
            let mut spans: Vec<_> = spans.collect();
            info!("deep");
            while spans.pop().is_some() {}
        });

        let numbers: Vec<_> = record.spans().iter().filter_map(|it| it.field("number")).collect();
        assert_eq!(numbers.len(), MOST_SPANS);
        assert_eq!(numbers.last(), Some(&"99"));
    }
}
