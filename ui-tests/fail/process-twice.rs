#[rpc_parallel::process]
#[rpc_parallel::process(id = "square")]
fn square(x: u64) -> u64 {
    x * x
}

fn main() {
    drop(square::run(square(2)));
}
