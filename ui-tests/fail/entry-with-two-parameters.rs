#[rpc_parallel::entry]
async fn main(count: usize, args: Vec<String>) -> Result<(), String> {
    args.get(count).map(|_| ()).ok_or_else(|| "too few".to_owned())
}
