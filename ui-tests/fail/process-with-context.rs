use rpc_parallel::Context;

#[rpc_parallel::process]
fn label(cx: &Context) -> String {
    format!("{cx:?}")
}

fn main() {
    let _ = label;
}
