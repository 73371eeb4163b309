//! An attribute above `#[entry]` makes `main` a sync function that starts its own runtime.

#[tokio::main(flavor = "current_thread")]
#[rpc_parallel::entry]
async fn main() {}
