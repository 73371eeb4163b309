use std::rc::Rc;

#[rpc_parallel::entry]
async fn main() -> impl std::process::Termination {
    let code = Rc::new(0);
    std::future::ready(()).await;
    std::process::ExitCode::from(*code)
}
