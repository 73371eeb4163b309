#[rpc_parallel::entry]
struct Main;

fn main() {}
