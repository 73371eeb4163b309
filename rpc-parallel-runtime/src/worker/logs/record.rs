//! The records of a worker's logs, as values that travel.

use std::borrow::Cow;
use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tracing::{Level, Span};

use crate::connection::find;
use crate::wire::{SpanKey, WorkerLabel};

/// An item of [`Logs`](super::Logs): a record, or the number of lost records.
///
/// `Display` writes one line.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum LogItem {
    /// A record of an event, or of the end of a span.
    Record(Box<LogRecord>),
    /// The number of records that are lost at this position. The worker dropped them before this
    /// reader received them, because the reader was too slow or began too late.
    Lagged(u64),
}

/// A record of a `tracing` event in a worker, or of the end of a span there.
///
/// `Display` writes one line: time (UTC), level, worker, spans, target, message and fields.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct LogRecord {
    pub(super) time: SystemTime,
    #[serde(with = "level")]
    pub(super) level: Level,
    pub(super) target: Cow<'static, str>,
    pub(super) message: String,
    pub(super) fields: Fields,
    pub(super) file: Option<Cow<'static, str>>,
    pub(super) line: Option<u32>,
    /// The spans of the worker around the event, outermost first.
    pub(super) spans: Vec<LogSpan>,
    /// The duration of the innermost span, if this is the record of its end.
    pub(super) lasted: Option<Duration>,
    /// The worker that logged the record. `None` means the worker whose logs are read.
    pub(super) worker: Option<WorkerLabel>,
    /// The random number of the process that logged the record.
    pub(super) process: u64,
    /// The spans in which the call was made that logged the record, innermost first.
    pub(super) callers: Vec<SpanKey>,
}

/// A span in which a record was logged.
///
/// `Display` writes its name and fields.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct LogSpan {
    pub(super) name: Cow<'static, str>,
    pub(super) fields: Fields,
}

/// The names and values of fields, in the order of their declarations.
#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize)]
pub(super) struct Fields(pub(super) Vec<(Cow<'static, str>, String)>);

impl Fields {
    fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|it| it.0 == name).map(|it| it.1)
    }

    /// Sets the value of a field, and replaces its previous value.
    pub(super) fn set(&mut self, name: &'static str, value: String) {
        match self.0.iter_mut().find(|it| it.0 == name) {
            Some(known) => known.1 = value,
            None => self.0.push((name.into(), value)),
        }
    }

    fn size(&self) -> usize {
        let one = |(name, value): &(Cow<'static, str>, String)| name.len() + value.len() + 48;
        self.0.iter().map(one).sum()
    }
}

impl LogRecord {
    /// Returns the time of the event, by the clock of the worker's host.
    #[must_use]
    pub fn time(&self) -> SystemTime {
        self.time
    }

    /// Returns the level of the event. The end of a span has the level `TRACE`.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level
    }

    /// Returns the target of the event. Default: the path of the module.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Returns the message of the event. It is empty if the event has none.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns the names and values of the event's fields, without the message.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter()
    }

    /// Returns the value of the event's field with this name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name)
    }

    /// Returns the path of the source file of the event, if it is known.
    #[must_use]
    pub fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }

    /// Returns the line in the source file, from 1, if it is known.
    #[must_use]
    pub fn line(&self) -> Option<u32> {
        self.line
    }

    /// Returns the spans of the worker around the event, outermost first, at most the innermost 32.
    ///
    /// The span of a call has the name `rpc_parallel::call`.
    #[must_use]
    pub fn spans(&self) -> &[LogSpan] {
        &self.spans
    }

    /// Returns the duration of the innermost span, if this is the record of its end and not of an
    /// event.
    ///
    /// The ends of spans are recorded for targets that have the level `trace` in `RUST_LOG`.
    #[must_use]
    pub fn lasted(&self) -> Option<Duration> {
        self.lasted
    }

    /// Returns the name, type, process id and host of the worker that logged the record.
    ///
    /// # Panics
    ///
    /// Panics if the record was not received from [`Logs`](super::Logs), for example if a program
    /// has deserialized it from bytes of its own.
    #[must_use]
    pub fn worker(&self) -> &WorkerLabel {
        self.worker.as_ref().expect("`Logs` sets the worker of every record")
    }

    /// Returns the span of this process in which it made the call that logged the record, directly
    /// or through other workers.
    ///
    /// While this process reads logs, the span is available during the call and for 2 s afterwards.
    /// Returns `None` after that. Also returns `None` if this process reads no logs, if the call
    /// was made in no span, and if another process made the call.
    #[must_use]
    pub fn caller(&self) -> Option<Span> {
        find(&self.callers)
    }

    /// Estimates the memory of the record, in bytes.
    pub(super) fn size(&self) -> usize {
        let spans: usize = self.spans.iter().map(|it| 64 + it.fields.size()).sum();
        size_of::<Self>() + self.message.len() + self.fields.size() + spans
    }

    /// Returns the short name and the process id of the worker: `name[pid]`.
    pub(super) fn worker_and_pid(&self) -> String {
        let Some(WorkerLabel { name, worker_type, pid, .. }) = &self.worker else {
            return String::new();
        };
        let name = name.as_deref().unwrap_or(worker_type);
        pid.map_or_else(|| name.to_owned(), |pid| format!("{name}[{pid}]"))
    }

    /// Formats the fields of the event; `None` if it has none.
    pub(super) fn shown_fields(&self) -> Option<String> {
        (!self.fields.0.is_empty()).then(|| Shown(&self.fields).to_string())
    }

    /// Formats the spans around the event, outermost first; `None` if there are none.
    pub(super) fn shown_spans(&self) -> Option<String> {
        let spans: Vec<_> = self.spans.iter().map(ToString::to_string).collect();
        (!spans.is_empty()).then(|| spans.join(":"))
    }
}

