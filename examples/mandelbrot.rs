//! Tiles of an image, computed by all cores and written as a PNG file, with a progress bar.
//!
//! ```text
//! cargo run --release --example mandelbrot --features progress -- [FILE] [WIDTH]
//! ```

use std::fs::File;
use std::io::BufWriter;

use serde::{Deserialize, Serialize};

/// The number of rows of a tile.
const TILE_ROWS: u32 = 8;
const MOST_STEPS: u32 = 1_000;

/// Some rows of the image.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Tile {
    width: u32,
    height: u32,
    first_row: u32,
}

/// Returns the grey values of a tile. Tiles inside of the set take a hundred times longer.
#[rpc_parallel::process]
fn render(tile: Tile) -> Vec<u8> {
    let rows = tile.first_row..(tile.first_row + TILE_ROWS).min(tile.height);
    rows.flat_map(|y| (0..tile.width).map(move |x| grey(x, y, tile))).collect()
}

fn grey(x: u32, y: u32, tile: Tile) -> u8 {
    let real = f64::from(x) / f64::from(tile.width) * 3.0 - 2.2;
    let imaginary = f64::from(y) / f64::from(tile.height) * 2.4 - 1.2;
    let (mut a, mut b) = (0.0_f64, 0.0_f64);
    for step in 0..MOST_STEPS {
        if a * a + b * b > 4.0 {
            return (255.0 * (f64::from(step) / f64::from(MOST_STEPS)).powf(0.3)) as u8;
        }
        (a, b) = (a * a - b * b + real, 2.0 * a * b + imaginary);
    }
    0
}

#[rpc_parallel::entry]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let file = args.next().map_or_else(|| std::env::temp_dir().join("mandelbrot.png"), Into::into);
    let width: u32 = args.next().map_or(Ok(900), |it| it.parse())?;
    let height = width / 5 * 4;

    let tiles = (0..height).step_by(TILE_ROWS as usize).map(move |first_row| Tile {
        width,
        height,
        first_row,
    });
    let mut map = render::map(tiles).progress_bar();
    let monitor = map.monitor();

    let mut encoder = png::Encoder::new(BufWriter::new(File::create(&file)?), width, height);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    let mut image = writer.stream_writer()?;
    // The tiles come in order, so each can be written at once.
    while let Some(tile) = map.next().await {
        std::io::Write::write_all(&mut image, &tile?)?;
    }
    image.finish()?;

    println!("{width} x {height} pixels in {}", file.display());
    if let Some(verdict) = monitor.verdict() {
        println!("{verdict}");
    }
    Ok(())
}
