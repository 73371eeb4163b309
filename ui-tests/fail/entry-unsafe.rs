#[rpc_parallel::entry]
unsafe fn main() {}