impl LogSpan {
    /// Returns the name of the span.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the names and values of the span's fields.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter()
    }

    /// Returns the value of the span's field with this name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name)
    }
}

/// Formats fields as `name=value`, in one line.
struct Shown<'a>(&'a Fields);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (name, value)) in self.0.iter().enumerate() {
            let space = if at > 0 { " " } else { "" };
            let plain = !value.is_empty() && !value.contains([' ', '=']);
            if plain && !value.contains(char::is_control) {
                write!(f, "{space}{name}={value}")?;
            } else {
                write!(f, "{space}{name}={value:?}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for LogSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if self.fields.0.is_empty() {
            return Ok(());
        }
        write!(f, "{{{}}}", Shown(&self.fields))
    }
}

impl fmt::Display for LogRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:>5} {} ", Utc(self.time), self.level.as_str(), self.worker_and_pid())?;
        if let Some(spans) = self.shown_spans() {
            write!(f, "{spans}: ")?;
        }
        write!(f, "{}:", self.target)?;
        if !self.message.is_empty() {
            f.write_str(" ")?;
            one_line(&self.message, f)?;
        }
        if let Some(fields) = self.shown_fields() {
            write!(f, " {fields}")?;
        }
        Ok(())
    }
}

impl fmt::Display for LogItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record(record) => record.fmt(f),
            Self::Lagged(1) => f.write_str("(1 record is lost)"),
            Self::Lagged(lost) => write!(f, "({lost} records are lost)"),
        }
    }
}

/// Writes a text with its control characters escaped, so that it stays in one line.
fn one_line(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for piece in text.split_inclusive(char::is_control) {
        match piece.char_indices().next_back() {
            Some((at, last)) if last.is_control() => {
                write!(f, "{}{}", &piece[..at], last.escape_default())?;
            }
            _ => f.write_str(piece)?,
        }
    }
    Ok(())
}

/// Formats a time as `2026-11-20T16:49:20.123456Z`.
struct Utc(SystemTime);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A time before 1970 comes from a clock that is not set.
        let since = self.0.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        let micros = since.subsec_micros();
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
    }
}

