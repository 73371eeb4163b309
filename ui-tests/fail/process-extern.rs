#[rpc_parallel::process]
extern "C" fn square(x: u64) -> u64 {
    x * x
}

fn main() {
    drop(square::run(square(2)));
}
