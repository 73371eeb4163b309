//! Many workers at once: pools, maps, and functions that run in processes of their own.

mod engine;
