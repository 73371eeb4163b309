//! The messages of a map between its master and one worker. Each is one element of a pipe.
//!
//! ```text
//! order    batch:     items.. id:8 start:4 end:4 attempt:1 flags:1 tag:1
//!          take back: most:4 tag:1
//! report   results.. records.. records:4
//! record   tag:1 batch:8 from:4 to:4 value:8
//! ```
//!
//! All numbers are little-endian. The fixed part is at the end, so that the items of a batch and the
//! results of a report are encoded in place, and sliced off without a copy.

use bytes::Bytes;

/// What the master sends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Order {
    /// Run the function on these items.
    Batch(Batch),
    /// Give back up to this number of items that have not begun, from the end of the queue.
    TakeBack { most: u32 },
}

/// Items that a worker shall run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Batch {
    /// Identifies the batch among those of one map.
    pub(crate) id: u64,
    /// The first item to run, counted from the beginning of `items`.
    pub(crate) start: u32,
    /// The item after the last one to run.
    pub(crate) end: u32,
    /// The number of workers that have died while they ran the first item.
    pub(crate) attempt: u8,
    /// Whether each result is written before the next item begins.
    pub(crate) careful: bool,
    /// The encoded items. Those before `start` and from `end` on are skipped.
    pub(crate) items: Bytes,
}

const BATCH: u8 = 1;
const TAKE_BACK: u8 = 2;
const CAREFUL: u8 = 1;
/// The length of what follows the items of a batch.
const BATCH_LEN: usize = 8 + 4 + 4 + 1 + 1 + 1;

/// A message of another length or tag than expected.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("malformed message of a map, {len} bytes long")]
pub(crate) struct MalformedItems {
    len: usize,
}

impl MalformedItems {
    pub(super) fn of(len: usize) -> Self {
        Self { len }
    }
}

impl Order {
    /// Appends what follows the encoded items, so that `message` becomes a batch.
    pub(crate) fn finish_batch(batch: &Batch, message: &mut Vec<u8>) {
        message.extend_from_slice(&batch.id.to_le_bytes());
        message.extend_from_slice(&batch.start.to_le_bytes());
        message.extend_from_slice(&batch.end.to_le_bytes());
        let flags = if batch.careful { CAREFUL } else { 0 };
        message.extend_from_slice(&[batch.attempt, flags, BATCH]);
    }

    /// Encodes the order.
    pub(crate) fn encode(&self) -> Bytes {
        match self {
            Self::Batch(batch) => {
                let mut message = Vec::with_capacity(batch.items.len() + BATCH_LEN);
                message.extend_from_slice(&batch.items);
                Self::finish_batch(batch, &mut message);
                message.into()
            }
            Self::TakeBack { most } => {
                let [a, b, c, d] = most.to_le_bytes();
                Bytes::copy_from_slice(&[a, b, c, d, TAKE_BACK])
            }
        }
    }

    /// Decodes an order.
    pub(crate) fn decode(mut message: Bytes) -> Result<Self, MalformedItems> {
        let malformed = MalformedItems { len: message.len() };
        match message.last() {
            Some(&TAKE_BACK) if message.len() == 5 => {
                Ok(Self::TakeBack { most: u32_at(&message, 0) })
            }
            Some(&BATCH) if message.len() >= BATCH_LEN => {
                let tail = message.split_off(message.len() - BATCH_LEN);
                let (start, end) = (u32_at(&tail, 8), u32_at(&tail, 12));
                if start > end {
                    return Err(malformed);
                }
                Ok(Self::Batch(Batch {
                    id: u64_at(&tail, 0),
                    start,
                    end,
                    attempt: tail[16],
                    careful: tail[17] & CAREFUL != 0,
                    items: message,
                }))
            }
            _ => Err(malformed),
        }
    }
}

/// What a worker sends: results, and what else has happened, in the order in which it happened.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Report {
    /// The encoded results and failures, in the order of the records.
    pub(crate) results: Bytes,
    pub(crate) records: Vec<Record>,
}

