#[rpc_parallel::process]
struct Square;

fn main() {
    let _ = Square;
}
