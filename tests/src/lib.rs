//! Shared set-up of the tests: worker types, programs that tests start, and queries of the system.

pub mod golden;
#[cfg_attr(not(feature = "shuffled"), path = "shuffled/in_order.rs")]
#[cfg_attr(feature = "shuffled", path = "shuffled/out_of_order.rs")]
pub mod shuffled;
pub mod elsewhere;
pub mod process_functions;
pub mod process;
pub mod resources;
pub mod waiting;
pub mod exit_codes;
pub mod failures;
pub mod script;
pub mod fixture;
pub mod inspector;
pub mod node;
pub mod spawn_ok;
pub mod pools;
pub mod failure_scenario;
pub mod restarting;
pub mod shutdown_log;
pub mod cgroup;
pub mod gate;
pub mod first_plan;
pub mod program;
pub mod process_tree;
pub mod build;

#[cfg(test)]
mod tests {
    use super::fixture::Fixture;
    use super::spawn_ok::SpawnOk as _;

    #[rpc_parallel::test]
    async fn unit_test_of_library_starts_worker() {
        let fixture = Fixture::spawn_ok(()).await;

        assert_eq!(fixture.double(3).await, Ok(6));
    }
}
