#[rpc_parallel::process]
fn text<T: ToString>(value: T) -> String {
    value.to_string()
}

fn main() {
    println!("{}", text(1));
}
