//! The items of a map, in the process of a worker: batches in, results out.

mod message;

pub(crate) use self::message::{Batch, MalformedItems, Order, Record, Report};
