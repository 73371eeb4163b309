#[rpc_parallel::entry]
async fn start() {}

fn main() {
    let _ = start();
}
