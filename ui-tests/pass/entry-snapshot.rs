fn load() -> Result<(), String> {
    Ok(())
}

#[rpc_parallel::entry(snapshot = load)]
fn main() {}
