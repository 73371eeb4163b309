#[rpc_parallel::worker]
pub trait Arithmetic {
    fn longest<'a>(&self, a: &'a str, b: &'a str) -> &'a str;
}

fn main() {}
