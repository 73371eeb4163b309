use rpc_parallel::{Spawn, WorkerState};

#[rpc_parallel::worker]
pub trait Arithmetic {
    fn one(&self) -> i64;
}

#[derive(Default, WorkerState)]
pub struct Calculator<T>(T);

#[rpc_parallel::worker]
impl<T: Send + Sync + Default + 'static> Arithmetic for Calculator<T> {
    fn one(&self) -> i64 {
        1
    }
}

pub fn start() {
    let _ = Calculator::<u8>::spawn(());
}

fn main() {}
