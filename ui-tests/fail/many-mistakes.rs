#[rpc_parallel::worker(colour = "red")]
pub trait Arithmetic {
    fn add(&mut self, a: i64, b: i64) -> i64;
    async fn join(&self, words: &[&str]) -> String;
    fn sum<T>(&self, xs: Vec<T>) -> T;
    fn close(&self);
}

pub async fn uses(client: ArithmeticClient) {
    let _ = client.add(1, 2).await;
    let _ = client.join(&["a"]).await;
    let _ = ArithmeticClient::CLOSE;
}

fn main() {}
