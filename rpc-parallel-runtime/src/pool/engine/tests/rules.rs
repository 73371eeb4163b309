//! The rules of the engine, one by one.

mod batches;
mod deaths;
mod reports;
mod speculation;
mod take_back;
mod verdict;
mod window;
