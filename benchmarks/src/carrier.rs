//! Large arguments, and how they are timed.

use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::conversation::Conversation;

/// A conversation with a worker that takes bytes in the form of a `Cargo` and answers how many.
pub(crate) trait Carrier<Cargo>: Conversation {
    fn carry(&mut self, cargo: Cargo) -> impl Future<Output = anyhow::Result<u64>> + Send;
}

/// Times calls whose argument are so many bytes, one after the other.
pub(crate) async fn carried<C, Cargo>(bytes: usize, times: u32) -> anyhow::Result<Duration>
where
    C: Carrier<Cargo>,
    Cargo: From<Vec<u8>> + Clone,
{
    let mut carrier = C::start().await?;
    // Written to, so that its pages exist.
    let cargo = Cargo::from(vec![7; bytes]);
    let mut elapsed = Duration::ZERO;
    for round in 0..=times {
        // What a caller must give away is made before.
        let cargo = cargo.clone();
        let begin = Instant::now();
        let arrived = carrier.carry(cargo).await?;
        // The first one only warms up.
        if round > 0 {
            elapsed += begin.elapsed();
        }
        ensure!(arrived == bytes as u64, "{arrived} of {bytes} bytes arrived");
    }
    carrier.end().await?;
    Ok(elapsed)
}
