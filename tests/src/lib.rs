//! What the tests have in common: worker types in a crate of their own, and what a test asks of
//! the system.

pub mod golden;
#[cfg_attr(not(feature = "shuffled"), path = "shuffled/in_order.rs")]
#[cfg_attr(feature = "shuffled", path = "shuffled/out_of_order.rs")]
pub mod shuffled;
pub mod elsewhere;
pub mod process;
pub mod waiting;
pub mod exit_codes;
pub mod failures;
pub mod mortal;
pub mod cgroup;
pub mod gate;
pub mod program;
pub mod family;
pub mod build;

#[cfg(test)]
mod tests {
    use rpc_parallel::prelude::*;

    use super::elsewhere::Distant;

    #[rpc_parallel::test]
    async fn a_unit_test_of_a_library_starts_workers() {
        let distant = Distant::spawn(()).await.expect("start a worker");

        assert_eq!(distant.distance_to(&[3, 4]).await, Ok(5));
    }
}
