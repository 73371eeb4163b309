//! Derived worker states.

use rpc_parallel::WorkerState;

#[derive(Default, WorkerState)]
pub struct Unit;

#[derive(Default, WorkerState)]
pub struct Named {
    pub count: std::sync::Mutex<u64>,
}

#[derive(Default, WorkerState)]
pub struct Tuple(pub u8, pub u16);

#[derive(Default, WorkerState)]
pub enum Choice {
    #[default]
    One,
    Two,
}

#[derive(Default, WorkerState)]
pub struct Generic<T: Clone, const N: usize>(pub Option<T>)
where
    T: Copy;

fn is_state<S: WorkerState<Init = ()>>() {}

#[rpc_parallel::entry]
fn main() {
    is_state::<Unit>();
    is_state::<Named>();
    is_state::<Tuple>();
    is_state::<Choice>();
    is_state::<Generic<u8, 3>>();
}
