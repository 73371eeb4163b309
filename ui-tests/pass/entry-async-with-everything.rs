const THREADS: usize = 2;

/// Starts.
#[rpc_parallel::entry(
    flavor = "multi_thread",
    threads = THREADS + 1,
    worker(flavor = "current_thread"),
    max_message_size = 1 << 20,
)]
#[allow(clippy::unused_async)]
async fn main(args: Vec<String>) -> Result<(), Box<dyn std::error::Error>> {
    let name = args.first().ok_or("no name")?;
    println!("{name}");
    Ok(())
}
