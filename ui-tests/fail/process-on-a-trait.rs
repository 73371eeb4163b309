#[rpc_parallel::process]
trait Shape {
    fn area(side: u64) -> u64;
}

fn main() {}
