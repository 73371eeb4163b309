//! Reductions: the worker combines the results of a batch.

use super::fixture::{decode, encode, id_of, panic_message, request, start};
use crate::connection::AnyError;
use crate::worker::items::{MapRequest, Record};

#[rpc_parallel::test(crate = crate)]
async fn results_of_reduction_are_combined_per_batch() {
    let fixture = start().await;
    let combine = Some(id_of("add"));
    let mut session = fixture.map_with(&MapRequest { combine, ..request("double") });
    let numbers: Vec<u64> = (0..1000).collect();

    let (one, two) = (session.send(&numbers).await, session.send::<u64>(&[7]).await);
    session.read_finished(one).await;
    session.read_finished(two).await;

    let accumulators: Vec<_> = session.records.iter().filter(|it| is_results(&it.0)).collect();
    let record = |batch, to| Record::Results { batch, from: 0, to, len: 8 };
    let expected = [
        (record(one, 1000), encode(&[numbers.iter().sum::<u64>() * 2])),
        (record(two, 1), encode(&[14_u64])),
    ];
    assert_eq!(accumulators, expected.iter().collect::<Vec<_>>());
}

fn is_results(record: &Record) -> bool {
    matches!(record, Record::Results { .. })
}

#[rpc_parallel::test(crate = crate)]
async fn failures_interrupt_accumulator() {
    let fixture = start().await;
    let combine = Some(id_of("add_below_hundred"));
    let mut session = fixture.map_with(&MapRequest { combine, ..request("check") });

    // The sum of the third run is too large for its last item.
    let id = session.send::<u64>(&[1, 2, 10, 3, 4, 13, 51, 52, 5]).await;
    session.read_finished(id).await;

    let accumulators: Vec<_> = session
        .records
        .iter()
        .filter_map(|(record, bytes)| match *record {
            Record::Results { from, to, .. } => Some((from, to, decode::<u64>(bytes, 1)[0])),
            _ => None,
        })
        .collect();
    assert_eq!(accumulators, [(0, 2, 3), (3, 5, 7), (6, 7, 51), (8, 9, 5)]);
    let failures = session.failures::<AnyError>();
    assert_eq!(failures.iter().map(|it| it.0).collect::<Vec<_>>(), [2, 7]);
    assert_eq!(session.refusals().into_iter().map(panic_message).count(), 1);
}
