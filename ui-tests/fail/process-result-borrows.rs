#[rpc_parallel::process]
fn first(words: &[String]) -> &str {
    &words[0]
}

fn main() {
    println!("{}", first(&["a".to_owned()]));
}