/// Converts a number of days since 1970-01-01 into a year, month and day.
fn civil(days: u64) -> (u64, u64, u64) {
    // Howard Hinnant's `civil_from_days`: a year begins in March, and an era has 400 years.
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (400 * era + year + u64::from(month <= 2), month, day)
}

/// Serializes levels as numbers, from `ERROR` = 1 to `TRACE` = 5.
mod level {
    use serde::{Deserialize, Deserializer, Serializer, de};
    use tracing::Level;

    const LEVELS: [Level; 5] = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];

    pub(super) fn serialize<S: Serializer>(
        level: &Level,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let at = LEVELS.iter().position(|it| it == level).map_or(0, |it| it + 1);
        serializer.serialize_u8(u8::try_from(at).unwrap_or_default())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Level, D::Error> {
        let number = u8::deserialize(deserializer)?;
        let level = usize::from(number).checked_sub(1).and_then(|it| LEVELS.get(it));
        level.copied().ok_or_else(|| {
            de::Error::custom(format!("expected a level from 1 to 5, found {number}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::{Body, Decoder, codec};

    fn record() -> LogRecord {
        let fields = |it: &[(&'static str, &str)]| {
            Fields(it.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect())
        };
        let span = |name: &'static str, of: &[(&'static str, &str)]| LogSpan {
            name: name.into(),
            fields: fields(of),
        };
        let worker_type = "app::Counter".to_owned();
        let (name, host) = (Some("one".to_owned()), "here".to_owned());
        LogRecord {
            time: SystemTime::UNIX_EPOCH + Duration::from_micros(1_795_193_360_123_456),
            level: Level::INFO,
            target: "app::count".into(),
            message: "counted\nall".into(),
            fields: fields(&[("words", "12"), ("file", "a b"), ("none", "")]),
            file: Some("src/main.rs".into()),
            line: Some(7),
            spans: vec![span("call", &[("function", "Count::count")]), span("inner", &[])],
            lasted: None,
            worker: Some(WorkerLabel { name, worker_type, pid: Some(42), host }),
            process: 7,
            callers: vec![SpanKey { process: 1, span: 2 }],
        }
    }

    #[test]
    fn record_prints_as_one_line() {
        let line = record().to_string();

        let expected = "2026-11-20T16:49:20.123456Z  INFO one[42] \
                        call{function=Count::count}:inner: \
                        app::count: counted\\nall words=12 file=\"a b\" none=\"\"";
        assert_eq!(line, expected);
    }

    #[test]
    fn record_survives_encoding_and_decoding() {
        let codec = codec::<LogItem>();
        let levels = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];
        let items = levels.map(|level| LogItem::Record(Box::new(LogRecord { level, ..record() })));

        for item in items.into_iter().chain([LogItem::Lagged(u64::MAX)]) {
            let mut bytes = Vec::new();
            let encoded = (codec.encode)(&item, &mut crate::wire::Sink::new(&mut bytes, 10_000));

            encoded.expect("it is a plain value");
            let mut decoder = Decoder::new(Body::of(&bytes));
            assert_eq!((codec.decode)(&mut decoder).expect("it was encoded by us"), item);
        }
    }

    #[test]
    fn day_numbers_convert_to_dates() {
        let dates = [0, 59, 60, 19_782, 20_777, 47_540].map(civil);

        let expected = [
            (1970, 1, 1),
            (1970, 3, 1),
            (1970, 3, 2),
            (2024, 2, 29),
            (2026, 11, 20),
            (2100, 2, 28),
        ];
        assert_eq!(dates, expected);
    }

    proptest! {
        #[test]
        fn line_breaks_in_message_are_escaped(message in any::<String>()) {
            let line = LogRecord { message, ..record() }.to_string();

            prop_assert!(!line.contains(char::is_control), "{line:?}");
        }
    }
}
