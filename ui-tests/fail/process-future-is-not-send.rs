#[rpc_parallel::process]
async fn one() -> i64 {
    let one = std::rc::Rc::new(1);
    std::future::ready(()).await;
    *one
}

fn main() {
    drop(one::run());
}
