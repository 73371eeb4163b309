use rpc_parallel::Pipe;

#[rpc_parallel::process]
fn numbers(count: u64) -> Pipe<u64> {
    Pipe::from_items(0..count)
}

fn main() {
    drop(numbers::start(3));
}
