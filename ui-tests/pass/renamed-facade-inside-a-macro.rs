//! Traits that a `macro_rules!` writes.

extern crate rpc_parallel as rp;

macro_rules! worker {
    ($name:ident, $argument:ty, $function:ident -> $result:ty) => {
        #[rp::worker(crate = rp)]
        pub trait $name {
            async fn $function(&self, given: $argument, name: &str) -> $result;
        }
    };
}

worker!(Squares, Vec<u64>, square -> Result<Vec<u64>, String>);
worker!(Names, &[String], longest -> Option<String>);

pub fn calls(squares: &SquaresClient, names: &NamesClient) {
    drop(squares.square(vec![1, 2], "squares"));
    drop(names.longest(&[], "names"));
    let _ = (SquaresClient::SQUARE, NamesClient::LONGEST);
}

#[rp::entry(crate = rp)]
fn main() {}
