//! Tests of the engine: its rules one by one, random interleavings against a model, and simulated
//! maps with up to 10,000 workers.

mod fixture;
mod rules;
mod fake_worker;
mod model;
mod load;
mod simulation;
