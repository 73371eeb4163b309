struct Calculator;

#[rpc_parallel::worker]
impl Calculator {
    fn add(&self, a: i64, b: i64) -> i64 {
        a + b
    }
}

fn main() {
    Calculator.add(1, 2);
}
