#[rpc_parallel::process]
fn length<'a>(text: &'a str) -> usize {
    text.len()
}

fn main() {
    println!("{}", length("a"));
}