/// One event of a worker. `len` is the number of bytes in [`Report::results`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Record {
    /// The results of the items `from..to` of a batch. In a reduction they are one accumulator.
    Results { batch: u64, from: u32, to: u32, len: u64 },
    /// The function returned an error for an item, which is encoded like a result.
    Failed { batch: u64, item: u32, len: u64 },
    /// An item has no result: it could not be decoded, its result could not be encoded, or the
    /// function panicked. The bytes are an encoded [`Refusal`](crate::wire::Refusal).
    Refused { batch: u64, item: u32, len: u64 },
    /// The items `from..to` were given back: they have not begun, and will not.
    GivenBack { batch: u64, from: u32, to: u32 },
    /// All `GivenBack` records of one [`Order::TakeBack`] have been sent.
    TakenBack,
    /// The items of a batch that were not given back are done. `nanos` is the time they took.
    Finished { batch: u64, items: u32, nanos: u64 },
    /// An item has run for longer than the timeout of the map.
    Overdue { batch: u64, item: u32 },
    /// The worker is running an item, and has nothing else to send.
    Alive,
    /// An item of a careful batch begins when this record has left the process.
    Begun { batch: u64, item: u32 },
}

const RESULTS: u8 = 1;
const FAILED: u8 = 2;
const REFUSED: u8 = 3;
const GIVEN_BACK: u8 = 4;
const TAKEN_BACK: u8 = 5;
const FINISHED: u8 = 6;
const OVERDUE: u8 = 7;
const ALIVE: u8 = 8;
const BEGUN: u8 = 9;
/// The length of an encoded record, in bytes.
pub(super) const RECORD_LEN: usize = 1 + 8 + 4 + 4 + 8;

impl Record {
    fn write(self, message: &mut Vec<u8>) {
        let (tag, batch, from, to, value) = match self {
            Self::Results { batch, from, to, len } => (RESULTS, batch, from, to, len),
            Self::Failed { batch, item, len } => (FAILED, batch, item, 0, len),
            Self::Refused { batch, item, len } => (REFUSED, batch, item, 0, len),
            Self::GivenBack { batch, from, to } => (GIVEN_BACK, batch, from, to, 0),
            Self::TakenBack => (TAKEN_BACK, 0, 0, 0, 0),
            Self::Finished { batch, items, nanos } => (FINISHED, batch, items, 0, nanos),
            Self::Overdue { batch, item } => (OVERDUE, batch, item, 0, 0),
            Self::Alive => (ALIVE, 0, 0, 0, 0),
            Self::Begun { batch, item } => (BEGUN, batch, item, 0, 0),
        };
        message.push(tag);
        message.extend_from_slice(&batch.to_le_bytes());
        message.extend_from_slice(&from.to_le_bytes());
        message.extend_from_slice(&to.to_le_bytes());
        message.extend_from_slice(&value.to_le_bytes());
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (batch, from, to) = (u64_at(bytes, 1), u32_at(bytes, 9), u32_at(bytes, 13));
        let value = u64_at(bytes, 17);
        Some(match bytes[0] {
            RESULTS if from < to => Self::Results { batch, from, to, len: value },
            FAILED => Self::Failed { batch, item: from, len: value },
            REFUSED => Self::Refused { batch, item: from, len: value },
            GIVEN_BACK if from < to => Self::GivenBack { batch, from, to },
            TAKEN_BACK => Self::TakenBack,
            FINISHED => Self::Finished { batch, items: from, nanos: value },
            OVERDUE => Self::Overdue { batch, item: from },
            ALIVE => Self::Alive,
            BEGUN => Self::Begun { batch, item: from },
            _ => return None,
        })
    }

    fn len(self) -> u64 {
        match self {
            Self::Results { len, .. } | Self::Failed { len, .. } | Self::Refused { len, .. } => len,
            _ => 0,
        }
    }
}

