//! The sum of a million squares, on all cores.

#[rpc_parallel::process]
fn square(x: u64) -> u64 {
    x * x
}

#[rpc_parallel::entry]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("{}", square::map(0..1_000_000).sum::<u64>().await?);
    Ok(())
}
