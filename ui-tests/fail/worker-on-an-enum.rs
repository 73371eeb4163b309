#[rpc_parallel::worker]
pub enum Operation {
    Add,
}

fn main() {}
