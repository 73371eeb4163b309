#[rpc_parallel::entry]
async fn main(args: u64) {
    println!("{args}");
}
