pub struct Number(pub i64);

#[rpc_parallel::process]
pub async fn negate(number: i64) -> Result<Number, String> {
    Ok(Number(-number))
}

fn main() {
    drop(negate::run(1));
}
