pub struct Number(pub i64);

#[rpc_parallel::process]
pub fn negate(number: Number) -> i64 {
    -number.0
}

fn main() {
    drop(negate::run(Number(1)));
}
