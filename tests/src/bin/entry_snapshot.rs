//! A program whose `#[entry]` takes a snapshot after a function: `entry_snapshot [fail]`.

use rpc_parallel::launch::{Snapshot, SnapshotError};
use rpc_parallel_tests::inspector::{Inspector, TABLE};

fn build() -> anyhow::Result<()> {
    anyhow::ensure!(std::env::args().nth(1).is_none(), "no table");
    TABLE.set(vec![5]).expect("it was not built before");
    Ok(())
}

#[rpc_parallel::entry(snapshot = build)]
async fn main() -> anyhow::Result<()> {
    if std::env::args().nth(1).is_some() {
        let failed = SnapshotError::Failed { why: "no table".to_owned() };
        assert_eq!(Snapshot::of_entry().err(), Some(failed));
        return Ok(());
    }
    use rpc_parallel::prelude::*;
    let inspector = Inspector::spawner().launcher(Snapshot::of_entry()?).spawn(()).await?;
    assert_eq!(inspector.table(0).await?, Some(5));
    Ok(())
}
