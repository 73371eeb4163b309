#[rpc_parallel::test]
struct Works;

fn main() {}
