//! A library that crashes on some inputs ends only its worker. The worker is restarted, and the master
//! continues with the next input.

use rpc_parallel::error::CallErrorKind;
use rpc_parallel::prelude::*;

/// What the library can do for us.
#[rpc_parallel::worker]
pub trait Decode {
    /// Returns how many pixels a picture has.
    async fn pixels(&self, picture: &str) -> Result<u64, AnyError>;

    /// Returns how many pictures this process has decoded.
    async fn decoded(&self) -> u64;
}

#[derive(Default, WorkerState)]
struct Decoder {
    decoded: std::sync::atomic::AtomicU64,
}

#[rpc_parallel::worker]
impl Decode for Decoder {
    async fn pixels(&self, picture: &str) -> Result<u64, AnyError> {
        let pixels = native_pixels(picture)?;
        self.decoded.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok(pixels)
    }

    async fn decoded(&self) -> u64 {
        self.decoded.load(std::sync::atomic::Ordering::Relaxed)
    }
}

/// Does what native code does with a picture: mostly what it should.
fn native_pixels(picture: &str) -> Result<u64, AnyError> {
    let (width, height) = picture.split_once('x').ok_or_else(|| AnyError::new("no picture"))?;
    let (width, height): (u64, u64) = (width.parse()?, height.parse()?);
    let Some(pixels) = width.checked_mul(height) else {
        // No panic that could be caught: the process is gone.
        std::process::abort();
    };
    Ok(pixels)
}

#[rpc_parallel::entry]
async fn main() -> anyhow::Result<()> {
    // Any number of pictures may crash the decoder. A decoder that crashes without a picture, or does
    // not start, is given up. `RestartPolicy::on_failure()` is for services: it limits all failures.
    let restart = RestartPolicy::for_batch();
    let decoder = Decoder::spawner().name("decoder").restart(restart).spawn(()).await?;
    let first = decoder.label();

    let pictures =
        ["4x3", "16x9", "9999999999x9999999999", "3x2", "a poem", "8888888888x8888888888"];
    let mut lost = Vec::new();
    for picture in pictures {
        match decoder.pixels(picture).await {
            Ok(pixels) => println!("{picture}: {pixels} pixels"),
            // The call fails whose process has crashed. The next call waits for the new process.
            Err(FunctionError::Call(error))
                if matches!(error.kind(), CallErrorKind::WorkerDied(_)) =>
            {
                println!("{picture}: has crashed the decoder");
                lost.push(picture);
            }
            Err(error) => println!("{picture}: {error}"),
        }
    }

    assert_eq!(lost, ["9999999999x9999999999", "8888888888x8888888888"]);
    // What a process had in memory is gone with it.
    assert_eq!(decoder.decoded().await?, 0);
    assert_ne!(decoder.label(), first);
    Ok(())
}
