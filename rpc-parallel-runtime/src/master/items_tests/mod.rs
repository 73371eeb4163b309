//! The items of maps in real worker processes: sessions that a test leads order by order.

mod items_worker;
mod fixture;
mod results;
mod batches;
mod concurrency;
mod reductions;
mod session_ends;
