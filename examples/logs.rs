//! `tracing` events of workers in the log of their master, inside the spans of its calls.
//!
//! ```sh
//! cargo run --example logs --features tracing
//! ```

use rpc_parallel::logs::{Forwarding, LogItem, forward};
use rpc_parallel::prelude::*;
use tracing::{Instrument, info, info_span, warn};

/// The functions of a baker.
#[rpc_parallel::worker]
pub trait Bakery {
    /// Bakes `loaves` loaves, and returns how many it could bake.
    async fn bake(&self, loaves: u32) -> Result<u32, AnyError>;
}

/// The functions of a miller.
#[rpc_parallel::worker]
pub trait Mill {
    /// Grinds grain and returns the amount of flour, both in kilograms.
    async fn grind(&self, grain: u32) -> u32;
}

/// A baker, with the client of a miller that it has started.
struct Baker {
    miller: MillClient,
    logs: Forwarding,
}

#[derive(Default, WorkerState)]
struct Miller;

impl WorkerState for Baker {
    type Init = ();

    async fn init((): ()) -> Result<Self, BoxError> {
        // The worker keeps events, also those of `init`, for later readers.
        info!(degrees = 240, "heating the oven");
        let miller = Miller::spawner().name("miller").spawn(()).await?;
        // The miller's events become events of the baker, and so of the master.
        let logs = forward(&miller).await?;
        Ok(Self { miller, logs })
    }
}

#[rpc_parallel::worker]
impl Bakery for Baker {
    async fn bake(&self, loaves: u32) -> Result<u32, AnyError> {
        let flour = self.miller.grind(loaves).instrument(info_span!("ordering")).await?;
        // Events may arrive later than the answer. This waits for them.
        self.logs.flush().await;
        if flour < loaves {
            warn!(flour, "baking fewer loaves than ordered");
        }
        info!(loaves = flour, "baking");
        Ok(flour)
    }
}

#[rpc_parallel::worker]
impl Mill for Miller {
    async fn grind(&self, grain: u32) -> u32 {
        let flour = grain * 3 / 4;
        info!(grain, flour, "grinding");
        flour
    }
}

#[rpc_parallel::entry(worker_logs = true)]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stdout).init();
    let baker = Baker::spawner().name("baker").spawn(()).await?;

    // Makes the baker's events, also the earlier ones, events of this process.
    let forwarding = forward(&baker).await?;

    for customer in ["Ann", "Bob"] {
        let order = async {
            info!("ordering bread");
            baker.bake(4).await
        };
        order.instrument(info_span!("order", customer)).await?;
    }

    // Waits for events that have not arrived. They would be lost at the end of the program.
    forwarding.flush().await;

    // Any process with a client can also read the kept records.
    let mut logs = baker.logs().await?;
    while let Some(item) = logs.next().await {
        match item? {
            LogItem::Record(record) if record.message() == "baking" => {
                println!("\n{record}");
                break;
            }
            LogItem::Record(_) => {}
            lagged @ LogItem::Lagged(_) => println!("{lagged}"),
        }
    }
    Ok(())
}
