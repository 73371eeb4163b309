//! A `tracing` layer that creates log records of the events of this process.

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
use super::forwarded::take_forwarded;
use super::record::{Fields, LogRecord, LogSpan};
use super::text::Text;
use crate::connection::{AnyError, Callers, Inherited, diagnose, process};
use crate::wire::SpanKey;

/// The limit of the values of an event, in bytes of text.
const MAX_EVENT_TEXT: usize = 16 * 1024;

/// The limit of the values of a span, in bytes of text.
const MAX_SPAN_TEXT: usize = 2 * 1024;

/// The largest number of spans of a record. The innermost spans are kept.
const MAX_SPANS: usize = 32;

/// Returns a `tracing` layer that keeps the logs of this process, for
/// [`logs`](crate::Control::logs) of its workers.
///
/// It is for programs whose workers install a subscriber of their own. If the program sets
/// [`worker_logs`](crate::MasterBuilder::worker_logs), its workers install a subscriber that
/// consists of this layer.
///
/// The environment variable `RUST_LOG` selects the events to keep, for example
/// `info,app::parse=debug`. Default: `info`. For targets with the level `trace`, the ends of spans
/// are kept too. Other layers of the subscriber are not affected. A directive that cannot be parsed
/// is ignored, and reported on stderr.
///
/// The layer keeps the latest 1024 records, or 512 KiB of records. It truncates the values of an
/// event to 16 KiB, and those of a span to 2 KiB.
///
/// ```
/// # use rpc_parallel_runtime as rpc_parallel;
/// use tracing_subscriber::prelude::*;
///
/// tracing_subscriber::registry()
///     .with(rpc_parallel::logs::layer()) // for `logs()` and `logs::forward()`
///     // .with(tracing_subscriber::fmt::layer()) // for stderr
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
        diagnose(format_args!("workers' logs ignore `{directive}` in `RUST_LOG`: {why}"));
    }
    of(targets, Backlog::get().clone())
}

/// Whether this process has created a layer that keeps its logs.
static IS_KEPT: AtomicBool = AtomicBool::new(false);

/// Installs a subscriber that keeps the logs of this process, unless it has a subscriber already.
pub(crate) fn install() {
    let _ = subscriber::set_global_default(Registry::default().with(layer()));
}

/// Adds a warning to the logs of this process, once, if no layer keeps its logs. Without the
/// warning, a reader would wait forever for records.
pub(super) fn warn_unless_kept() {
    static WARNED: Once = Once::new();
    if IS_KEPT.load(Ordering::Relaxed) {
        return;
    }
    WARNED.call_once(|| {
        let message = "this process keeps no logs: set `worker_logs = true` in its program, or \
                       add `rpc_parallel::logs::layer()` to its `tracing` subscriber";
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

/// Parses the directives of `RUST_LOG`. Returns those that cannot be parsed, with the reasons.
fn targets(directives: &str) -> (Targets, Vec<(&str, String)>) {
    let mut targets = Targets::new();
    let (mut parsed, mut wrong) = (0, Vec::new());
    for directive in directives.split(',').map(str::trim).filter(|it| !it.is_empty()) {
        match directive.parse::<Targets>() {
            Ok(it) => {
                targets = targets.with_targets(it.iter());
                if let Some(level) = it.default_level() {
                    targets = targets.with_default(level);
                }
                parsed += 1;
            }
            Err(error) => wrong.push((directive, error.to_string())),
        }
    }
    if parsed == 0 {
        targets = targets.with_default(LevelFilter::INFO);
    }
    (targets, wrong)
}

/// Creates records and adds them to a backlog.
///
/// Values are formatted before a lock is taken, because users' `Debug` implementations may log.
struct LogLayer {
    /// The filter of the spans whose ends are recorded.
    ends: Targets,
    backlog: Arc<Backlog>,
}

/// The fields and the start of an open span.
struct OpenSpan {
    fields: Fields,
    since: Instant,
}

impl<S> Layer<S> for LogLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, ctx: Context<'_, S>) {
        let mut values = Values::within(MAX_SPAN_TEXT);
        attributes.record(&mut values);
        if let Some(span) = ctx.span(id) {
            let fields = values.into_fields();
            span.extensions_mut().replace(OpenSpan { fields, since: Instant::now() });
        }
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, ctx: Context<'_, S>) {
        let mut values = Values::within(MAX_SPAN_TEXT);
        record.record(&mut values);
        if let Some(span) = ctx.span(id)
            && let Some(open) = span.extensions_mut().get_mut::<OpenSpan>()
        {
            values.given.into_iter().for_each(|(name, value)| open.fields.set(name, value));
        }
    }

    fn on_event(&self, event: &Event<'_>, ctx: Context<'_, S>) {
        let scope = ctx.event_span(event);
        if let Some(forwarded) = take_forwarded(event.metadata()) {
            // The record of another process is kept as it is, inside the spans of this process.
            let (mut spans, mut callers) = surroundings(scope);
            spans.extend(forwarded.spans);
            if !forwarded.callers.is_empty() {
                callers = forwarded.callers;
            }
            return self.backlog.add(LogRecord { spans, callers, ..forwarded });
        }
        let mut values = Values::within(MAX_EVENT_TEXT);
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

/// Returns the spans around an event or span, outermost first, and the span keys of its callers.
fn surroundings<'a, R: LookupSpan<'a>>(
    innermost: Option<SpanRef<'a, R>>,
) -> (Vec<LogSpan>, Vec<SpanKey>) {
    let (mut spans, mut callers) = (Vec::new(), None);
    for span in innermost.iter().flat_map(SpanRef::scope) {
        let extensions = span.extensions();
        if callers.is_none() {
            callers = extensions.get::<Inherited>().map(|it| it.0.clone());
        }
        if spans.len() < MAX_SPANS
            && let Some(open) = extensions.get::<OpenSpan>()
        {
            spans.push(LogSpan { name: span.name().into(), fields: open.fields.clone() });
        }
    }
    spans.reverse();
    // A call has callers even if its own span is disabled.
    let callers = callers.unwrap_or_else(Callers::here);
    (spans, callers.keys().to_vec())
}

/// Formats the values of an event or a span.
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
        // The name of a field `r#type` is `type`.
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
        // `AnyError` includes the sources.
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
        let long = "x".repeat(10 * MAX_EVENT_TEXT);

        let record = first(|| info!(long, other = 7, "{long}"));

        assert!(record.size() < MAX_EVENT_TEXT + 2048, "{}", record.size());
        let missing = format!(".. ({} bytes more)", 9 * MAX_EVENT_TEXT);
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
        assert_eq!(numbers.len(), MAX_SPANS);
        assert_eq!(numbers.last(), Some(&"99"));
    }
}
