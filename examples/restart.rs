//! A library that crashes on some inputs ends only its worker. The worker is restarted, and the
//! master continues with the next input.

use rpc_parallel::error::CallErrorKind;
use rpc_parallel::prelude::*;

/// The functions of a decoder of images.
#[rpc_parallel::worker]
pub trait Decode {
    /// Returns the number of pixels of an image.
    async fn pixels(&self, picture: &str) -> Result<u64, AnyError>;

    /// Returns how many images this process has decoded.
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

/// Stands for native code that crashes on some inputs.
fn native_pixels(picture: &str) -> Result<u64, AnyError> {
    let (width, height) = picture.split_once('x').ok_or_else(|| AnyError::new("not an image"))?;
    let (width, height): (u64, u64) = (width.parse()?, height.parse()?);
    let Some(pixels) = width.checked_mul(height) else {
        // An abort cannot be caught: the process ends.
        std::process::abort();
    };
    Ok(pixels)
}

#[rpc_parallel::entry]
async fn main() -> anyhow::Result<()> {
    // Any number of images may crash the decoder. The limit counts only crashes before the first
    // call and failed starts. `on_failure()` is the preset for services: its limit counts all
    // failures.
    let restart = RestartPolicy::for_batch();
    let decoder = Decoder::spawner().name("decoder").restart(restart).spawn(()).await?;
    let first = decoder.label();

    let pictures =
        ["4x3", "16x9", "9999999999x9999999999", "3x2", "a poem", "8888888888x8888888888"];
    let mut lost = Vec::new();
    for picture in pictures {
        match decoder.pixels(picture).await {
            Ok(pixels) => println!("{picture}: {pixels} pixels"),
            // The call in flight fails. The next call waits for the new process.
            Err(FunctionError::Call(error))
                if matches!(error.kind(), CallErrorKind::WorkerDied(_)) =>
            {
                println!("{picture}: crashed the decoder");
                lost.push(picture);
            }
            Err(error) => println!("{picture}: {error}"),
        }
    }

    assert_eq!(lost, ["9999999999x9999999999", "8888888888x8888888888"]);
    // The new process begins without the memory of the old one.
    assert_eq!(decoder.decoded().await?, 0);
    assert_ne!(decoder.label(), first);
    Ok(())
}
