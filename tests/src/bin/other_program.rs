//! A client of functions with fixed ids that shares no worker type with the tests:
//! `other_program ADDRESS price|misread`, with the address as JSON.

use rpc_parallel::error::ConnectErrorKind;
use rpc_parallel::expert::WorkerAddress;
use rpc_parallel::prelude::*;

/// The same fields as in the worker's program.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Quote {
    name: String,
    cents: u64,
}

#[rpc_parallel::worker]
trait Prices {
    #[worker(id = "quotes.v2")]
    async fn price(&self, of: String) -> Option<Quote>;
    #[worker(id = "quotes.watch.v1")]
    async fn follow(&self, of: &str) -> (u64, Pipe<Quote>);
}

/// The same id with another type of argument.
#[rpc_parallel::worker]
trait Misread {
    #[worker(id = "quotes.v2")]
    async fn price(&self, of: u64) -> Option<Quote>;
}

#[rpc_parallel::entry]
async fn main(args: Vec<String>) -> anyhow::Result<()> {
    let [_, address, mode] = &args[..] else { anyhow::bail!("usage: other_program ADDRESS MODE") };
    let address: WorkerAddress = serde_json::from_str(address)?;
    if mode == "misread" {
        let refused = address.connect::<MisreadClient>(()).await.map(drop);
        return print_error(&refused.expect_err("the types differ"));
    }
    let prices: PricesClient = match address.connect(()).await {
        Ok(prices) => prices,
        Err(error) => return print_error(&error),
    };
    println!("{:?}", prices.price("tea".into()).await?);
    let (cents, mut later) = prices.follow("tea").await?;
    println!("{cents}");
    while let Some(quote) = later.next().await {
        println!("{:?}", quote?);
    }
    Ok(())
}

fn print_error(error: &rpc_parallel::ConnectError) -> anyhow::Result<()> {
    let kind = match error.kind() {
        ConnectErrorKind::OtherTypes { .. } => "other types",
        ConnectErrorKind::OtherBuild { .. } => "other build",
        _ => "something else",
    };
    println!("{kind}: {error}");
    Ok(())
}
