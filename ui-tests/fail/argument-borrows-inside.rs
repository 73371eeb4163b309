#[rpc_parallel::worker]
pub trait Arithmetic {
    async fn join(&self, words: &[&str]) -> String;
    fn first(&self, word: Option<&str>, words: Vec<&String>) -> String;
    fn cow(&self, word: std::borrow::Cow<'_, str>) -> String;
    fn pipe(&self, words: rpc_parallel::Pipe<&str>) -> String;
    fn pipe_of_cows(&self, words: rpc_parallel::Pipe<std::borrow::Cow<'_, str>>) -> String;
}

fn main() {}
