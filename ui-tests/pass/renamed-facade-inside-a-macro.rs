//! Worker traits that `macro_rules!` declares.

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
worker!(Sums, rp::Pipe<u64>, sum -> rp::Pipe<u64>);

pub fn calls(squares: &SquaresClient, names: &NamesClient, sums: &SumsClient) {
    drop(squares.square(vec![1, 2], "squares"));
    drop(names.longest(&[], "names"));
    drop(sums.sum(rp::Pipe::from_items([1, 2]), "sums"));
    let _ = (SquaresClient::SQUARE, NamesClient::LONGEST);
}

#[rp::entry(crate = rp)]
fn main() {}
