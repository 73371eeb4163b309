//! Knows no worker of the tests, only a protocol: `other_program ADDRESS price|misread`, with the
//! address as JSON.

use rpc_parallel::error::ConnectErrorKind;
use rpc_parallel::expert::WorkerAddress;
use rpc_parallel::prelude::*;

/// What those who wrote this program call a quote.
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

/// The protocol, misread.
#[rpc_parallel::worker]
trait Misread {
    #[worker(id = "quotes.v2")]
    async fn price(&self, of: u64) -> Option<Quote>;
}

#[rpc_parallel::entry]
async fn main(args: Vec<String>) -> anyhow::Result<()> {
    let [_, address, how] = &args[..] else { anyhow::bail!("two arguments, not {args:?}") };
    let address: WorkerAddress = serde_json::from_str(address)?;
    if how == "misread" {
        let refused = address.connect::<MisreadClient>(()).await.map(drop);
        return told(&refused.expect_err("it is another protocol"));
    }
    let prices: PricesClient = match address.connect(()).await {
        Ok(prices) => prices,
        Err(error) => return told(&error),
    };
    println!("{:?}", prices.price("tea".into()).await?);
    let (cents, mut later) = prices.follow("tea").await?;
    println!("{cents}");
    while let Some(quote) = later.next().await {
        println!("{:?}", quote?);
    }
    Ok(())
}

fn told(error: &rpc_parallel::ConnectError) -> anyhow::Result<()> {
    let kind = match error.kind() {
        ConnectErrorKind::OtherTypes { .. } => "other types",
        ConnectErrorKind::OtherBuild { .. } => "other build",
        _ => "something else",
    };
    println!("{kind}: {error}");
    Ok(())
}
