#[rpc_parallel::process]
fn square(x: Self) -> u64 {
    x * x
}

fn main() {}
