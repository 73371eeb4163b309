use std::fmt::Display;

#[rpc_parallel::worker]
pub trait Arithmetic {
    async fn show(&self, what: &dyn Display) -> String;
}

fn main() {}
