//! What workers log, in the log of their master: in the spans in which it calls them.
//!
//! ```sh
//! cargo run --example logs --features tracing
//! ```

use rpc_parallel::logs::{Forwarding, LogItem, forward};
use rpc_parallel::prelude::*;
use tracing::{Instrument, info, info_span, warn};

/// Makes bread.
#[rpc_parallel::worker]
pub trait Bakery {
    /// Bakes so many loaves.
    async fn bake(&self, loaves: u32) -> Result<u32, AnyError>;
}

/// Makes flour.
#[rpc_parallel::worker]
pub trait Mill {
    /// Grinds this much grain, in kilograms.
    async fn grind(&self, grain: u32) -> u32;
}

/// A baker has a miller, in a process of its own.
struct Baker {
    miller: MillClient,
    logs: Forwarding,
}

#[derive(Default, WorkerState)]
struct Miller;

impl WorkerState for Baker {
    type Init = ();

    async fn init((): ()) -> Result<Self, BoxError> {
        // What `init` logs is kept for those who ask later.
        info!(degrees = 240, "heats the oven");
        let miller = Miller::spawner().name("miller").spawn(()).await?;
        // Line by line the miller's log becomes part of the baker's, and so of the master's.
        let logs = forward(&miller).await?;
        Ok(Self { miller, logs })
    }
}

#[rpc_parallel::worker]
impl Bakery for Baker {
    async fn bake(&self, loaves: u32) -> Result<u32, AnyError> {
        let flour = self.miller.grind(loaves).instrument(info_span!("ordering")).await?;
        // Logs may come later than an answer; here they come first.
        self.logs.flush().await;
        if flour < loaves {
            warn!(flour, "bakes less than was asked for");
        }
        info!(loaves = flour, "bakes");
        Ok(flour)
    }
}

#[rpc_parallel::worker]
impl Mill for Miller {
    async fn grind(&self, grain: u32) -> u32 {
        let flour = grain * 3 / 4;
        info!(grain, flour, "grinds");
        flour
    }
}

#[rpc_parallel::entry(worker_logs = true)]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stdout).init();
    let baker = Baker::spawner().name("baker").spawn(()).await?;

    // One line: what the baker logs is logged here as well, and what it has logged already.
    let forwarding = forward(&baker).await?;

    for customer in ["Ann", "Bob"] {
        let order = async {
            info!("orders bread");
            baker.bake(4).await
        };
        order.instrument(info_span!("order", customer)).await?;
    }

    // What is still on its way when the program ends would be lost.
    forwarding.flush().await;

    // Whoever wants to can read the log itself, in any process: nothing of it is gone.
    let mut logs = baker.logs().await?;
    while let Some(item) = logs.next().await {
        match item? {
            LogItem::Record(record) if record.message() == "bakes" => {
                println!("\n{record}");
                break;
            }
            LogItem::Record(_) => {}
            lagged @ LogItem::Lagged(_) => println!("{lagged}"),
        }
    }
    Ok(())
}
