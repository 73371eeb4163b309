#[rpc_parallel::process]
fn length(text: str) -> usize {
    text.len()
}

fn main() {}
