#[rpc_parallel::process]
fn print(value: impl std::fmt::Display) -> String {
    value.to_string()
}

fn main() {
    println!("{}", print(1));
}
