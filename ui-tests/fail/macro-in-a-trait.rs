macro_rules! more {
    () => {
        fn two(&self) -> i64;
    };
}

#[rpc_parallel::worker]
pub trait Arithmetic {
    fn one(&self) -> i64;
    more!();
}

fn main() {}
