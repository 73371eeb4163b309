use rpc_parallel::WorkerState;

#[rpc_parallel::worker]
pub trait Arithmetic {
    async fn one(&self) -> i64;
}

#[derive(Default, WorkerState)]
pub struct Calculator;

#[rpc_parallel::worker]
impl Arithmetic for Calculator {
    async fn one(&self) -> i64 {
        let one = std::rc::Rc::new(1);
        std::future::ready(()).await;
        *one
    }
}

fn main() {}
