#[rpc_parallel::test]
async fn it_works(name: &str) {
    drop(name);
}

fn main() {}
