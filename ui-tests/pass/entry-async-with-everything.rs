use rpc_parallel::Settings;

const THREADS: usize = 2;

/// Starts.
#[rpc_parallel::entry(
    flavor = "multi_thread",
    threads = THREADS + 1,
    worker(flavor = "current_thread"),
    settings = Settings::default().with_max_message_size(1 << 20).with_stream_window(1 << 10),
    worker_logs = false,
)]
#[allow(clippy::unused_async)]
async fn main(args: Vec<String>) -> Result<(), Box<dyn std::error::Error>> {
    let name = args.first().ok_or("no name")?;
    println!("{name}");
    Ok(())
}
