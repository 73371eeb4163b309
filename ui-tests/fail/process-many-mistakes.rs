#[rpc_parallel::process(name = "add")]
unsafe fn add<T>(a: &mut i64, b: &dyn Send) -> impl Send {
    let _ = (a, b);
}

fn main() {}
