//! A progress bar of a map, on the terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::monitor::Monitor;
use super::progress::Progress;

/// The time between two steps of the spinner of a map whose length is not known.
const TICK: Duration = Duration::from_millis(100);

/// Draws the progress of a map until it has finished. Draws nothing if stderr is not a terminal.
pub(super) async fn draw(mut monitor: Monitor, function: &'static str) {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if bar.is_hidden() {
        return;
    }
    bar.set_style(without_length());
    bar.set_prefix(function);
    bar.enable_steady_tick(TICK);
    while let Some(progress) = monitor.next().await {
        show(&bar, progress);
    }
    show(&bar, monitor.progress());
    bar.finish();
}

fn show(bar: &ProgressBar, progress: Progress) {
    if let Some(total) = progress.total
        && bar.length() != Some(total)
    {
        bar.set_style(with_length());
        bar.set_length(total);
    }
    bar.set_position(progress.done + progress.failed);
    let mut message = String::new();
    if progress.failed > 0 {
        message = format!("{} failed", progress.failed);
    }
    if progress.deaths > 0 {
        message = format!("{message} {} workers died", progress.deaths);
    }
    bar.set_message(message);
}

fn with_length() -> ProgressStyle {
    style("{prefix} {wide_bar} {pos}/{len} {per_sec} {eta} {msg}")
}

fn without_length() -> ProgressStyle {
    style("{prefix} {spinner} {pos} {per_sec} {elapsed} {msg}")
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
