//! Many open streams on one connection: what they hold, and what they cost the calls beside them.

use std::num::NonZeroUsize;

use crate::figure::{FLOOR, Figure, REMOC};
use crate::opener::Held;
use crate::role::Role;

pub(crate) const PIPES: usize = 10_000;
/// Memory hardly differs from round to round.
const AT_MOST: NonZeroUsize = NonZeroUsize::new(3).expect("3 is not 0");

pub(super) fn figures() -> Vec<Figure> {
    vec![
        held("stream.open_10000.master", |it| it.master).at_most(AT_MOST),
        held("stream.open_10000.worker", |it| it.worker).at_most(AT_MOST),
    ]
}

fn held(name: &'static str, end: fn(Held) -> f64) -> Figure {
    let each = move |role| Ok(end(Held::by(role)?) / PIPES as f64);
    Figure::new(name, "bytes")
        .contender(FLOOR, move || each(Role::ChannelsOpen))
        .contender(REMOC, move || each(Role::RemocOpen))
}
