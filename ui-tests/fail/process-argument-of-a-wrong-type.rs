#[rpc_parallel::process]
fn square(x: u64) -> u64 {
    x * x
}

fn main() {
    drop(square::run("1"));
}
