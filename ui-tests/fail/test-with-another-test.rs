#[rpc_parallel::test]
#[test]
fn it_works() {}

#[rpc_parallel::test]
#[tokio::test]
async fn it_works_too() {}

fn main() {}
