fn load() -> u64 {
    7
}

#[rpc_parallel::entry(snapshot = load)]
async fn main() {}
