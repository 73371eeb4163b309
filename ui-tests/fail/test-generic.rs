#[rpc_parallel::test]
async fn it_works<T>() {}

fn main() {}
