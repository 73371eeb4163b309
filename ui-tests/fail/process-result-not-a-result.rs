#[rpc_parallel::process(result)]
fn square(x: u64) -> u64 {
    x * x
}

fn main() {
    drop(square::run(2));
}
