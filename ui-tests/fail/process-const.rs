#[rpc_parallel::process]
const fn square(x: u64) -> u64 {
    x * x
}

fn main() {
    drop(square::run(square(2)));
}