impl Report {
    /// Appends the records to the results that `message` holds, so that it becomes a report.
    pub(crate) fn finish(records: &[Record], message: &mut Vec<u8>) {
        message.reserve(records.len() * RECORD_LEN + 4);
        records.iter().for_each(|it| it.write(message));
        let len = u32::try_from(records.len()).expect("a report has few records");
        message.extend_from_slice(&len.to_le_bytes());
    }

    /// Decodes a report. The lengths of its records add up to the length of its results.
    pub(crate) fn decode(mut message: Bytes) -> Result<Self, MalformedItems> {
        let malformed = MalformedItems { len: message.len() };
        let Some(records_end) = message.len().checked_sub(4) else { return Err(malformed) };
        let count = u32_at(&message, records_end) as usize;
        let records_len = count.checked_mul(RECORD_LEN).ok_or(malformed)?;
        let records_start = records_end.checked_sub(records_len).ok_or(malformed)?;
        let tail = message.split_off(records_start);
        let records: Option<Vec<_>> =
            tail[..records_len].chunks_exact(RECORD_LEN).map(Record::read).collect();
        let records = records.ok_or(malformed)?;
        let len = records.iter().try_fold(0_u64, |sum, it| sum.checked_add(it.len()));
        if len != Some(message.len() as u64) {
            return Err(malformed);
        }
        Ok(Self { results: message, records })
    }
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |it| u64::from_le_bytes(*it))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |it| u32::from_le_bytes(*it))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_record() -> impl Strategy<Value = Record> {
        let range = (any::<u32>(), 1..100_u32).prop_map(|(from, len)| {
            let from = from.min(u32::MAX - len);
            (from, from + len)
        });
        (0..9_u8, any::<u64>(), range, 0..50_u64, any::<u64>()).prop_map(
            |(kind, batch, (from, to), len, nanos)| match kind {
                0 => Record::Results { batch, from, to, len },
                1 => Record::Failed { batch, item: from, len },
                2 => Record::Refused { batch, item: from, len },
                3 => Record::GivenBack { batch, from, to },
                4 => Record::TakenBack,
                5 => Record::Finished { batch, items: from, nanos },
                6 => Record::Overdue { batch, item: from },
                7 => Record::Begun { batch, item: from },
                _ => Record::Alive,
            },
        )
    }

    proptest! {
        #[test]
        fn report_survives(records in prop::collection::vec(any_record(), 0..20)) {
            let len: u64 = records.iter().map(|it| it.len()).sum();
            let results: Vec<u8> = (0..len).map(|it| it as u8).collect();
            let mut message = results.clone();
            Report::finish(&records, &mut message);

            let report = Report::decode(message.into()).expect("it is well formed");

            prop_assert_eq!(report, Report { results: results.into(), records });
        }

        #[test]
        fn batch_survives(
            (id, start, len) in (any::<u64>(), 0..1000_u32, 0..1000_u32),
            (attempt, careful) in (any::<u8>(), any::<bool>()),
            items in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let end = start + len;
            let batch = Batch { id, start, end, attempt, careful, items: items.into() };
            let order = Order::Batch(batch);

            prop_assert_eq!(Order::decode(order.encode()), Ok(order));
        }

        #[test]
        fn random_bytes_are_decoded_or_refused(
            bytes in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let _ = Order::decode(bytes.clone().into());
            let _ = Report::decode(bytes.into());
        }
    }

    #[test]
    fn order_to_take_back_survives() {
        let order = Order::TakeBack { most: 7 };

        assert_eq!(Order::decode(order.encode()), Ok(order));
    }

    #[test]
    fn report_whose_results_are_shorter_than_announced_is_refused() {
        let mut message = vec![1, 2];
        Report::finish(&[Record::Results { batch: 1, from: 0, to: 1, len: 3 }], &mut message);

        assert_eq!(
            Report::decode(message.clone().into()),
            Err(MalformedItems { len: message.len() })
        );
    }
}
