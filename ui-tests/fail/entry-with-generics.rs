#[rpc_parallel::entry]
async fn main<T: Send>(args: Vec<T>) {
    drop(args);
}
